"""From candidates to what is delivered: files, judgements, latencies, outcomes and the report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from paretrim.bench.effort import Effort
from paretrim.bench.machine import describe, versions
from paretrim.bench.protocol import digest
from paretrim.bench.raw import load_session
from paretrim.bench.types import Arm, Latency, Session
from paretrim.data.batches import EvalBatches
from paretrim.deploy.runnable import ELSEWHERE, NATIVE
from paretrim.deploy.saturation import SATURATES, may_saturate
from paretrim.errors import CorruptFile, located
from paretrim.files import read_json, write_atomically
from paretrim.history import under_todays_names
from paretrim.metric import Metric
from paretrim.report import page
from paretrim.results import store
from paretrim.results.outcome import Choice, Origin, Outcome
from paretrim.results.run_folder import (
    INSIDE,
    ONNX_FILE,
    REPORT,
    STORE,
    TIMINGS,
    changes_in,
    distributions,
    keep_choice,
    keep_commands,
    keep_index,
    sensitivity_in,
)
from paretrim.results.timing import NO_PROBLEMS, Problems, RuntimeSetting, arms_of, latencies_of, left_out, time_files
from paretrim.run.candidate import Candidate
from paretrim.run.changes import TestLogits
from paretrim.run.judge import DeployedFiles, Judgement, deploy, judge, origin_of, outcome_of, seen_before
from paretrim.run.pipeline import deployment_key
from paretrim.run.progress import Watcher
from paretrim.run.recipe import Recipe
from paretrim.run.start import Start, TestSet
from paretrim.run.teachers import Teaching
from paretrim.train.task import CLASSIFICATION

TIMED_IMAGES = 512
"""Distinct test images that are timed; more would only fill the disk of every measuring process."""


@dataclass(frozen=True)
class TimingPlan:
    """In which runtimes, with how many threads and how thoroughly latency is measured."""

    settings: tuple[RuntimeSetting, ...]
    effort: Effort


@dataclass(frozen=True, eq=False)
class Experiment:
    """An opened recipe: its data in memory and its network built.

    No stage has run yet; :func:`paretrim.run.run.with_dense` trains the dense network and the teachers.
    """

    recipe: Recipe
    start: Start
    test: TestSet
    teacher: Teaching


@dataclass(frozen=True, eq=False)
class Entry:
    """One candidate to deliver. ``recipe`` is exactly what made it: for a longer recipe, only the stages so far."""

    label: str
    recipe: Recipe
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Delivery:
    """The results, in the order of the entries: the files, their judgement on test images, and one outcome each."""

    deployed: tuple[DeployedFiles, ...]
    judgements: tuple[Judgement, ...]
    outcomes: tuple[Outcome, ...]


def deliver(
    entries: Sequence[Entry],
    experiment: Experiment,
    folder: Path,
    *,
    measuring: TimingPlan | None,
    watcher: Watcher,
    reproduce: Sequence[str],
) -> Delivery:
    """Write every candidate's files, judge and time them together, store the outcomes and write the report.

    The first entry is the baseline of all latencies. Files, judgements, timings and lines that exist already are kept.
    """
    deployed = [ship(entry, experiment, folder) for entry in entries]
    onnx_runtime = judging_runtime(measuring)
    judgements = []
    logits = TestLogits(experiment.test, deployed[0]) if experiment.start.task == CLASSIFICATION else None
    for entry, files in zip(entries, deployed, strict=True):
        judgements.append(judged(entry, files, experiment, onnx_runtime=onnx_runtime, logits=logits))
        if logits is not None:
            logits.keep_change(files)
        watcher.note(_worth(entry.label, files, judgements[-1], experiment.start.task.metric))
        for problem in problems_of(entry.label, files, judgements[-1]):
            watcher.note(problem)
    if warning := _seen_before(entries, experiment, judgements[0]):
        watcher.note(warning)
    files_by_label = {entry.label: files.folder / ONNX_FILE for entry, files in zip(entries, deployed, strict=True)}
    latencies: Mapping[str, tuple[Latency, ...]] = {}
    if measuring:
        problems = {entry.label: judgement.onnx_problems or {} for entry, judgement in zip(entries, judgements, strict=True)}
        latencies = timed(files_by_label, experiment.test, measuring, folder / TIMINGS, watcher=watcher, problems=problems)
    outcomes = tuple(
        _stored(
            outcome_of(
                entry.candidate, files, judgement, origin=_origin(entry, folder), latencies=latencies.get(entry.label, ())
            ),
            folder / STORE,
        )
        for entry, files, judgement in zip(entries, deployed, judgements, strict=True)
    )
    places = [files.folder.relative_to(folder) for files in deployed]
    index: list[dict[str, str | int]] = [
        {"label": outcome.label, "recipe": outcome.recipe, "seed": outcome.seed, "folder": place.as_posix()}
        for outcome, place in zip(outcomes, places, strict=True)
    ]
    keep_index(folder, index)
    (folder / INSIDE).unlink(missing_ok=True)
    keep_commands(folder, reproduce)
    write_page(outcomes, folder, reproduce=reproduce, choice=None)
    return Delivery(tuple(deployed), tuple(judgements), outcomes)


def _seen_before(entries: Sequence[Entry], experiment: Experiment, dense: Judgement) -> str:
    """The warning of :func:`paretrim.run.judge.seen_before` about the dense network, whose value the first stage notes."""
    noted = [entry.candidate.history[0].value_before for entry in entries if entry.candidate.history]
    validation = experiment.start.validation
    if not noted or not isinstance(validation, EvalBatches) or experiment.start.guessed_among is None:
        return ""
    return seen_before(noted[0], len(validation.images), dense.trained_value, dense.test_images)


def write_page(outcomes: Sequence[Outcome], folder: Path, *, reproduce: Sequence[str], choice: Choice | None) -> None:
    """Write the report into the run folder, and keep what was chosen, if anything was."""
    keep_choice(folder, choice)
    text = page.render(
        outcomes,
        distributions=distributions(folder),
        reproduce=reproduce,
        choice=choice,
        scans=sensitivity_in(folder),
        changes=changes_in(folder),
        inside=INSIDE if (folder / INSIDE).is_file() else "",
    )
    page.write(text, folder / REPORT)


def ship(entry: Entry, experiment: Experiment, folder: Path) -> DeployedFiles:
    """The deployed files of one candidate, in a folder named by a digest of everything that decides them.

    Raises:
        ParetrimError: the network cannot be exported, or its ``.trim`` file does not compute what its graph defines.
    """
    key = deployment_key(experiment.start, entry.recipe.stages, teacher=entry.recipe.teacher, teachers=entry.recipe.teachers)
    with located(f"deploying '{entry.label}'"):
        return deploy(entry.candidate, experiment.start, folder / "deployed" / key, recipe=entry.recipe.digest)


def timed(
    files: Mapping[str, Path],
    test: TestSet,
    measuring: TimingPlan,
    folder: Path,
    *,
    watcher: Watcher,
    problems: Problems = NO_PROBLEMS,
) -> dict[str, tuple[Latency, ...]]:
    """Latencies of every file in every setting that can run it, the first file being the baseline.

    ``files`` are the paths of ONNX files by name, ``problems`` say which do not run
    (:func:`paretrim.results.timing.arms_of`). A session of exactly these files in ``folder``, measured as thoroughly, is not
    measured again.
    """
    found: dict[str, tuple[Latency, ...]] = dict.fromkeys(files, ())
    baseline = next(iter(files))
    for setting in measuring.settings:
        arms = arms_of(files, setting, problems)
        for note in left_out(files, setting, problems):
            watcher.note(note)
        kept = _kept_session(folder / f"{setting.runtime}-{setting.threads}.npz", arms, measuring.effort)
        fresh: dict[str, tuple[Latency, ...]]
        if kept:
            fresh = {name: (latency,) for name, latency in latencies_of(kept, setting).items()}
        else:
            if arms:
                threads = f"{setting.threads} thread{'s' * (setting.threads > 1)}"
                watcher.note(f"timing {len(arms)} files in {setting.runtime} with {threads}")
            images = test.images[:TIMED_IMAGES]
            fresh = time_files(
                files,
                images,
                baseline=baseline,
                settings=[setting],
                effort=measuring.effort,
                folder=folder,
                problems=problems,
            )
        found = {name: (*latencies, *fresh.get(name, ())) for name, latencies in found.items()}
    return found


def _origin(entry: Entry, folder: Path) -> Origin:
    return origin_of(replace(entry.recipe, label=entry.label), folder.resolve().name)


def problems_of(label: str, files: DeployedFiles, judgement: Judgement) -> tuple[str, ...]:
    """In words, what is wrong with the ONNX file of a candidate, found now or by an earlier run."""
    missing = (f"{label}: its .trim file is delivered and no ONNX file: {files.onnx_problem}",) if files.onnx_problem else ()
    problems = (judgement.onnx_problems or {}).items()
    failing = (f"{label}: the ONNX file does not run in {runtime}: {problem}" for runtime, problem in problems)
    saturates = files.onnx is not None and may_saturate(files.graph, describe())
    return (*failing, *missing, *((f"{label}: {SATURATES}",) if saturates else ()))


def judging_runtime(measuring: TimingPlan | None) -> str:
    """The runtime in which ONNX files are judged: the first that is measured and opens them."""
    runtimes = [setting.runtime for setting in measuring.settings] if measuring else []
    return next((name for name in runtimes if name != NATIVE), ELSEWHERE)


def judged(
    entry: Entry,
    files: DeployedFiles,
    experiment: Experiment,
    *,
    onnx_runtime: str = ELSEWHERE,
    logits: TestLogits | None = None,
) -> Judgement:
    """The judgement kept beside the files, or a new one that is then kept.

    ``logits`` runs the files of classifiers, since their logits are needed elsewhere too.

    A judgement that says where the ONNX file does not run is valid only for the same package versions: others may run it.

    Raises:
        ParetrimError: the ``.trim`` file cannot be run.
    """
    kept = files.folder / f"judgement-{onnx_runtime}.json"
    sha256 = "".join(digest(file) for file in (files.onnx, files.trim) if file is not None)
    try:
        facts = cast(dict[str, Any], read_json(kept))
        same_files, found_with = facts.pop("sha256") == sha256, facts.pop("versions", None)
        judgement = Judgement(**under_todays_names(facts, Judgement))
        if same_files and (not judgement.onnx_problems or found_with == versions()):
            return judgement
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none yet, or from other software: judging again only costs time
    with located(f"judging '{entry.label}'"):
        known = None if logits is None else logits.of(files)
        judgement = judge(entry.candidate, files, experiment.test, experiment.start, onnx_runtime=onnx_runtime, logits=known)
    write_atomically(kept, json.dumps(dataclasses.asdict(judgement) | {"sha256": sha256, "versions": versions()}).encode())
    return judgement


def _kept_session(path: Path, arms: Sequence[Arm], effort: Effort) -> Session | None:
    if not path.exists():
        return None
    try:
        session = load_session(path)
    except CorruptFile:
        return None  # measured again and replaced
    measured = [(timing.arm.name, timing.sha256) for timing in session.timings]
    wanted = [(arm.name, digest(Path(arm.path))) for arm in arms]
    return session if session.effort == effort and measured == wanted else None


def _stored(outcome: Outcome, path: Path) -> Outcome:
    """The outcome as stored; appended unless the newest line of the same run already says the same."""
    known = store.latest(store.read(path)) if path.exists() else ()
    same = next((o for o in known if (o.study, o.recipe, o.seed) == (outcome.study, outcome.recipe, outcome.seed)), None)
    if same is not None:
        # If nothing is timed now, earlier times of the same file stay valid.
        unchanged = _essence(same) == _essence(outcome) and (not outcome.latencies or same.latencies == outcome.latencies)
        if unchanged:
            return same
    store.append(path, outcome)
    return store.decode(store.encode(outcome))  # as later readers see it


def _essence(outcome: Outcome) -> tuple[object, ...]:
    scores = (outcome.trained_value, outcome.deployed_value, outcome.agreement, outcome.runtime, outcome.onnx_value)
    problems = dict(outcome.onnx_problems or {})
    return (outcome.label, outcome.file_bytes, outcome.trim_bytes, outcome.layers, problems, *scores)


def _worth(label: str, files: DeployedFiles, judgement: Judgement, metric: Metric) -> str:
    size = files.trim.stat().st_size
    deployed, trained = metric.text(judgement.deployed_value), metric.text(judgement.trained_value)
    return f"{label}: {size:,} bytes, test {metric.name} {deployed} (training framework {trained})"
