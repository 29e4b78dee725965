"""Plain training as a stage: it adds no constraint and keeps all earlier ones."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field

from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="finetune",
        kind="stage",
        source="Han et al. 2015, arXiv 1506.02626",
        what="train with the labels under the existing constraints",
        formula="CE(labels, p)",
        recipe="finetune",
    ),
)


@settings()
class FineTune:
    """Train with the labels, under the constraints that earlier stages set."""

    name: ClassVar[str] = "finetune"
    budget: Budget = Field(default_factory=Budget)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A plain copy."""
        return Training(copy.deepcopy(network), resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: nothing depends on progress."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()
