"""What a stage is."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

from paretrim.network.network import Network
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources


class Stage(Protocol):
    """One compression step. To add one: a frozen settings dataclass with these members and a row in ``recipe.STAGES``.

    A stage never changes the network it is given; ``begin`` returns a private copy with constraints put on it.
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

    def begin(self, network: Network, resources: Resources, /) -> Network:
        """A copy of ``network`` with this stage's constraints: masks, fake quantizers, fewer channels."""
        ...

    def advance(self, network: Network, progress: float, /) -> None:
        """Move the stage's ramps on its own copy; ``progress`` grows from 0 to 1 and ends at exactly 1, also with no epochs."""
        ...

    def losses(self, resources: Resources, /) -> tuple[LossTerm, ...]:
        """What to minimise. Empty: cross-entropy with the labels."""
        ...
