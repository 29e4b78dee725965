"""The protocol of a stage."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from paretrim.network.network import Network
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training


@runtime_checkable
class Stage(Protocol):
    """One compression step. To add one: a frozen settings dataclass with these members and a row in ``stage_table.STAGES``.

    A stage never changes the network it is given; ``begin`` makes a private copy and adds constraints to it. The settings are
    frozen: state that changes during training is kept in the stage's own modules, which train beside the network.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def name(self) -> str:
        """Name in recipes and reports."""
        ...

    @property
    def budget(self) -> Budget:
        """How the stage trains: epochs, optimizer, learning rates."""
        ...

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy of ``network`` with this stage's constraints (masks, fake quantizers, fewer channels), and its own modules.

        In a run, torch's random stream is a function of the seed here and in every other member, so no stage needs its own seed.
        """
        ...

    def advance(self, training: Training, progress: float, /) -> None:
        """Update everything that depends on ``progress``, which grows from 0 to 1 and ends at exactly 1, even without epochs.

        Called at the first step of every epoch and a hundred times over the budget. Layers may be replaced here.
        """
        ...

    def observe(self, training: Training, step: Step, /) -> None:
        """See the gradients of a step before the optimizer uses them. Gradients, masks, values and layers may be changed."""
        ...

    def losses(self, resources: Resources, /) -> tuple[LossTerm, ...]:
        """The losses to minimise. Empty: cross-entropy with the labels."""
        ...


class GrowingStage(Stage, Protocol):
    """A stage that may restore pruned weights; in every other stage a pruned weight stays zero."""

    masks_grow: ClassVar[Literal[True]]
