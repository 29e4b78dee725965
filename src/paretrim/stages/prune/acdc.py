"""AC/DC: alternating phases of training with and without masks."""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Literal

import torch
from pydantic import Field

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import replace_mask_
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.prune.allocation import Allocation
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import MAGNITUDE, Prune, pruning
from paretrim.stages.prune.unread import OF_GROUPS, untrained
from paretrim.train.budget import Budget, Fraction, Positive
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="acdc",
        kind="stage",
        source="Peste et al. 2021, arXiv 2106.12379",
        what="alternate dense and sparse phases; weights pruned in one sparse phase may be kept in the next",
        formula="mask = top-k of |w| at the start of each sparse phase",
        recipe="acdc",
    ),
)


_SLACK = 1e-9
"""Rounding error allowed in shares of the budget."""

_IDLE = (
    OF_GROUPS,
    Idle(
        ("phase",),
        lambda stage: stage.warmup + stage.last_dense + stage.last_sparse >= 1 - _SLACK,
        "warmup, last_dense and last_sparse take all of the budget",
        "shorten one of them",
    ),
    untrained("warmup", "phase", "last_dense", "last_sparse"),
)


@settings(idle=_IDLE)
class AcDc(Selection):
    """Train dense for ``warmup`` of the budget, then alternate sparse and dense phases of ``phase`` each, and end sparse.

    When a sparse phase begins, the weights with the smallest scores become 0; when it ends, they train again, from 0. The last
    two phases are a dense one of ``last_dense`` and a sparse one of ``last_sparse``. All lengths are shares of the budget.
    ``sparsity``, ``pattern``, ``allocation``, ``score`` and the choice of layers (``first`` to ``ignore``) are those of
    :class:`Prune`. In dense phases, zeros of earlier stages train too.

    The defaults are the published 100 epochs: 10 dense, then sparse and dense for 5 each, dense from 75 to 85, sparse to the end.

    Source: Peste et al. 2021, "AC/DC: alternating compressed/decompressed training", arXiv 2106.12379, section 3 and figure 1.

    Raises:
        InvalidRecipe: the phases do not fit the budget, the pattern is ``channel``, or ``prune`` rejects a setting.
    """

    name: ClassVar[str] = "acdc"
    masks_grow: ClassVar[Literal[True]] = True
    budget: Budget = Field(default_factory=Budget)
    sparsity: Fraction = 0.9
    allocation: Allocation = "global"
    score: str = MAGNITUDE
    warmup: Fraction = 0.1
    phase: Positive = 0.05
    last_dense: Fraction = 0.1
    last_sparse: Fraction = 0.15

    def __post_init__(self) -> None:
        if self.pattern == CHANNEL:
            raise InvalidRecipe("acdc: removed channels cannot be restored; choose pattern unstructured, 1x4 or n:m")
        if self.warmup + self.last_dense + self.last_sparse > 1 + 1e-9:
            raise InvalidRecipe(
                f"acdc: warmup, last_dense and last_sparse are {self.warmup}, {self.last_dense} and {self.last_sparse} of the "
                "budget, more than all of it; their sum must be at most 1"
            )
        self._prune()

    def is_sparse_at(self, progress: float) -> bool:
        """Whether the phase at this progress in [0, 1] is a sparse one."""
        if progress >= 1 - self.last_sparse - _SLACK:
            return True
        if progress < self.warmup - _SLACK or progress >= 1 - self.last_sparse - self.last_dense - _SLACK:
            return False
        return math.floor((progress - self.warmup) / self.phase + _SLACK) % 2 == 0

    def _prune(self) -> Prune:
        """Makes the masks."""
        return pruning(self, self.sparsity, allocation=self.allocation, score=self.score)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with masks, new ones being all ones; an unreachable sparsity is rejected here."""
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        self._prune().masks_of(private, self.sparsity, resources)
        for layer in self.layers_of(private).values():
            if layer.mask is None:
                replace_mask_(layer, torch.ones_like(layer.weight, dtype=torch.bool))
        return Training(private, resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Change the phase when its time has come."""
        prune = self._prune()
        layers = prune.layers_of(training.network).values()
        is_masked = any(layer.mask is not None and not bool(layer.mask.all()) for layer in layers)
        if self.is_sparse_at(progress):
            if not is_masked or progress == 0:
                prune.mask_(training.network, self.sparsity, training.resources)
        elif is_masked:
            for layer in layers:
                replace_mask_(layer, torch.ones_like(layer.weight, dtype=torch.bool))

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()
