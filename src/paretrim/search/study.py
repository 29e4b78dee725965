"""Running a study: every arm with every seed, one line per outcome; it may be killed and resumed at any time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from paretrim.bench.effort import STANDARD, Effort
from paretrim.data.load import load
from paretrim.data.split import validation_indices
from paretrim.data.types import Dataset
from paretrim.deploy.runnable import NATIVE, OF_ONNX_FILES
from paretrim.results.outcome import Outcome
from paretrim.results.run_folder import INDEX, ONNX_FILE, index_of, keep_index
from paretrim.results.store import append, latest, read
from paretrim.results.timing import RuntimeSetting, left_out, time_files
from paretrim.run.delivery import judged, problems_of, ship
from paretrim.run.judge import origin_of, outcome_of, seen_before, with_latencies
from paretrim.run.progress import Watcher, silent
from paretrim.run.recipe import DENSE, Recipe
from paretrim.run.run import open_with, read_data, train
from paretrim.search.grid import Grid
from paretrim.train.task import CLASSIFICATION

SETTINGS = (RuntimeSetting(NATIVE, 1), RuntimeSetting("onnxruntime", 1), RuntimeSetting("openvino", 1))
"""Runtimes and threads with which a study is timed."""

OUTCOMES = "outcomes.jsonl"


def run_study(grid: Grid, folder: Path, results: Path, *, watcher: Watcher | None = None) -> tuple[Outcome, ...]:
    """Train, deploy and judge what is missing; the outcomes so far, without new timings.

    Args:
        grid: the study.
        folder: where candidates, checkpoints and deployed files are kept. Arms that begin with the same stages share them.
        results: folder of the study's lines, ``outcomes.jsonl``.
        watcher: shows progress; None for none.
    """
    watcher = watcher or silent()
    store = results / OUTCOMES
    dataset = read_data(grid.base.data, watcher)
    for seed in grid.seeds:
        for label, stages in grid.arms:
            recipe = grid.recipe(stages, label, seed)
            if _find(_stored(store), recipe) is None:
                watcher.note(f"{grid.name}: seed {seed}, {label}")
                append(store, _run(grid, recipe, dataset, folder, watcher))
    outcomes = _stored(store)
    validation_images = len(validation_indices(dataset, grid.base.data))
    if grid.base.task == CLASSIFICATION.name:
        for warning in dict.fromkeys(_seen_before(grid, outcomes, validation_images)):
            watcher.note(warning)
    return outcomes


def time_study(
    grid: Grid,
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
    labels = {label for label, _ in grid.arms}
    images = load(grid.base.data).test.images.numpy()
    for seed in grid.seeds:
        outcomes = {o.label: o for o in _stored(store) if o.seed == seed and o.label in labels}
        if set(outcomes) != labels or all(_wanted(o, settings) <= _timed(o) for o in outcomes.values()):
            continue
        watcher.note(f"{grid.name}: timing seed {seed}")
        files = {label: _files_of(outcome, folder) / ONNX_FILE for label, outcome in outcomes.items()}
        problems = {label: outcome.onnx_problems or {} for label, outcome in outcomes.items()}
        for setting in settings:
            for note in left_out(files, setting, problems):
                watcher.note(note)
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


def _run(grid: Grid, recipe: Recipe, dataset: Dataset, folder: Path, watcher: Watcher) -> Outcome:
    experiment, entries = train(open_with(recipe, dataset), folder, watcher)
    made = entries[-1]
    deployed = ship(made, experiment, folder)
    judgement = judged(made, deployed, experiment)
    for problem in problems_of(recipe.title, deployed, judgement):
        watcher.note(problem)
    _remember(recipe, deployed.folder, folder)
    return outcome_of(made.candidate, deployed, judgement, origin=origin_of(recipe, grid.name))


def _remember(recipe: Recipe, files: Path, folder: Path) -> None:
    """Record in the folder's index where the files of an arm with a seed are."""
    entry: dict[str, str | int] = {
        "label": recipe.title,
        "recipe": recipe.digest,
        "seed": recipe.seed,
        "folder": files.relative_to(folder).as_posix(),
    }
    others = [known for known in _index(folder) if (known["recipe"], known["seed"]) != (recipe.digest, recipe.seed)]
    keep_index(folder, [*others, entry])


def _files_of(outcome: Outcome, folder: Path) -> Path:
    """Where the deployed files of an outcome are."""
    for entry in _index(folder):
        if (entry["recipe"], entry["seed"]) == (outcome.recipe, outcome.seed):
            return folder / str(entry["folder"])
    return folder / "deployed" / f"{outcome.recipe}-{outcome.seed}"  # as earlier versions named it


def _index(folder: Path) -> list[dict[str, str | int]]:
    return index_of(folder) if (folder / INDEX).exists() else []


def _seen_before(grid: Grid, outcomes: Sequence[Outcome], validation_images: int) -> Iterator[str]:
    """The warnings of :func:`paretrim.run.judge.seen_before` about the dense networks, whose value first stages note."""
    for seed in grid.seeds:
        here = [_find(outcomes, grid.recipe(stages, label, seed)) for label, stages in grid.arms]
        dense = next((one for one in here if one and not one.history), None)
        first = next((one.history[0] for one in here if one and one.history), None)
        if dense and first:
            warning = seen_before(first.value_before, validation_images, dense.trained_value, dense.test_images)
            if warning:
                yield warning


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
