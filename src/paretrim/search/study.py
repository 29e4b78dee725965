"""Running a study: every arm with every seed, one line per outcome; it may be killed and resumed at any time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from paretrim import trimfile
from paretrim.bench.effort import STANDARD, Effort
from paretrim.data.load import load
from paretrim.data.split import validation_indices
from paretrim.data.types import Dataset
from paretrim.deploy.runnable import NATIVE, OF_ONNX_FILES
from paretrim.results.outcome import Outcome
from paretrim.results.run_folder import ONNX_FILE, TRIM_FILE
from paretrim.results.store import append, latest, read
from paretrim.results.timing import RuntimeSetting
from paretrim.run.delivery import TimingPlan, saturating, saturation_notes, timed
from paretrim.run.drop import seen_before
from paretrim.run.judge import DeployedFiles, with_latencies
from paretrim.run.likeness import TeacherComparison, check_comparison, compared_teacher
from paretrim.run.progress import Watcher, silent
from paretrim.run.recipe import Recipe
from paretrim.run.records import Records, indexed, mend
from paretrim.run.run import after_all_stages, carry_out, open_with, read_data, with_dense
from paretrim.search.study_spec import StudySpec
from paretrim.train.task import CLASSIFICATION

SETTINGS = (RuntimeSetting(NATIVE, 1), RuntimeSetting("onnxruntime", 1), RuntimeSetting("openvino", 1))
"""Runtimes and threads with which a study is timed."""

OUTCOMES = "outcomes.jsonl"


def run_study(spec: StudySpec, folder: Path, results: Path, *, watcher: Watcher | None = None) -> tuple[Outcome, ...]:
    """Train, deploy and judge what is missing; the outcomes so far, without new timings.

    Args:
        spec: the study.
        folder: where candidates, checkpoints and deployed files are kept. Arms that begin with the same stages share them.
        results: folder of the study's lines, ``outcomes.jsonl``.
        watcher: shows progress; None for none.
    """
    watcher = watcher or silent()
    store = results / OUTCOMES
    mend(store)
    dataset = read_data(spec.base.data, watcher)
    may_saturate: list[str] = []
    for seed in spec.seeds:
        for label, stages in spec.arms:
            recipe = spec.recipe(stages, label, seed)
            if _find(_stored(store), recipe) is None:
                watcher.note(f"{spec.name}: seed {seed}, {label}")
                experiment = open_with(recipe, dataset)
                if spec.compare is not None:
                    check_comparison(spec.compare, experiment)
                made = carry_out(
                    experiment,
                    folder,
                    after_all_stages(stages, label),
                    records=Records(store, spec.name, shared=True),
                    watcher=watcher,
                )
                may_saturate += saturating(made.entries, made.deployed)
        _compare_seed(spec, seed, dataset=dataset, folder=folder, store=store, watcher=watcher)
    for note in saturation_notes(may_saturate):
        watcher.note(note)
    outcomes = _stored(store)
    validation_images = len(validation_indices(dataset, spec.base.data))
    if spec.base.task == CLASSIFICATION.name:
        for warning in dict.fromkeys(_warnings(spec, outcomes, validation_images)):
            watcher.note(warning)
    return outcomes


def _compare_seed(spec: StudySpec, seed: int, *, dataset: Dataset, folder: Path, store: Path, watcher: Watcher) -> None:
    """Compare the networks of a seed with the teacher, those that have not been, and add what is found to their lines."""
    asked, teacher = spec.compare, None
    if asked is None:
        return
    for label, stages in spec.arms:
        recipe = spec.recipe(stages, label, seed)
        outcome = _find(_stored(store), recipe)
        if outcome is None or _is_compared(outcome, asked):
            continue
        trim = _files_of(outcome, folder) / TRIM_FILE
        if not trim.exists():
            watcher.note(
                f"{label}, seed {seed}: not compared with the teacher, since its file is not in '{folder}'; delete its line in "
                f"'{store}' to have it trained again"
            )
            continue
        if teacher is None:
            ready = with_dense(open_with(recipe, dataset), folder, watcher)
            assert ready.test is not None, "a recipe has test images"
            teacher = compared_teacher(asked, ready, ready.test, folder)
        watcher.note(f"{label}, seed {seed}: compared with the teacher '{asked.teacher}'")
        append(store, replace(outcome, likeness=teacher.likeness(DeployedFiles(trimfile.read(trim), None, trim))))


def _is_compared(outcome: Outcome, asked: TeacherComparison) -> bool:
    known = outcome.likeness
    return known is not None and (known.teacher, tuple(known.grad_cam_at)) == (asked.teacher, asked.places)


def time_study(
    spec: StudySpec,
    folder: Path,
    results: Path,
    *,
    effort: Effort = STANDARD,
    settings: Sequence[RuntimeSetting] = SETTINGS,
    watcher: Watcher | None = None,
) -> tuple[Outcome, ...]:
    """Time the files of every seed, all arms of a seed interleaved, and add their latencies to the lines.

    Run it when nothing else runs. Seeds that have been timed in these settings are skipped, and so are arms in the store that
    the study does not list.
    """
    watcher = watcher or silent()
    store = results / OUTCOMES
    mend(store)
    labels = {label for label, _ in spec.arms}
    images = load(spec.base.data).test.images.numpy()
    for seed in spec.seeds:
        outcomes = {o.label: o for o in _stored(store) if o.seed == seed and o.label in labels}
        if set(outcomes) != labels or all(_wanted(o, settings) <= _timed(o) for o in outcomes.values()):
            continue
        watcher.note(f"{spec.name}: timing seed {seed}")
        # In the order of the arms: the baseline is the first.
        files = {label: _files_of(outcomes[label], folder) / ONNX_FILE for label, _ in spec.arms}
        problems = {label: outcome.onnx_problems or {} for label, outcome in outcomes.items()}
        place = folder / "timings" / str(seed)
        found = timed(files, images, TimingPlan(tuple(settings), effort), place, watcher=watcher, problems=problems)
        for label, outcome in outcomes.items():
            append(store, with_latencies(outcome, found[label]))
    return _stored(store)


def _files_of(outcome: Outcome, folder: Path) -> Path:
    """Where the deployed files of an outcome are."""
    for entry in indexed(folder):
        if (entry["recipe"], entry["seed"]) == (outcome.recipe, outcome.seed):
            return folder / str(entry["folder"])
    return folder / "deployed" / f"{outcome.recipe}-{outcome.seed}"  # as earlier versions named it


def _warnings(spec: StudySpec, outcomes: Sequence[Outcome], validation_images: int) -> Iterator[str]:
    """The warnings of :func:`paretrim.run.judge.seen_before` about the dense network of every seed."""
    for seed in spec.seeds:
        here = (_find(outcomes, spec.recipe(stages, label, seed)) for label, stages in spec.arms)
        yield from seen_before(((one.history, one) for one in here if one), validation_images)


def _stored(store: Path) -> tuple[Outcome, ...]:
    return latest(read(store)) if store.exists() else ()


def _find(outcomes: Sequence[Outcome], recipe: Recipe) -> Outcome | None:
    return next((o for o in outcomes if o.recipe == recipe.digest and o.seed == recipe.seed), None)


def _wanted(outcome: Outcome, settings: Sequence[RuntimeSetting]) -> set[tuple[str, int]]:
    """Runtimes and threads of the sessions that can time a network: all but the native one need an ONNX file that runs."""
    able = set() if outcome.file is None else {*OF_ONNX_FILES} - {*(outcome.onnx_problems or {})}
    able.add(NATIVE)
    return {(setting.runtime, setting.threads) for setting in settings if setting.runtime in able}


def _timed(outcome: Outcome) -> set[tuple[str, int]]:
    return {(latency.in_place_of or latency.runtime, latency.threads) for latency in outcome.latencies}
