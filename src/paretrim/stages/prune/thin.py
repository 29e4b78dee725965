"""The same network with fewer channels, trained from scratch: the baseline for channel pruning."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import channel_groups, choose
from paretrim.method import Method
from paretrim.network.constraints import hold_masks_, weighted_layers
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.prune.channels import require_removable, without_channels
from paretrim.train.budget import AtLeastOne, Budget, Fraction
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="thin",
        kind="stage",
        source="Liu et al. 2019, arXiv 1810.05270 (rethinking pruning); as ThinResNet in Luo et al. 2017, arXiv 1707.06342",
        what="the baseline for channel pruning: the same network with fewer channels in every layer, trained from scratch",
        formula="conv (Co, Ci, kh, kw) -> ((1 - sparsity) Co, (1 - sparsity) Ci, kh, kw), with new initial weights",
        recipe="thin",
    ),
)


@settings()
class Thin:
    """Remove the share ``sparsity`` of the channels of every layer, reinitialise all weights, and train from scratch.

    The widths are those of ``prune`` with the pattern ``channel`` and the allocation ``uniform``; they are rounded up to
    ``multiple_of``. For a fair comparison with pruning, train it as long as dense training and pruning together. Convolutions are
    initialised with variance 2 / fan-out, linear layers as in torch; BatchNorm is reset. Masks of earlier stages are kept.

    Source: Liu et al. 2019, "Rethinking the value of network pruning", arXiv 1810.05270, "Scratch-B"; He et al. 2015, section
    2.2, for the weights.

    Raises:
        InvalidRecipe: a sparsity of 1.
    """

    name: ClassVar[str] = "thin"
    budget: Budget = Field(default_factory=Budget)
    sparsity: Fraction = 0.5
    multiple_of: AtLeastOne = 1

    def __post_init__(self) -> None:
        if self.sparsity == 1:
            raise InvalidRecipe("thin: a channel sparsity of 1 leaves no network; stay below 1")

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A smaller network with new initial weights."""
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        groups = channel_groups(private.graph(weights=False))
        require_removable(groups.sets, self.multiple_of, self.name)
        removed = choose(groups, np.ones(groups.count), self.sparsity, allocation="uniform", multiple_of=self.multiple_of)
        thin = without_channels(private, groups, removed)
        reinitialise_(thin)
        return Training(thin, resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: nothing depends on progress."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()


def reinitialise_(network: Network) -> None:
    """Draw new weights for all layers that train, from torch's random stream, and reset BatchNorm."""
    layers = [layer for layer in weighted_layers(network).values() if layer.weight.requires_grad]
    with torch.no_grad():
        for layer in layers:
            if layer.weight.dim() == 4:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                bound = 0.0
            else:
                bound = layer.weight.shape[1] ** -0.5  # as torch's own linear layers
                nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound)
        for batch_norm in network.batch_norms().values():
            for tensor, value in (
                (batch_norm.gamma, 1.0),
                (batch_norm.beta, 0.0),
                (batch_norm.mean, 0.0),
                (batch_norm.variance, 1.0),
            ):
                tensor.fill_(value)
    hold_masks_(layers)
