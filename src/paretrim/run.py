"""A whole run: train, deploy, judge, time, store and report, in a folder from which the same command goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paretrim.bench.effort import Effort
from paretrim.bench.protocol import digest
from paretrim.bench.raw import load_session
from paretrim.bench.types import Arm, Latency, Session
from paretrim.candidate import Candidate
from paretrim.choice import Choice
from paretrim.data.batches import EvalBatches
from paretrim.data.load import load
from paretrim.data.types import Dataset
from paretrim.deploy.runnable import ELSEWHERE, NATIVE
from paretrim.digest import digest_of
from paretrim.errors import CorruptFile, located
from paretrim.files import write_atomically
from paretrim.judge import Deployed, Facts, Judgement, deploy, facts_of, judge, outcome_of, seen_before
from paretrim.lock import hold
from paretrim.network import Network
from paretrim.outcome import Outcome
from paretrim.pipeline import run_stages, train_dense
from paretrim.progress import Watcher, silent, told
from paretrim.recipe import Recipe, stage_settings
from paretrim.report import page
from paretrim.run_folder import INDEX, ONNX_FILE, REPORT, STORE, TIMINGS, distributions, keep_choice, keep_commands
from paretrim.start import Start, TestSet, captured, start_from
from paretrim.study import store
from paretrim.timing import NO_PROBLEMS, Problems, Setting, arms_of, latencies_of, left_out, time_files
from paretrim.visible import visible

TIMED_IMAGES = 512
"""Distinct test images that are timed; more would only fill the disk of every measuring process."""


@dataclass(frozen=True)
class Measuring:
    """In which runtimes, with how many threads and how hard latency is measured."""

    settings: tuple[Setting, ...]
    effort: Effort


@dataclass(frozen=True, eq=False)
class Opened:
    """A recipe with its data in memory and its network built; nothing is trained yet."""

    recipe: Recipe
    start: Start
    test: TestSet
    teacher: Network | None


@dataclass(frozen=True, eq=False)
class Entry:
    """One candidate to deliver. ``recipe`` is exactly what made it: of a longer recipe only the stages so far."""

    label: str
    recipe: Recipe
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Delivered:
    """What came out, in the order of the entries: the files, what they are worth on test images, and one outcome each."""

    deployed: tuple[Deployed, ...]
    judgements: tuple[Judgement, ...]
    outcomes: tuple[Outcome, ...]


def run_recipe(
    recipe: Recipe, folder: Path, *, measuring: Measuring | None = None, watcher: Watcher | None = None
) -> tuple[Outcome, ...]:
    """Carry out a recipe in ``folder``: one outcome for the dense network and one after every stage.

    The same call again does only what is missing. Without ``measuring`` nothing is timed.

    Raises:
        RunInUse: another process works in the folder.
        ParetrimError: data, network, training, export or measuring failed; what was earned before stays in the folder.
    """
    watcher = watcher or silent()
    with hold(folder):
        opened = open_recipe(recipe, watcher)
        return carry_out(opened, folder, measuring=measuring, watcher=watcher, reproduce=()).outcomes


def open_recipe(recipe: Recipe, watcher: Watcher) -> Opened:
    """Read the data and build the network, and the teacher if it is another one.

    Raises:
        ParetrimError: data, network or weights are not what they should be.
    """
    dataset = load(recipe.data, progress=watcher.fetched)
    if dataset.broken:
        shown = ", ".join(map(visible, dataset.broken[:5])) + (", ..." if len(dataset.broken) > 5 else "")
        watcher.note(f"note: {len(dataset.broken)} image files cannot be read and were left out: {shown}")
    watcher.note(_described(dataset))
    start, test = start_from(recipe, dataset)
    teacher = None if recipe.teacher is None else captured(recipe.teacher, dataset, seed=recipe.seed)
    return Opened(recipe, start, test, teacher)


def carry_out(
    opened: Opened, folder: Path, *, measuring: Measuring | None, watcher: Watcher, reproduce: Sequence[str]
) -> Delivered:
    """Train what is not trained yet and deliver the candidate after every stage; the caller holds the folder."""
    ready = with_dense(opened, folder, watcher)
    stages = opened.recipe.stages
    candidates = run_stages(
        ready.start,
        stages,
        folder,
        teacher=ready.teacher,
        report=watcher.tick,
        finished=lambda _, done: watcher.note(told(done.history[-1])),
    )
    entries = [
        Entry(_label(opened.recipe, count), replace(opened.recipe, stages=stages[:count]), candidate)
        for count, candidate in enumerate(candidates)
    ]
    return deliver(entries, ready, folder, measuring=measuring, watcher=watcher, reproduce=reproduce)


def with_dense(opened: Opened, folder: Path, watcher: Watcher) -> Opened:
    """The same with the dense network trained, if the recipe says so and names no weights."""
    budget = opened.recipe.dense if opened.recipe.model.weights is None else None
    start = train_dense(opened.start, budget, folder, report=lambda tick: watcher.tick(replace(tick, stage="dense")))
    return replace(opened, start=start)


def deliver(
    entries: Sequence[Entry],
    opened: Opened,
    folder: Path,
    *,
    measuring: Measuring | None,
    watcher: Watcher,
    reproduce: Sequence[str],
) -> Delivered:
    """Write every candidate's files, judge and time them together, store the outcomes and write the report.

    The first entry is the baseline of all latencies. Files, judgements, timings and lines that are there already are kept.
    """
    deployed = [ship(entry, opened, folder) for entry in entries]
    runtimes = [setting.runtime for setting in measuring.settings] if measuring else []
    onnx_runtime = next((name for name in runtimes if name != NATIVE), ELSEWHERE)
    judgements = []
    for entry, files in zip(entries, deployed, strict=True):
        judgements.append(_judged(entry, files, opened, onnx_runtime))
        watcher.note(_worth(entry.label, files, judgements[-1]))
        for runtime, problem in judgements[-1].onnx_problems.items():
            watcher.note(f"{entry.label}: the ONNX file does not run in {runtime}: {problem}")
        if files.onnx_problem:
            watcher.note(f"{entry.label}: its .trim file is delivered and no ONNX file: {files.onnx_problem}")
    if warning := _seen_before(entries, opened, judgements[0]):
        watcher.note(warning)
    files_by_label = {entry.label: files.folder / ONNX_FILE for entry, files in zip(entries, deployed, strict=True)}
    latencies: Mapping[str, tuple[Latency, ...]] = {}
    if measuring:
        problems = {entry.label: judgement.onnx_problems for entry, judgement in zip(entries, judgements, strict=True)}
        latencies = timed(files_by_label, opened.test, measuring, folder / TIMINGS, watcher=watcher, problems=problems)
    outcomes = tuple(
        _stored(
            outcome_of(entry.candidate, files, judgement, facts=_facts(entry, folder), latencies=latencies.get(entry.label, ())),
            folder / STORE,
        )
        for entry, files, judgement in zip(entries, deployed, judgements, strict=True)
    )
    places = [files.folder.relative_to(folder) for files in deployed]
    index = [
        {"label": outcome.label, "recipe": outcome.recipe, "seed": outcome.seed, "folder": place.as_posix()}
        for outcome, place in zip(outcomes, places, strict=True)
    ]
    write_atomically(folder / INDEX, json.dumps(index, indent=1).encode())
    keep_commands(folder, reproduce)
    write_page(outcomes, folder, reproduce=reproduce, choice=None)
    return Delivered(tuple(deployed), tuple(judgements), outcomes)


def _seen_before(entries: Sequence[Entry], opened: Opened, dense: Judgement) -> str:
    """The warning of :func:`paretrim.judge.seen_before` about the dense network, whose accuracy the first stage has noted."""
    noted = [entry.candidate.history[0].accuracy_before for entry in entries if entry.candidate.history]
    validation = opened.start.validation
    if not noted or not isinstance(validation, EvalBatches):
        return ""
    return seen_before(noted[0], len(validation.images), dense.trained_accuracy, dense.test_images)


def write_page(outcomes: Sequence[Outcome], folder: Path, *, reproduce: Sequence[str], choice: Choice | None) -> None:
    """Write the report into the run folder, and keep what was chosen, if anything was."""
    keep_choice(folder, choice)
    page.write(outcomes, folder / REPORT, distributions=distributions(folder), reproduce=reproduce, choice=choice)


def ship(entry: Entry, opened: Opened, folder: Path) -> Deployed:
    """The deployed files of one candidate, in a folder named by everything that decides them.

    Raises:
        ParetrimError: the network cannot be exported, or its ``.trim`` file does not compute what the graph means.
    """
    # The recipe's own digest would not do: it names a weights file, and this key knows its content.
    key = digest_of(
        {
            "start": opened.start.key(),
            "teacher": None if entry.recipe.teacher is None else dataclasses.asdict(entry.recipe.teacher),
            "stages": [stage_settings(stage) for stage in entry.recipe.stages],
        }
    )
    with located(f"deploying '{entry.label}'"):
        return deploy(entry.candidate, opened.start, folder / "deployed" / key, recipe=entry.recipe.digest)


def timed(
    files: Mapping[str, Path],
    test: TestSet,
    measuring: Measuring,
    folder: Path,
    *,
    watcher: Watcher,
    problems: Problems = NO_PROBLEMS,
) -> dict[str, tuple[Latency, ...]]:
    """Latencies of every file in every setting that can run it, the first file being the baseline.

    ``files`` are the places of ONNX files by name, ``problems`` say which do not run (:func:`paretrim.timing.arms_of`). A session
    that ``folder`` keeps of exactly these files, measured as hard, is not measured again.
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


def _described(dataset: Dataset) -> str:
    """What is about to be trained on, so that a wrong folder or size is seen before training."""
    names = ", ".join(map(visible, dataset.classes[:5])) + (", ..." if len(dataset.classes) > 5 else "")
    counts = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    size = "×".join(map(str, dataset.train.sample_shape))
    return f"data: {dataset.name}, {counts} of {size}, {len(dataset.classes)} classes ({names})"


def _label(recipe: Recipe, count: int) -> str:
    """What the table calls the candidate after ``count`` stages: its order; the whole recipe has the label it gave itself."""
    return recipe.title if count == len(recipe.stages) else replace(recipe, stages=recipe.stages[:count], label="").title


def _facts(entry: Entry, folder: Path) -> Facts:
    return facts_of(replace(entry.recipe, label=entry.label), folder.resolve().name)


def _judged(entry: Entry, files: Deployed, opened: Opened, onnx_runtime: str) -> Judgement:
    """The judgement kept beside the files, or a new one that is then kept."""
    kept = files.folder / f"judgement-{onnx_runtime}.json"
    sha256 = "".join(digest(file) for file in (files.onnx, files.trim) if file is not None)
    try:
        facts = json.loads(kept.read_text(encoding="utf-8"))
        if facts.pop("sha256") == sha256:
            return Judgement(**facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none yet, or of other software: judging again costs time and nothing else
    with located(f"judging '{entry.label}'"):
        judgement = judge(entry.candidate, files, opened.test, opened.start, onnx_runtime=onnx_runtime)
    write_atomically(kept, json.dumps(dataclasses.asdict(judgement) | {"sha256": sha256}).encode())
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
    """The outcome as the store has it; appended unless the newest line of the same run says the same already."""
    known = store.latest(store.read(path)) if path.exists() else ()
    same = next((o for o in known if (o.study, o.recipe, o.seed) == (outcome.study, outcome.recipe, outcome.seed)), None)
    if same is not None:
        # Not timing this time is no reason to forget what was timed on the same file.
        unchanged = _essence(same) == _essence(outcome) and (not outcome.latencies or same.latencies == outcome.latencies)
        if unchanged:
            return same
    store.append(path, outcome)
    return store.decode(store.encode(outcome))  # as every later reader gets it


def _essence(outcome: Outcome) -> tuple[object, ...]:
    scores = (outcome.trained_accuracy, outcome.deployed_accuracy, outcome.agreement, outcome.runtime, outcome.onnx_accuracy)
    return (outcome.label, outcome.file_bytes, outcome.trim_bytes, outcome.layers, *scores)


def _worth(label: str, files: Deployed, judgement: Judgement) -> str:
    size, trained = files.trim.stat().st_size, 100 * judgement.trained_accuracy
    return (
        f"{label}: {size:,} bytes, test accuracy {100 * judgement.deployed_accuracy:.2f} % (training framework {trained:.2f} %)"
    )
