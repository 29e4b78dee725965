"""Plain training as a stage: no constraint of its own, all earlier ones kept."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from paretrim.network.network import Network
from paretrim.train.budget import STRICT, Budget
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources


@dataclass(frozen=True, config=STRICT)
class FineTune:
    """Train with the labels under the constraints that are there."""

    name: ClassVar[str] = "finetune"
    budget: Budget = Field(default_factory=Budget)

    def begin(self, network: Network, _resources: Resources, /) -> Network:
        """A plain copy."""
        return copy.deepcopy(network)

    def advance(self, network: Network, progress: float, /) -> None:
        """Nothing ramps."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()
