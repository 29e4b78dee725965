"""Global sparse momentum: in each step only the most important weights learn; all others decay towards zero."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.prune.allocation import masks
from paretrim.stages.prune.patterns import CHANNEL, parse_pattern
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import Prune, pruning
from paretrim.train.budget import Budget, Fraction
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="gsm",
        kind="stage",
        source="Ding et al. 2019 (GSM), arXiv 1909.12778; the pruning step of HKDP's abstract, Che et al. 2021",
        what="in each step train only the weights with the largest |w dL/dw|; the others decay and are pruned at the end",
        formula="z <- momentum z + decay w + B dL/dw; w <- w - rate z; B = 1 for the largest |w dL/dw|, else 0",
        recipe="hkdp",
    ),
)


@settings()
class Gsm(Selection):
    """In each step, train the ``1 - sparsity`` share of the weights with the largest ``|w dL/dw|``; the others only decay.

    The share applies to the whole network, so training determines the share of each layer. At the end the smallest weights are
    set to zero; most of them have decayed by then. Momentum and weight decay come from the budget; the published values are 0.98
    and 5e-4. ``pattern`` is ``unstructured`` or ``1x4``; the choice of layers (``first`` to ``ignore``) is that of
    ``prune``.

    Source: Ding et al. 2019, "Global sparse momentum SGD for pruning very deep neural networks", arXiv 1909.12778, section 3.2.
    The abstract of HKDP (Che et al. 2021) describes its pruning in these words; it is not certain to be the same method.

    Raises:
        InvalidRecipe: the pattern has no blocks, or ``prune`` rejects a setting.
    """

    name: ClassVar[str] = "gsm"
    budget: Budget = Field(default_factory=Budget)
    sparsity: Fraction = 0.8

    def __post_init__(self) -> None:
        if self.pattern == CHANNEL or parse_pattern(self.pattern).fixed:
            raise InvalidRecipe(f"gsm: pattern {self.pattern} has no blocks to rank; choose unstructured or 1x4")
        self._prune()

    def _prune(self) -> Prune:
        """Makes the masks."""
        return pruning(self, self.sparsity)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A plain copy; an unreachable sparsity is rejected here."""
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        self._prune().masks_of(private, self.sparsity, resources)
        return Training(private, resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Prune at the end."""
        if progress == 1:
            self._prune().mask_(training.network, self.sparsity, training.resources)

    def observe(self, training: Training, _step: Step, /) -> None:
        """Zero the gradients of all but the most important weights."""
        layers = self.layers_of(training.network)
        gradients = {name: layer.weight.grad for name, layer in layers.items() if layer.weight.grad is not None}
        alive = {name: layer.mask for name, layer in layers.items() if layer.mask is not None and name in gradients}
        weights = {name: layers[name].weight.detach() for name in gradients}
        for name, active in active_weights(weights, gradients, self.sparsity, self.pattern, alive=alive).items():
            gradients[name].mul_(active)

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()


def active_weights(
    weights: dict[str, Tensor],
    gradients: dict[str, Tensor],
    sparsity: float,
    pattern: str,
    *,
    alive: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The weights that learn in this step, bool by layer: those with the largest ``|w dL/dw|`` over all layers."""
    scores = {name: (weights[name] * gradients[name]).abs() for name in weights}
    return masks(scores, sparsity, method="global", pattern=parse_pattern(pattern), alive=alive)
