"""RigL: sparse training that regularly drops the smallest weights and grows those with the largest gradients."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import replace_mask_
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.prune.allocation import Allocation
from paretrim.stages.prune.patterns import CHANNEL, Pattern, block_alive, block_scores, expand, parse_pattern
from paretrim.stages.prune.scores import largest
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import Prune, pruning
from paretrim.stages.prune.unread import untrained
from paretrim.train.budget import AtLeastOne, Budget, Fraction
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


_IDLE = (
    Idle(("every", "until"), lambda stage: stage.drop == 0, "drop is 0, so that masks never change", "set drop above 0"),
    Idle(("every", "drop"), lambda stage: stage.until == 0, "until is 0, so that masks never change", "set until above 0"),
    untrained("every", "drop", "until"),
)


@settings(idle=_IDLE)
class RigL(Selection):
    """Start with random masks; at intervals drop the smallest weights and grow the zeros with the largest gradients.

    ``sparsity``, ``pattern`` (``unstructured`` or ``1x4``), ``allocation``, ``score`` and the choice of layers
    (``first`` to ``ignore``) are those of :class:`Prune` and determine the initial masks, which keep earlier zeros. Every
    ``every`` steps, up to progress ``until``, each layer drops the smallest ``drop / 2 * (1 + cos(pi * progress / until))`` of
    its weights or blocks and grows as many with the largest gradients, starting at 0. Masks may grow where an earlier stage had
    pruned.

    Source: Evci et al. 2020, "Rigging the lottery", arXiv 1911.11134, section 3.

    Raises:
        InvalidRecipe: the pattern has no blocks that could move, or ``prune`` rejects a setting.
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
        """A pruned copy; gradients of its zeros are computed too."""
        return Training(self._prune().begin(network, resources).network, resources, dense_gradients=True)

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: masks are updated in :meth:`observe`."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Update the masks every ``every`` steps."""
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
    """A mask with equally many blocks: ``share`` of them, the smallest, are replaced by those with the largest gradients.

    A dropped block may be grown again at once if its gradient is large enough; it then keeps its value.

    Args:
        mask: bool [Co, ...], of whole blocks.
        weight: of the same shape.
        gradient: of the loss with respect to every weight, pruned ones included.
        share: of the kept blocks, in [0, 1]; rounded to whole blocks.
        pattern: what a block is; not a pattern that sets the sparsity.
    """
    alive = block_alive(mask, pattern)
    living = int(alive.sum())
    count = round(share * living)
    staying = largest(block_scores(weight.abs(), pattern).where(alive, -math.inf), living - count)
    grown = largest(block_scores(gradient.abs(), pattern).where(~staying, -math.inf), count)
    return expand(staying | grown, weight.shape, pattern).clone()
