"""Gates on channels that learn to close: L0 regularisation with hard-concrete gates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups, best_first, channel_groups, choose
from paretrim.graph.types import IntArray
from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.prune.channel_scores import norms_behind
from paretrim.stages.prune.channels import require_removable, without_channels
from paretrim.stages.prune.unread import untrained
from paretrim.train.budget import AtLeastOne, Budget, Fraction, NotNegative, Positive
from paretrim.train.losses import LossTerm, Outputs
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="gates",
        kind="stage",
        source="Louizos et al. 2018, arXiv 1712.01312",
        what="train a random gate on every channel with a penalty on open gates; remove the channels whose gates close",
        formula="z = min(1, max(0, 1.2 s - 0.1)), s = sigmoid((log u - log(1 - u) + log a) / (2/3)), u ~ U(0, 1)\n"
        "loss + weight * sum over channels of sigmoid(log a - 2/3 log(0.1 / 1.1)); at the end u = 1/2 without noise",
        recipe="gates",
    ),
)

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Temperature of the concrete distribution, and the interval it is stretched to. Source: Louizos et al. 2018, section 4."""

GATES = "gates"
"""Key of the stage's module."""


@settings(idle=(untrained("weight", "rate"),))
class Gates:
    """Train random gates on channels after BatchNorm with a penalty on open gates, then remove channels.

    Each channel is multiplied by its gate z in [0, 1], drawn again for every batch; channels that are added together share one.
    ``weight`` times the expected number of open gates is added to the loss. Gates learn ``rate`` times as fast as weights.
    ``drop`` sets their initial state: the paper trains from scratch with 0.3 and 0.5; here the network is already trained and
    gates start open. At the end channels with closed gates are removed; with ``sparsity`` exactly that share, those with the
    smallest gates. The other gates are folded into the BatchNorm. Gates never ship. Every set of channels keeps at least one;
    the number of remaining channels is rounded up to ``multiple_of``.

    Source: Louizos et al. 2018, "Learning sparse neural networks through L0 regularization", arXiv 1712.01312, equations 10 to
    13.

    Raises:
        InvalidRecipe: a sparsity of 1.
    """

    name: ClassVar[str] = "gates"
    budget: Budget = Field(default_factory=Budget)
    weight: NotNegative = 0.01
    rate: Positive = 10.0
    drop: Annotated[float, Field(gt=0.0, lt=1.0, strict=True)] = 0.05
    sparsity: Fraction | None = None
    multiple_of: AtLeastOne = 1

    def __post_init__(self) -> None:
        if self.sparsity == 1:
            raise InvalidRecipe("gates: a channel sparsity of 1 leaves no network; stay below 1")

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with a gate for every channel.

        Raises:
            InvalidRecipe: no channel has a BatchNorm behind every layer that makes it.
        """
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        groups = channel_groups(private.graph(weights=False))
        if not len(_gated(private, groups)):
            raise InvalidRecipe(
                "gates: gates are attached to BatchNorm, and no channel has one behind every layer that makes it; use prune"
            )
        require_removable(groups.sets, self.multiple_of, self.name)
        gates = HardConcrete(groups.count, drop=self.drop)
        return Training(private, resources, nn.ModuleDict({GATES: gates}))

    def advance(self, training: Training, progress: float, /) -> None:
        """Attach gates to the current layers; at the end remove closed channels and fold the other gates into BatchNorm."""
        network, gates = training.network, cast(HardConcrete, training.extra[GATES])
        groups = channel_groups(network.graph(weights=False))
        if gates.log_alpha.numel() != groups.count:
            return  # already finished, or another part of the stage has changed the channels
        gated = _gated(network, groups)
        if progress == 1:
            _fold_(network, groups, gates, gated)
            network.become_(without_channels(network, groups, self._closed(groups, gates, gated)))
        else:
            _attach_(network, groups, gates, gated)

    def _closed(self, groups: ChannelGroups, gates: HardConcrete, gated: IntArray) -> IntArray:
        """The classes to remove."""
        open_first = gates.log_alpha.detach().double().cpu().numpy()
        least = min(0.0, float(open_first.min()))
        scores = np.where(np.isin(np.arange(groups.count), gated), open_first - least, open_first.max() - least + 1)
        ordered = best_first(groups, scores)
        if self.sparsity is not None:
            keys = [scores[members] for members in ordered]
            return choose(groups, scores, self.sparsity, allocation="global", multiple_of=self.multiple_of, keys=keys)
        values = gates.settled().cpu().numpy()
        removed = [np.empty(0, dtype=np.int64)]
        for members in ordered:
            alive = int(((values[members] > 0) | ~np.isin(members, gated)).sum())
            removed.append(members[math.ceil(max(1, alive) / self.multiple_of) * self.multiple_of :])
        return np.sort(np.concatenate(removed))

    def observe(self, training: Training, _step: Step, /) -> None:
        """Let gates learn faster than weights."""
        gradient = cast(HardConcrete, training.extra[GATES]).log_alpha.grad
        if gradient is not None:
            gradient.mul_(self.rate)

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """The expected number of open gates, beside the task's loss."""

        def penalty(outputs: Outputs) -> Tensor:
            return cast(HardConcrete, outputs.extra[GATES]).open_probability().sum()

        return (LossTerm(penalty, weight=self.weight, penalty=True),)


class HardConcrete(nn.Module):
    """Random gates in [0, 1] that are exactly 0 or 1 with some probability, one for each channel class."""

    def __init__(self, count: int, *, drop: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((count,), math.log((1 - drop) / drop)))

    def forward(self) -> Tensor:
        """A draw [n]."""
        u = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
        s = torch.sigmoid((torch.log(u) - torch.log(1 - u) + self.log_alpha) / TEMPERATURE)
        return (s * (HIGH - LOW) + LOW).clamp(0, 1)

    def settled(self) -> Tensor:
        """The gates without noise [n]."""
        return (torch.sigmoid(self.log_alpha.detach()) * (HIGH - LOW) + LOW).clamp(0, 1)

    def open_probability(self) -> Tensor:
        """The probability that a draw is not 0, [n]."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def _gated(network: Network, groups: ChannelGroups) -> IntArray:
    """The removable classes that have a BatchNorm behind every layer that makes them."""
    norms = norms_behind(network)
    bare = [groups.classes[name] for name in groups.producers if name not in norms]
    removable = np.concatenate([np.empty(0, dtype=np.int64), *groups.sets])
    return np.setdiff1d(removable, np.concatenate([np.empty(0, dtype=np.int64), *bare]))


def _attach_(network: Network, groups: ChannelGroups, gates: HardConcrete, gated: IntArray) -> None:
    """Make every BatchNorm multiply its channels by their gates; one draw is used for a whole forward pass."""
    drawn: list[Tensor] = []

    def values(*, first: bool, draw: bool) -> Tensor:
        if not draw:
            return gates.settled()
        if first or not drawn:
            drawn[:] = [gates()]
        return drawn[0]

    for number, (name, batch_norm) in enumerate(norms_behind(network).items()):
        batch_norm.gate = _gate(values, groups.classes[name], gated, first=number == 0)


def _gate(values: Callable[..., Tensor], classes: IntArray, gated: IntArray, *, first: bool) -> Callable[[bool], Tensor]:
    owners, taken = torch.from_numpy(classes), torch.from_numpy(np.isin(classes, gated))

    def gate(draw: bool) -> Tensor:
        found = values(first=first, draw=draw)
        return torch.where(taken.to(found.device), found[owners.to(found.device)], 1.0)

    return gate


def _fold_(network: Network, groups: ChannelGroups, gates: HardConcrete, gated: IntArray) -> None:
    """Fold the gates without noise into the BatchNorm."""
    settled = gates.settled()
    for name, batch_norm in norms_behind(network).items():
        gate = _gate(lambda **_: settled, groups.classes[name], gated, first=False)(False)
        with torch.no_grad():
            for parameter in (batch_norm.gamma, batch_norm.beta):
                parameter.mul_(gate.to(parameter.device))
        batch_norm.gate = None
