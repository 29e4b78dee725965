"""RigL: a sparse network whose smallest weights give their place to those with the largest gradients, while it trains."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import replace_mask_
from paretrim.network.network import Network
from paretrim.stages.prune.allocation import Allocation
from paretrim.stages.prune.patterns import Pattern, block_alive, block_scores, expand, parse_pattern
from paretrim.stages.prune.scores import largest
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import CHANNEL, Prune, pruning
from paretrim.train.budget import STRICT, AtLeastOne, Budget, Fraction
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="rigl",
        kind="stage",
        source="Evci et al. 2020, arXiv 1911.11134",
        what="drop the smallest weights and grow those with the largest gradients, while the network trains",
        formula="drop share a/2 (1 + cos(pi t / T)); grow by |dL/dw|",
        recipe="rigl",
    ),
)


@dataclass(frozen=True, config=STRICT)
class RigL(Selection):
    """Start with random masks; at intervals the smallest weights go and the zeros with the largest gradients come.

    ``sparsity``, ``pattern`` (``unstructured`` or ``1x4``), ``allocation``, ``score``, ``first``, ``last`` and ``depthwise`` are
    those of :class:`Prune` and make the masks at the beginning, among weights that are alive. Every ``every`` steps, up to
    progress ``until``, each layer drops ``drop / 2 * (1 + cos(pi * progress / until))`` of its weights or blocks, the smallest,
    and grows as many with the largest gradients, which begin at 0. Masks may grow where an earlier stage had pruned.

    Source: Evci et al. 2020, "Rigging the lottery", arXiv 1911.11134, section 3.

    Raises:
        InvalidRecipe: the pattern has no blocks that could move, or a setting is refused as by ``prune``.
    """

    name: ClassVar[str] = "rigl"
    masks_grow: ClassVar[Literal[True]] = True
    budget: Budget = Field(default_factory=Budget)
    sparsity: Fraction = 0.8
    allocation: Allocation = "erk"
    score: str = "random"
    every: AtLeastOne = 100
    drop: Fraction = 0.3
    until: Fraction = 0.75

    def __post_init__(self) -> None:
        if self.pattern == CHANNEL or parse_pattern(self.pattern).fixed:
            raise InvalidRecipe(f"rigl: pattern {self.pattern} has no blocks that can move; choose unstructured or 1x4")
        self._prune()

    def _prune(self) -> Prune:
        """Makes the masks."""
        return pruning(self, self.sparsity, allocation=self.allocation, score=self.score)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A pruned copy, with gradients of its zeros."""
        return Training(self._prune().begin(network, resources).network, resources, dense_gradients=True)

    def advance(self, training: Training, progress: float, /) -> None:
        """Nothing ramps: masks move in steps."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Move the masks if it is time to."""
        if step.number == 0 or step.number % self.every or step.progress >= self.until:
            return
        share = self.drop / 2 * (1 + math.cos(math.pi * step.progress / self.until))
        pattern = parse_pattern(self.pattern)
        for name, layer in self.layers_of(training.network).items():
            if layer.mask is not None:
                replace_mask_(layer, moved(layer.mask, layer.weight.detach(), step.dense_gradients[name], share, pattern))

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()


def moved(mask: Tensor, weight: Tensor, gradient: Tensor, share: float, pattern: Pattern) -> Tensor:
    """The mask with as many blocks, of which ``share`` are others: without the smallest, with the steepest.

    What is dropped may grow again at once if it is steeper than all others; it then keeps its value.

    Args:
        mask: bool [Co, ...], of whole blocks.
        weight: of the same shape.
        gradient: of the loss by every weight, pruned ones included.
        share: of the living blocks, in [0, 1]; rounded to whole blocks.
        pattern: what a block is; none that fixes the sparsity.
    """
    alive = block_alive(mask, pattern)
    living = int(alive.sum())
    count = round(share * living)
    staying = largest(block_scores(weight.abs(), pattern).where(alive, -math.inf), living - count)
    grown = largest(block_scores(gradient.abs(), pattern).where(~staying, -math.inf), count)
    return expand(staying | grown, weight.shape, pattern).clone()
