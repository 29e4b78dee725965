"""The protocol of a stage."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Protocol

from paretrim.network.network import Network
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training


class Stage(Protocol):
    """One compression step. To add one: a frozen settings dataclass with these members and a row in ``recipe.STAGES``.

    A stage never changes the network it is given; ``begin`` makes a private copy with constraints put on it. The settings are
    frozen: what a stage remembers while it trains lives in the modules that it trains beside the network.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def name(self) -> str:
        """Name in recipes and reports."""
        ...

    @property
    def budget(self) -> Budget:
        """How long and how the stage trains."""
        ...

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy of ``network`` with this stage's constraints (masks, fake quantizers, fewer channels), and its own modules.

        In a run, torch's random stream is a function of the seed here and in every other member: nothing needs a seed of its own.
        """
        ...

    def advance(self, training: Training, progress: float, /) -> None:
        """Move the stage's ramps; ``progress`` grows from 0 to 1 and ends at exactly 1, also with no epochs.

        Called at the first step of every epoch and a hundred times over the budget. Layers may be replaced here.
        """
        ...

    def observe(self, training: Training, step: Step, /) -> None:
        """Look at the gradients of a step before the optimizer uses them. Gradients, masks, values and layers may change."""
        ...

    def losses(self, resources: Resources, /) -> tuple[LossTerm, ...]:
        """What to minimise. Empty: cross-entropy with the labels."""
        ...


class GrowingStage(Stage, Protocol):
    """A stage that may bring pruned weights back; in every other a pruned weight stays zero."""

    masks_grow: ClassVar[Literal[True]]
