"""From candidates to what is delivered: files, judgements, latencies and outcomes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from paretrim.bench.effort import Effort
from paretrim.bench.machine import describe, versions
from paretrim.bench.protocol import digest
from paretrim.bench.raw import load_session
from paretrim.bench.types import Deployment, Latency
from paretrim.data.batches import EvalBatches
from paretrim.deploy.runnable import ELSEWHERE, NATIVE
from paretrim.deploy.saturation import SATURATES, may_saturate
from paretrim.errors import CorruptFile, UnstableMachine, located
from paretrim.files import DAMAGE, read_json, write_atomically
from paretrim.graph.windows import Values
from paretrim.metric import Metric
from paretrim.plain_settings import plain_settings
from paretrim.results.outcome import Outcome
from paretrim.results.run_folder import ONNX_FILE, TIMINGS
from paretrim.results.timing import NO_PROBLEMS, Problems, RuntimeSetting, deployments_of, latencies_of, left_out, time_files
from paretrim.run.candidate import Candidate
from paretrim.run.changes import TestLogits
from paretrim.run.drop import seen_before
from paretrim.run.judge import DeployedFiles, Judgement, deploy, judge, origin_of, outcome_of
from paretrim.run.pipeline import deployed_key
from paretrim.run.progress import Watcher
from paretrim.run.recipe import Recipe
from paretrim.run.records import Records, keep_outcomes
from paretrim.run.start import Start, TestSet
from paretrim.run.teachers import Teaching
from paretrim.stages.stage import Stage
from paretrim.stored_fields import under_todays_names
from paretrim.train.budget import Budget
from paretrim.train.task import CLASSIFICATION

TIMED_IMAGES = 512
"""Distinct test images that are timed; more would only fill the disk of every measuring process."""


@plain_settings()
class TimingPlan:
    """In which runtimes, with how many threads and how thoroughly latency is measured."""

    settings: tuple[RuntimeSetting, ...]
    effort: Effort


@dataclass(frozen=True, eq=False)
class Experiment:
    """What a run begins with: its data in memory and its network built.

    ``recipe`` is what it was opened from, and ``test`` holds the test images of its data. A user's own module and loaders have
    neither: their candidates are deployed and not judged. No stage has run yet; :func:`paretrim.run.run.with_dense` trains
    the dense network and the teachers.
    """

    start: Start
    teacher: Teaching = None
    recipe: Recipe | None = None
    test: TestSet | None = None

    @property
    def dense(self) -> Budget | None:
        """The budget for training the network before all stages; None if it is used as it is."""
        return None if self.recipe is None else self.recipe.dense


@dataclass(frozen=True, eq=False)
class Entry:
    """One candidate to deliver, and exactly the stages that made it. ``label`` is what tables call it."""

    label: str
    stages: tuple[Stage, ...]
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Delivery:
    """The results, in the order of the entries: the files, their judgement on test images, and one outcome each.

    ``experiment`` is that of the run, with its dense network trained. Without test images nothing is judged, and there are no
    outcomes.
    """

    experiment: Experiment
    entries: tuple[Entry, ...]
    deployed: tuple[DeployedFiles, ...]
    judgements: tuple[Judgement, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


def deliver(
    entries: Sequence[Entry],
    experiment: Experiment,
    folder: Path,
    *,
    records: Records | None,
    measuring: TimingPlan | None,
    watcher: Watcher,
) -> Delivery:
    """Write every candidate's files, judge and time them together, and store the outcomes.

    The first entry is the baseline of all latencies. Files, judgements, timings and lines that exist already are kept. Without
    test images, or without ``records``, the files are all there is.
    """
    deployed = tuple(ship(entry, experiment, folder) for entry in entries)
    if records is None or not records.shared:  # a study says it once, for all of its arms
        _note_all(saturation_notes(saturating(entries, deployed)), watcher)
    recipe, test = experiment.recipe, experiment.test
    if recipe is None or test is None or records is None:
        for entry, files in zip(entries, deployed, strict=True):
            _note_all(problems_of(entry.label, files), watcher)
        return Delivery(experiment, tuple(entries), deployed)
    judgements = _judged_alike(entries, deployed, test, experiment.start, runtime=judging_runtime(measuring), watcher=watcher)
    latencies: Mapping[str, tuple[Latency, ...]] = {}
    if measuring:
        named = {entry.label: files.folder / ONNX_FILE for entry, files in zip(entries, deployed, strict=True)}
        problems = {entry.label: judgement.onnx_problems or {} for entry, judgement in zip(entries, judgements, strict=True)}
        latencies = timed(named, test.images, measuring, folder / TIMINGS, watcher=watcher, problems=problems)
    outcomes = [
        outcome_of(
            entry.candidate,
            files,
            judgement,
            origin=origin_of(replace(recipe, stages=entry.stages), records.study, label=entry.label),
            latencies=latencies.get(entry.label, ()),
        )
        for entry, files, judgement in zip(entries, deployed, judgements, strict=True)
    ]
    kept = keep_outcomes(outcomes, [files.folder for files in deployed], folder, records)
    return Delivery(experiment, tuple(entries), deployed, judgements, kept)


def _judged_alike(
    entries: Sequence[Entry],
    deployed: Sequence[DeployedFiles],
    test: TestSet,
    start: Start,
    *,
    runtime: str,
    watcher: Watcher,
) -> tuple[Judgement, ...]:
    """The judgement of every candidate, and notes about what it says; classifiers are also compared with the first one."""
    judgements = []
    new = sum(not _kept_judgement(files, runtime).exists() for files in deployed)
    if new:  # of a large network this takes minutes
        watcher.note(f"judging the files of {new} network{'s' * (new > 1)} on {len(test.images):,} test images")
    logits = TestLogits(test, deployed[0]) if start.task == CLASSIFICATION else None
    for entry, files in zip(entries, deployed, strict=True):
        judgements.append(judged(entry, files, test, start, onnx_runtime=runtime, logits=logits))
        if logits is not None:
            logits.keep_change(files)
        watcher.note(_worth(entry.label, files, judgements[-1], start.task.metric))
        _note_all(problems_of(entry.label, files, judgements[-1]), watcher)
    if isinstance(start.validation, EvalBatches) and start.guessed_among is not None:
        found = zip((entry.candidate.history for entry in entries), judgements, strict=True)
        _note_all(seen_before(found, len(start.validation.images)), watcher)
    return tuple(judgements)


def _note_all(texts: Iterable[str], watcher: Watcher) -> None:
    for text in texts:
        watcher.note(text)


def ship(entry: Entry, experiment: Experiment, folder: Path) -> DeployedFiles:
    """The deployed files of one candidate, in a folder named by a digest of everything that decides them.

    Raises:
        ParetrimError: the network cannot be exported, or its ``.trim`` file does not compute what its graph defines.
    """
    recipe, key = "", deployed_key(experiment.start, entry.stages)
    if (given := experiment.recipe) is not None:
        recipe = replace(given, stages=entry.stages).digest
        key = deployed_key(experiment.start, entry.stages, teacher=given.teacher, teachers=given.teachers)
    with located(f"deploying '{entry.label}'"):
        return deploy(entry.candidate, experiment.start, folder / "deployed" / key, recipe=recipe)


def timed(
    files: Mapping[str, Path],
    images: Values,
    measuring: TimingPlan,
    folder: Path,
    *,
    watcher: Watcher,
    problems: Problems = NO_PROBLEMS,
) -> dict[str, tuple[Latency, ...]]:
    """Latencies of every file in every setting that can run it, the first file being the baseline.

    ``files`` are the paths of ONNX files by name, ``problems`` say which do not run
    (:func:`paretrim.results.timing.deployments_of`). A session of exactly these files in ``folder``, measured as thoroughly, is
    not measured again. Where the machine is too busy to tell, a warning takes the place of the latencies.
    """
    found: dict[str, tuple[Latency, ...]] = dict.fromkeys(files, ())
    for setting in measuring.settings:
        deployments = deployments_of(files, setting, problems)
        for note in left_out(files, setting, problems):
            watcher.note(note)
        kept = _kept_latencies(folder, setting, deployments, measuring.effort)
        fresh: dict[str, tuple[Latency, ...]] = {name: (latency,) for name, latency in kept.items()}
        if deployments and not fresh:
            threads = f"{setting.threads} thread{'s' * (setting.threads > 1)}"
            watcher.note(f"timing {len(deployments)} files in {setting.runtime} with {threads}")
            try:
                fresh = _timed_now(files, images, setting, measuring.effort, folder, problems)
            except UnstableMachine as error:
                watcher.note(f"warning: no latency in {setting.runtime} with {threads}: {error}")
        found = {name: (*latencies, *fresh.get(name, ())) for name, latencies in found.items()}
    return found


def _timed_now(
    files: Mapping[str, Path], images: Values, setting: RuntimeSetting, effort: Effort, folder: Path, problems: Problems
) -> dict[str, tuple[Latency, ...]]:
    baseline = next(iter(files))
    return time_files(
        files,
        images[:TIMED_IMAGES],
        baseline=baseline,
        settings=[setting],
        effort=effort,
        folder=folder,
        problems=problems,
    )


def problems_of(label: str, files: DeployedFiles, judgement: Judgement | None = None) -> tuple[str, ...]:
    """In words, what is wrong with the ONNX file of a candidate, found now or by an earlier run."""
    missing = (f"{label}: its .trim file is delivered and no ONNX file: {files.onnx_problem}",) if files.onnx_problem else ()
    problems = {} if judgement is None else judgement.onnx_problems or {}
    failing = (f"{label}: the ONNX file does not run in {runtime}: {problem}" for runtime, problem in problems.items())
    return (*failing, *missing)


def saturating(entries: Sequence[Entry], deployed: Sequence[DeployedFiles]) -> tuple[str, ...]:
    """The labels of the candidates whose ONNX file may saturate on this machine."""
    machine = describe()
    found = zip(entries, deployed, strict=True)
    return tuple(entry.label for entry, files in found if files.onnx is not None and may_saturate(files.graph, machine))


def saturation_notes(labels: Iterable[str]) -> tuple[str, ...]:
    """One warning that names all of them, each once; none if there are no labels."""
    named = ", ".join(dict.fromkeys(labels))
    return (f"{named}: {SATURATES}",) if named else ()


def judging_runtime(measuring: TimingPlan | None) -> str:
    """The runtime in which ONNX files are judged: the first that is measured and opens them."""
    runtimes = [setting.runtime for setting in measuring.settings] if measuring else []
    return next((name for name in runtimes if name != NATIVE), ELSEWHERE)


def judged(
    entry: Entry,
    files: DeployedFiles,
    test: TestSet,
    start: Start,
    *,
    onnx_runtime: str,
    logits: TestLogits | None = None,
) -> Judgement:
    """The judgement kept beside the files, or a new one that is then kept.

    ``logits`` runs the files of classifiers, since their logits are needed elsewhere too.

    A judgement that says where the ONNX file does not run is valid only for the same package versions: others may run it.

    Raises:
        ParetrimError: the ``.trim`` file cannot be run.
    """
    kept = _kept_judgement(files, onnx_runtime)
    sha256 = "".join(digest(file) for file in (files.onnx, files.trim) if file is not None)
    try:
        facts = cast(dict[str, Any], read_json(kept))
        same_files, found_with = facts.pop("sha256") == sha256, facts.pop("versions", None)
        judgement = Judgement(**under_todays_names(facts, Judgement))
        if same_files and (not judgement.onnx_problems or found_with == versions()):
            return judgement
    except DAMAGE:
        pass  # none yet, or from other software: judging again only costs time
    with located(f"judging '{entry.label}'"):
        known = None if logits is None else logits.of(files)
        judgement = judge(entry.candidate, files, test, start, onnx_runtime=onnx_runtime, logits=known)
    write_atomically(kept, json.dumps(dataclasses.asdict(judgement) | {"sha256": sha256, "versions": versions()}).encode())
    return judgement


def _kept_judgement(files: DeployedFiles, onnx_runtime: str) -> Path:
    return files.folder / f"judgement-{onnx_runtime}.json"


def _kept_latencies(
    folder: Path, setting: RuntimeSetting, deployments: Sequence[Deployment], effort: Effort
) -> Mapping[str, Latency]:
    """Latencies of a session of exactly these files, measured as thoroughly, that an earlier run kept; empty without one."""
    path = folder / f"{setting.runtime}-{setting.threads}.npz"
    if not path.exists():
        return {}
    try:
        session = load_session(path)
        measured = [(timing.deployment.name, timing.sha256) for timing in session.timings]
        wanted = [(deployment.name, digest(Path(deployment.path))) for deployment in deployments]
        return latencies_of(session, setting) if session.effort == effort and measured == wanted else {}
    except (CorruptFile, UnstableMachine):
        return {}  # measured again and replaced


def _worth(label: str, files: DeployedFiles, judgement: Judgement, metric: Metric) -> str:
    size = files.trim.stat().st_size
    deployed, trained = metric.text(judgement.deployed_value), metric.text(judgement.trained_value)
    return f"{label}: {size:,} bytes, test {metric.name} {deployed} (training framework {trained})"
