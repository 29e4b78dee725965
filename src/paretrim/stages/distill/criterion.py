"""What a student learns from its teacher, as one summand of the loss."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources, Teacher
from paretrim.train.task import CLASSIFICATION, Task


class Criterion(Protocol):
    """One summand. To add one: a frozen settings dataclass with these members and a row in ``criteria.CRITERIA``."""

    @property
    def loss(self) -> str:
        """Name in recipes."""
        ...

    @property
    def weight(self) -> float:
        """The factor of its loss."""
        ...

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """Its own modules, which train beside the network and never ship; settings that do not fit are refused here.

        Raises:
            InvalidRecipe: they do not.
        """
        ...

    def term(self, task: Task, /) -> LossTerm:
        """The summand. Its function finds the modules of ``begin`` in ``Outputs.extra``."""
        ...


def teacher_of(resources: Resources, name: str = "") -> Teacher:
    """The teacher with this name; without a name, the mean of all of them.

    Raises:
        InvalidRecipe: there is none.
    """
    found = resources.teacher_named(name)
    if found is None:
        raise InvalidRecipe("a distill stage needs a teacher and the recipe has none; set [teacher] or give the dense network")
    return found


def require_classes(resources: Resources, what: str) -> None:
    """Refuse a loss that needs classes in another task; ``what`` names it.

    Raises:
        InvalidRecipe: the task is another.
    """
    if resources.task != CLASSIFICATION:
        raise InvalidRecipe(
            f"distill: {what} needs classes, and the task is {resources.task.name}; leave it out, or choose another loss"
        )
