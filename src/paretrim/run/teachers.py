"""The teachers of a run: made from what a recipe says of them, trained if they must be, and given to the stages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paretrim.data.types import Augmentation, Dataset
from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe, TrainingFailed, located
from paretrim.files import read_json, write_atomically
from paretrim.network.network import Network
from paretrim.network.places import value_at
from paretrim.run.drop import drop_between, loses
from paretrim.run.recipe import Recipe, teacher_settings
from paretrim.run.start import Start, content_of, start_from
from paretrim.run.teacher_spec import TeacherSpec
from paretrim.stages.stage import Stage
from paretrim.train.committee import Committee
from paretrim.train.evaluate import predictions
from paretrim.train.resources import Resources, Teacher
from paretrim.train.sparse_teacher import SparseTeacher, StoreOrigin
from paretrim.train.task import CLASSIFICATION
from paretrim.train.teacher import StoredTeacher


@dataclass(frozen=True, eq=False)
class Tutor:
    """One of several teachers. ``start`` is what its training begins with, None for the dense network of the run.

    ``network`` is what teaches: None until it is ready, and where that is the dense network.
    """

    spec: TeacherSpec
    start: Start | None
    network: Network | None = None

    def key(self) -> str:
        """What it depends on, before anything is trained."""
        facts = {"spec": teacher_settings(self.spec), "start": None if self.start is None else self.start.key()}
        return digest_of(facts)


Teaching = Network | Sequence[Tutor] | None
"""Who teaches in a run: one network, several teachers, or the dense network."""


def tutors_of(recipe: Recipe, dataset: Dataset) -> tuple[Tutor, ...]:
    """The teachers that a recipe lists, with their networks built and nothing trained.

    Raises:
        ParetrimError: a network or its weights are not what they should be.
    """
    made = []
    for spec in recipe.teachers:
        with located(f"teacher '{spec.name}'"):
            made.append(Tutor(spec, _begin(spec, recipe, dataset) if spec.network else None))
    return tuple(made)


def _begin(spec: TeacherSpec, recipe: Recipe, dataset: Dataset) -> Start:
    changed = {name: value for name, value in spec.augmentation().items() if value is not None}
    seed = recipe.seed if spec.seed is None else spec.seed
    theirs = replace(recipe, model=spec.model(), seed=seed, teacher=None, teachers=(), stages=(), dense=None)
    varied = Augmentation(**{**vars(dataset.augmentation), **changed})
    return start_from(theirs, replace(dataset, augmentation=varied))[0]


def resources_for(start: Start, teaching: Teaching, folder: Path | None) -> Resources:
    """What the stages of a run get. Logits are stored below ``folder``, or not at all where there is none.

    Raises:
        TrainingFailed: a teacher returns something else than the network.
        InvalidRecipe: a store holds something else.
    """
    if teaching is None or isinstance(teaching, Network):
        return start.resources(_stored(start, teaching or start.network, folder))
    if not teaching:
        return resources_for(start, None, folder)
    named: dict[str, Teacher] = {}
    for tutor in teaching:
        with located(f"teacher '{tutor.spec.name}'"):
            named[tutor.spec.name] = _teacher(tutor, start, folder)
    members = {tutor.spec.name: (tutor.spec.weight, named[tutor.spec.name]) for tutor in teaching}
    return start.resources(next(iter(named.values())) if len(named) == 1 else Committee(members, start.task), named)


def key_of_teaching(teaching: Teaching) -> str | list[str]:
    """What the outcome depends on by its teachers."""
    if teaching is None or isinstance(teaching, Network):
        return "dense" if teaching is None else content_of(teaching)
    return [tutor.key() for tutor in teaching] or "dense"


def check_losses(start: Start, stages: Sequence[Stage], resources: Resources) -> None:
    """Refuse what a loss asks for and cannot get, before anything trains: module paths, and the positions of images.

    Raises:
        InvalidRecipe: the first such loss, with the stage that names it.
    """
    for number, stage in enumerate(stages, start=1):
        with located(f"stage {number} ({stage.name})"):
            for term in stage.losses(resources):
                if term.needs_indices:
                    resources.indexed_images()
                for path in term.features:
                    value_at(start.network.structure, path)
                teacher = resources.teacher_named(term.teacher) if term.is_taught else None
                if teacher is not None:
                    with located(f"teacher '{term.teacher}'" if term.teacher else "teacher"):
                        for path in term.teacher_features:
                            teacher.shape_at(path)


def weak_teachers(start: Start, teaching: Teaching, stages: Sequence[Stage], folder: Path) -> tuple[str, ...]:
    """A warning for every teacher that is clearly worse than the dense network.

    Clearly: the paired 95 % interval of what it loses on the validation images is above 0. Judged are the teachers from which a
    stage learns, all of them if there are no ``stages``; one that trains beside its student is only begun. ``folder`` keeps what
    was found, so that no teacher is judged twice.
    """
    warnings = (_weakness(start, name, network, folder) for name, network in _judged(start, teaching, stages))
    return tuple(warning for warning in warnings if warning)


def _judged(start: Start, teaching: Teaching, stages: Sequence[Stage]) -> Iterator[tuple[str, Network]]:
    """The teachers other than the dense network, by what a warning calls them."""
    if isinstance(teaching, Network):
        yield "the teacher", teaching
        return
    resources = resources_for(start, teaching, None)
    read = {term.teacher for stage in stages for term in stage.losses(resources) if term.is_taught}
    for tutor in teaching or ():
        if tutor.network not in (None, start.network) and (not stages or read & {"", tutor.spec.name}):
            yield f"teacher '{tutor.spec.name}'", tutor.network


def _weakness(start: Start, name: str, network: Network, folder: Path) -> str:
    """The warning, or "" if the teacher is not shown to be worse."""
    kept = folder / "teachers" / f"{digest_of({'start': start.key(), 'teacher': content_of(network)})}.json"
    with contextlib.suppress(OSError, ValueError):  # not there yet, or damaged
        return str(read_json(kept))
    ours, labels = start.validated
    theirs, _ = predictions(network, start.validation.epoch(0), start.execution.torch_device(), task=start.task)
    dense, teacher = (start.task.score(found.numpy(), labels.numpy()) for found in (ours, theirs))
    drop = drop_between(dense, teacher, start.task)
    warning = (
        f"warning: {name} is worse than the dense network: {loses(drop)}; train the teacher longer or in smaller batches, take "
        "another one, or leave it out: the dense network then teaches"
        if drop.beyond(0)
        else ""
    )
    write_atomically(kept, json.dumps(warning).encode())
    return warning


def _teacher(tutor: Tutor, start: Start, folder: Path | None) -> Teacher:
    spec = tutor.spec
    network = tutor.network or (start.network if tutor.start is None else tutor.start.network)
    own = None if folder is None else folder / spec.name
    if spec.top is None:
        return _stored(start, network, own)
    if start.task != CLASSIFICATION:
        raise InvalidRecipe(f"top needs classes, and the task is {start.task.name}; leave it out")
    if start.images is None and spec.store:
        raise InvalidRecipe("a store needs to know which image is which; name the data in a recipe, or leave store out")
    place = Path(spec.store) if spec.store and own is not None else own
    origin = StoreOrigin(content_of(network), start.data_digest, start.seed, spec.top)
    stored = None if start.images is None else place
    return SparseTeacher(_stored(start, network, None), origin, images=start.images or 0, folder=stored)


def _stored(start: Start, network: Network, folder: Path | None) -> StoredTeacher:
    theirs, ours = network.structure.output_shapes, start.network.structure.output_shapes
    if theirs != ours:
        raise TrainingFailed(f"the teacher returns {_listed(theirs)} and the network {_listed(ours)}; they must return the same")
    stored = folder if start.images is not None else None
    return StoredTeacher(
        network,
        start.execution,
        images=start.images or 0,
        classes=start.classes,
        folder=stored,
        exact=start.task != CLASSIFICATION,
    )


def _listed(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
