"""The protocol of a distillation loss, one term of a stage's loss."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.settings import Idle
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources, Teacher
from paretrim.train.task import CLASSIFICATION, Task


class Criterion(Protocol):
    """One term. To add one: a frozen settings dataclass with these members and a row in ``criteria.CRITERIA``."""

    @property
    def loss(self) -> str:
        """Name in recipes."""
        ...

    @property
    def weight(self) -> float:
        """The factor of its loss."""
        ...

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """Its own modules, which train beside the network and never ship.

        Raises:
            InvalidRecipe: the settings do not fit the network, the teacher or the task.
        """
        ...

    def term(self, task: Task, /) -> LossTerm:
        """The loss term. Its function finds the modules of ``begin`` in ``Outputs.extra``."""
        ...


def weightless(*names: str) -> Idle:
    """Settings of a criterion that nothing reads if its weight is 0."""
    return Idle(names, lambda one: one.weight == 0, "weight is 0, so that this loss does not count", "set weight above 0")


def teacher_of(resources: Resources, name: str = "") -> Teacher:
    """The teacher with this name; without a name, the mean of all of them.

    Raises:
        InvalidRecipe: there is none.
    """
    found = resources.teacher_named(name)
    if found is None:
        raise InvalidRecipe("a distill stage needs a teacher, but the recipe has none; set [teacher] or give the dense network")
    return found


def require_classes(resources: Resources, what: str) -> None:
    """Reject a loss that needs classes, named ``what``, for other tasks.

    Raises:
        InvalidRecipe: the task is not classification.
    """
    if resources.task != CLASSIFICATION:
        raise InvalidRecipe(
            f"distill: {what} needs classes, but the task is {resources.task.name}; leave it out, or choose another loss"
        )
