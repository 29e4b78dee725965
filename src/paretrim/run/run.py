"""A whole run: train, deploy, judge, time, store and report, in a folder from which the same command resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.types import Dataset
from paretrim.lock import hold
from paretrim.network.network import Network
from paretrim.results.outcome import Outcome
from paretrim.run.delivery import Delivery, Entry, Experiment, TimingPlan, deliver
from paretrim.run.pipeline import run_stages, train_dense, trained_tutors
from paretrim.run.progress import Watcher, silent, told
from paretrim.run.recipe import DENSE, Recipe
from paretrim.run.start import captured, start_from
from paretrim.run.teachers import Teaching, check_losses, resources_for, tutors_of
from paretrim.visible import visible


def run_recipe(
    recipe: Recipe, folder: Path, *, measuring: TimingPlan | None = None, watcher: Watcher | None = None
) -> tuple[Outcome, ...]:
    """Run a recipe in ``folder``: one outcome for the dense network and one after every stage.

    The same call again does only what is missing. Without ``measuring`` nothing is timed.

    Raises:
        RunInUse: another process works in the folder.
        ParetrimError: data, network, training, export or measuring failed; finished work stays in the folder.
    """
    watcher = watcher or silent()
    with hold(folder):
        experiment = open_recipe(recipe, watcher)
        return carry_out(experiment, folder, measuring=measuring, watcher=watcher, reproduce=()).outcomes


def open_recipe(recipe: Recipe, watcher: Watcher) -> Experiment:
    """Read the data and build the network, and the teacher if it is a different network.

    Raises:
        ParetrimError: data, network or weights are not what they should be.
    """
    return open_with(recipe, read_data(recipe.data, watcher))


def read_data(spec: DataSpec, watcher: Watcher) -> Dataset:
    """Read the data and report what they are.

    Raises:
        ParetrimError: the data are not what they should be.
    """
    dataset = load(spec, progress=watcher.fetched)
    if dataset.broken:
        shown = ", ".join(map(visible, dataset.broken[:5])) + (", ..." if len(dataset.broken) > 5 else "")
        watcher.note(f"note: {len(dataset.broken)} image files cannot be read and were left out: {shown}")
    watcher.note(_described(dataset))
    return dataset


def open_with(recipe: Recipe, dataset: Dataset) -> Experiment:
    """A recipe with its data read: build its network, and its teacher if that is a different network.

    Raises:
        ParetrimError: network or weights are not what they should be.
    """
    start, test = start_from(recipe, dataset)
    teacher: Teaching = tutors_of(recipe, dataset)
    if recipe.teacher is not None:
        teacher = captured(recipe.teacher, dataset, seed=recipe.seed, task=start.task)
    check_losses(start, recipe.stages, resources_for(start, teacher, None))
    return Experiment(recipe, start, test, teacher or None)


def carry_out(
    experiment: Experiment, folder: Path, *, measuring: TimingPlan | None, watcher: Watcher, reproduce: Sequence[str]
) -> Delivery:
    """Train what is not trained yet and deliver the candidate after every stage; the caller holds the folder."""
    ready, entries = train(experiment, folder, watcher)
    return deliver(entries, ready, folder, measuring=measuring, watcher=watcher, reproduce=reproduce)


def train(experiment: Experiment, folder: Path, watcher: Watcher) -> tuple[Experiment, tuple[Entry, ...]]:
    """Train what ``folder`` does not hold yet: the recipe with its dense network trained, and the candidate after every stage."""
    ready = with_dense(experiment, folder, watcher)
    stages = experiment.recipe.stages
    candidates = run_stages(
        ready.start,
        stages,
        folder,
        teacher=ready.teacher,
        report=watcher.tick,
        finished=lambda _, done: watcher.note(told(done.history[-1])),
    )
    entries = (
        Entry(_label(experiment.recipe, count), replace(experiment.recipe, stages=stages[:count]), candidate)
        for count, candidate in enumerate(candidates)
    )
    return ready, tuple(entries)


def with_dense(experiment: Experiment, folder: Path, watcher: Watcher) -> Experiment:
    """The same with the dense network and the teachers trained, if the recipe has a budget for them."""
    start = train_dense(
        experiment.start, experiment.recipe.dense, folder, report=lambda tick: watcher.tick(replace(tick, stage=DENSE))
    )
    teacher = experiment.teacher
    if teacher is not None and not isinstance(teacher, Network):
        teacher = trained_tutors(start, teacher, folder, report=lambda tick: watcher.tick(replace(tick, stage="teacher")))
    return replace(experiment, start=start, teacher=teacher)


def _described(dataset: Dataset) -> str:
    """A description of the training data, so that a wrong folder or size is noticed before training."""
    names = ", ".join(map(visible, dataset.classes[:5])) + (", ..." if len(dataset.classes) > 5 else "")
    counts = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    size = "×".join(map(str, dataset.train.sample_shape))
    return f"data: {dataset.name}, {counts} of {size}, {len(dataset.classes)} classes ({names})"


def _label(recipe: Recipe, count: int) -> str:
    """What the table calls the candidate after ``count`` stages: its order; for the whole recipe, the recipe's label."""
    return recipe.title if count == len(recipe.stages) else replace(recipe, stages=recipe.stages[:count], label="").title
