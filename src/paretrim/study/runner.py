"""Running a study: every arm with every seed, each outcome one line, killed and resumed at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from paretrim.bench.effort import STANDARD, Effort
from paretrim.data.load import load
from paretrim.data.split import validation_indices
from paretrim.data.types import Dataset
from paretrim.deploy.runnable import ELSEWHERE, NATIVE, OF_ONNX_FILES
from paretrim.judge import Deployed, deploy, facts_of, judge, outcome_of, seen_before, with_latencies
from paretrim.outcome import Outcome
from paretrim.pipeline import run_stages, train_dense
from paretrim.recipe import Recipe
from paretrim.run_folder import ONNX_FILE
from paretrim.start import captured, start_from
from paretrim.study.grid import DENSE, Grid
from paretrim.study.store import append, latest, read
from paretrim.timing import Setting, left_out, time_files
from paretrim.train.fit import Report

SETTINGS = (Setting(NATIVE, 1), Setting("onnxruntime", 1), Setting("openvino", 1))
"""Runtimes and threads in which a study is timed."""

OUTCOMES = "outcomes.jsonl"

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """Say nothing."""


def run_study(
    grid: Grid, folder: Path, results: Path, *, report: Report | None = None, say: Say = _silent
) -> tuple[Outcome, ...]:
    """Train, deploy and judge whatever is missing; the outcomes so far, without new timings.

    Args:
        grid: the study.
        folder: where candidates, checkpoints and deployed files are kept. Arms that begin with the same stages share them.
        results: folder of the study's lines, ``outcomes.jsonl``.
        report: told of progress while training.
        say: told in words what comes next.
    """
    store = results / OUTCOMES
    dataset = load(grid.base.data)
    for seed in grid.seeds:
        for label, stages in grid.arms:
            recipe = grid.recipe(stages, label, seed)
            if _find(_stored(store), recipe) is None:
                say(f"{grid.name}: seed {seed}, {label}")
                append(store, _run(grid, recipe, dataset, folder, report=report, say=say))
    outcomes = _stored(store)
    for warning in dict.fromkeys(_seen_before(grid, outcomes, len(validation_indices(dataset, grid.base.data)))):
        say(warning)
    return outcomes


def time_study(
    grid: Grid,
    folder: Path,
    results: Path,
    *,
    effort: Effort = STANDARD,
    settings: Sequence[Setting] = SETTINGS,
    say: Say = _silent,
) -> tuple[Outcome, ...]:
    """Time the files of every seed, all arms of a seed interleaved, and add their latencies to the lines.

    To be run when nothing else runs. Seeds that have been timed in these settings are left alone, and so are arms in the store
    that the study does not list.
    """
    store = results / OUTCOMES
    labels = {label for label, _ in grid.arms}
    images = load(grid.base.data).test.images.numpy()
    for seed in grid.seeds:
        outcomes = {o.label: o for o in _stored(store) if o.seed == seed and o.label in labels}
        integer = any(map(_integer, outcomes.values()))
        if set(outcomes) != labels or all(_wanted(o, settings, integer=integer) <= _timed(o) for o in outcomes.values()):
            continue
        say(f"{grid.name}: timing seed {seed}")
        files = {label: deployed_folder(folder, outcome.recipe, seed) / ONNX_FILE for label, outcome in outcomes.items()}
        problems = {label: outcome.onnx_problems or {} for label, outcome in outcomes.items()}
        for setting in settings:
            for note in left_out(files, setting, problems):
                say(note)
        found = time_files(
            files,
            images,
            baseline=DENSE,
            settings=settings,
            effort=effort,
            folder=folder / "timings" / str(seed),
            problems=problems,
        )
        for label, outcome in outcomes.items():
            append(store, with_latencies(outcome, found[label]))
    return _stored(store)


def deployed_folder(folder: Path, digest: str, seed: int) -> Path:
    """Where the deployed files of a recipe are."""
    return folder / "deployed" / f"{digest}-{seed}"


def _run(grid: Grid, recipe: Recipe, dataset: Dataset, folder: Path, *, report: Report | None, say: Say) -> Outcome:
    start, test = start_from(recipe, dataset)
    start = train_dense(start, recipe.dense, folder, report=report)
    teacher = None if recipe.teacher is None else captured(recipe.teacher, dataset, seed=recipe.seed)
    candidate = run_stages(start, recipe.stages, folder, teacher=teacher, report=report)[-1]
    place = deployed_folder(folder, recipe.digest, recipe.seed)
    deployed: Deployed = deploy(candidate, start, place, recipe=recipe.digest)
    if deployed.onnx_problem:
        say(f"{recipe.title}: its .trim file is delivered and no ONNX file: {deployed.onnx_problem}")
    judgement = judge(candidate, deployed, test, start)
    return outcome_of(candidate, deployed, judgement, facts=facts_of(recipe, grid.name))


def _seen_before(grid: Grid, outcomes: Sequence[Outcome], validation_images: int) -> Iterator[str]:
    """The warnings of :func:`paretrim.judge.seen_before` about the dense networks, whose accuracy every first stage has noted."""
    for seed in grid.seeds:
        here = [_find(outcomes, grid.recipe(stages, label, seed)) for label, stages in grid.arms]
        dense = next((one for one in here if one and not one.history), None)
        first = next((one.history[0] for one in here if one and one.history), None)
        if dense and first:
            warning = seen_before(first.accuracy_before, validation_images, dense.trained_accuracy, dense.test_images)
            if warning:
                yield warning


def _stored(store: Path) -> tuple[Outcome, ...]:
    return latest(read(store)) if store.exists() else ()


def _find(outcomes: Sequence[Outcome], recipe: Recipe) -> Outcome | None:
    return next((o for o in outcomes if o.recipe == recipe.digest and o.seed == recipe.seed), None)


def _wanted(outcome: Outcome, settings: Sequence[Setting], *, integer: bool) -> set[tuple[str, int]]:
    """Runtimes and threads of the sessions that can time a network; ``integer``: whether its seed has an integer network.

    A session about the native runtime needs one. An integer network needs no ONNX file there; all others need one that runs, and
    everywhere else.
    """
    able = set() if outcome.file is None else {*OF_ONNX_FILES} - {*(outcome.onnx_problems or {})}
    if integer and (_integer(outcome) or ELSEWHERE in able):
        able.add(NATIVE)
    return {(setting.runtime, setting.threads) for setting in settings if setting.runtime in able}


def _integer(outcome: Outcome) -> bool:
    return any(layer.dtype == "int8" for layer in outcome.layers)


def _timed(outcome: Outcome) -> set[tuple[str, int]]:
    return {(latency.in_place_of or latency.runtime, latency.threads) for latency in outcome.latencies}
