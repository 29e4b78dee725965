"""The one path of a run: train, deploy, judge, time and store, in a folder from which the same command resumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.types import Dataset
from paretrim.errors import InvalidRecipe
from paretrim.files import folder_of
from paretrim.lock import hold
from paretrim.network.network import Network
from paretrim.results.outcome import Outcome
from paretrim.run.candidate import Candidate
from paretrim.run.delivery import Delivery, Entry, Experiment, TimingPlan, deliver
from paretrim.run.emptied import said_of_emptied
from paretrim.run.kept_channels import said_of_kept_channels
from paretrim.run.pipeline import run_stages, train_dense, trained_tutors
from paretrim.run.progress import Watcher, silent, told
from paretrim.run.recipe import DENSE, Recipe, title_of
from paretrim.run.records import Records, records_of
from paretrim.run.start import captured, start_from
from paretrim.run.teachers import Teaching, check_losses, resources_for, tutors_of, weak_teachers
from paretrim.stages.stage import Stage
from paretrim.torch_settings import usual_settings
from paretrim.visible import brief, visible

Candidates = Callable[[Experiment, Path, Watcher], Sequence[Entry]]
"""Trains what a run delivers, given the experiment with its dense network trained, the folder, and who watches."""


@usual_settings()
def run_recipe(
    recipe: Recipe, folder: Path | str, *, measuring: TimingPlan | None = None, watcher: Watcher | None = None
) -> tuple[Outcome, ...]:
    """Run a recipe in ``folder``: one outcome for the dense network and one after every stage.

    The same call again does only what is missing. Without ``measuring`` nothing is timed.

    Raises:
        RunInUse: another process works in the folder.
        ParetrimError: data, network, training, export or measuring failed; finished work stays in the folder.
    """
    watcher, folder = watcher or silent(), folder_of(folder)
    require_recipe(recipe)
    with hold(folder):
        experiment = open_recipe(recipe, watcher)
        candidates = after_every_stage(recipe.stages, recipe.label)
        records = records_of(folder)
        return carry_out(experiment, folder, candidates, records=records, measuring=measuring, watcher=watcher).outcomes


def require_recipe(recipe: object) -> None:
    """Refuse what is no recipe, such as its path.

    Raises:
        InvalidRecipe: it is something else.
    """
    if not isinstance(recipe, Recipe):
        raise InvalidRecipe(f"the recipe is {brief(recipe)}; give what paretrim.read_recipe returns")


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
        several = len(dataset.broken) > 1
        left = f"image file{'s' * several} cannot be read and {'were' if several else 'was'} left out"
        watcher.note(f"note: {len(dataset.broken)} {left}: {_first(dataset.broken)}")
    watcher.note(_described(dataset, spec.train_images))
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
    return Experiment(start, teacher or None, recipe, test)


@usual_settings()
def carry_out(
    experiment: Experiment,
    folder: Path,
    candidates: Candidates,
    *,
    records: Records | None,
    watcher: Watcher,
    measuring: TimingPlan | None = None,
) -> Delivery:
    """Train what ``folder`` does not hold yet, and deliver the candidates: files, judgements, latencies and outcomes.

    Every command and the Python API run a recipe by this function; the caller holds the folder.

    Args:
        experiment: the data, the network and its teachers, nothing trained yet.
        folder: where candidates, checkpoints, files and timings are kept.
        candidates: trains what is delivered: :func:`after_every_stage`, :func:`after_all_stages`, or a search. The first is the
            baseline of all latencies.
        records: where outcomes are stored; None where there are none, without test images.
        watcher: shows progress and notes.
        measuring: how latency is measured; None leaves that to later.

    Raises:
        ParetrimError: training, export, judging or measuring failed; finished work stays in the folder.
    """
    ready = with_dense(experiment, folder, watcher)
    entries = candidates(ready, folder, watcher)
    return deliver(entries, ready, folder, records=records, measuring=measuring, watcher=watcher)


def after_every_stage(stages: Sequence[Stage], label: str = "") -> Candidates:
    """The dense network and the candidate after every stage; ``label`` is what tables call the last one."""
    return lambda ready, folder, watcher: train(ready, stages, folder, watcher=watcher, label=label)


def after_all_stages(stages: Sequence[Stage], label: str = "") -> Candidates:
    """The candidate after the last stage alone."""
    return lambda ready, folder, watcher: train(ready, stages, folder, watcher=watcher, label=label)[-1:]


def train(ready: Experiment, stages: Sequence[Stage], folder: Path, *, watcher: Watcher, label: str = "") -> tuple[Entry, ...]:
    """The candidates after 0, 1, 2, ... stages; those that ``folder`` holds are read. ``label`` is the name of the last one."""
    chain, said = tuple(stages), {""}

    def finished(_name: str, done: Candidate) -> None:
        watcher.note(told(done.history[-1]))
        if (warning := said_of_emptied(done.network)) not in said:
            said.add(warning)
            watcher.note(warning)

    candidates = run_stages(
        ready.start,
        chain,
        folder,
        teacher=ready.teacher,
        report=watcher.tick,
        finished=finished,
    )
    for warning in said_of_kept_channels(chain, [candidate.network for candidate in candidates]):
        watcher.note(warning)
    labels = [*(title_of(chain[:count]) for count in range(len(chain))), title_of(chain, label)]
    return tuple(Entry(labels[count], chain[:count], candidate) for count, candidate in enumerate(candidates))


def with_dense(experiment: Experiment, folder: Path, watcher: Watcher) -> Experiment:
    """The same with the dense network and the teachers trained, if the recipe has a budget for them.

    A teacher that is clearly worse than the dense network is noted.
    """
    start = train_dense(experiment.start, experiment.dense, folder, report=lambda tick: watcher.tick(replace(tick, stage=DENSE)))
    teacher = experiment.teacher
    if teacher is not None and not isinstance(teacher, Network):
        teacher = trained_tutors(start, teacher, folder, report=lambda tick: watcher.tick(replace(tick, stage="teacher")))
    for warning in weak_teachers(start, teacher, experiment.recipe.stages if experiment.recipe else (), folder):
        watcher.note(warning)
    return replace(experiment, start=start, teacher=teacher)


def _described(dataset: Dataset, used: int | None) -> str:
    """A description of the training data, so that a wrong folder or size is noticed before training."""
    limited = "" if used is None else f" ({used:,} to train on)"
    counts = f"{len(dataset.train):,} training{limited} and {len(dataset.test):,} test images"
    size = "×".join(map(str, dataset.train.sample_shape))
    return f"data: {dataset.name}, {counts} of {size}, {len(dataset.classes)} classes ({_first(dataset.classes)})"


def _first(names: Sequence[str]) -> str:
    """The first names of a list, for people."""
    return ", ".join(map(visible, names[:5])) + (", ..." if len(names) > 5 else "")
