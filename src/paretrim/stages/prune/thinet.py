"""ThiNet: removes channels layer by layer, by their effect on the output of the next layer."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, StrictBool
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups, channel_groups
from paretrim.graph.operations.channel_rules import groups_of, is_depthwise
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import IntArray, Node
from paretrim.method import Method
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.layer_inputs import Moments, as_columns, layer_moments
from paretrim.stages.prune.channels import require_removable, silence_, silenced, without_channels
from paretrim.stages.prune.surgeon import damped, fitted
from paretrim.stages.prune.unread import untrained
from paretrim.train.budget import AtLeastOne, Budget, Fraction
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="thinet",
        kind="stage",
        source="Luo et al. 2017 (ThiNet), arXiv 1707.06342",
        what="remove, layer by layer, the channels whose removal changes the next layer's output least; then scale the others",
        formula="greedily minimise sum (sum over removed c of x_c)^2, x_c = what c adds to the next layer's output\n"
        "then minimise over s: sum (y - sum over kept c of s_c x_c)^2",
        recipe="thinet",
    ),
)


@settings(idle=(untrained("until"),))
class ThiNet:
    """Remove ``sparsity`` of the channels of one layer at a time, first to last, with training in between.

    A channel contributes ``x_c`` to the output of the next layer. The channels to remove are chosen one by one so that the
    squared sum of their contributions, over all calibration images, positions and outputs, stays smallest. The weights that read
    the remaining channels are then scaled by least squares. The layers are pruned at equal intervals up to progress ``until``;
    then training continues. Without epochs all layers are pruned at once. The remaining channels are rounded up to
    ``multiple_of``.

    As published, channels that are added to others (the outputs of residual blocks) are kept. With ``coupled`` they are pruned
    too, by the sum of the relative errors of all layers that read them. The paper samples ten positions per image; here all
    count.

    Source: Luo et al. 2017, "ThiNet: a filter level pruning method for deep neural network compression", arXiv 1707.06342,
    sections 3.2 and 3.3, equations 6 and 7; one or two epochs for each layer, section 3.1.

    Raises:
        InvalidRecipe: a sparsity of 1.
    """

    name: ClassVar[str] = "thinet"
    budget: Budget = Field(default_factory=Budget)
    sparsity: Fraction = 0.5
    until: Fraction = 0.8
    multiple_of: AtLeastOne = 1
    coupled: StrictBool = False

    def __post_init__(self) -> None:
        if self.sparsity == 1:
            raise InvalidRecipe("thinet: a channel sparsity of 1 leaves no network; stay below 1")

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy of the network.

        Raises:
            InvalidRecipe: no layer has channels that may be removed.
        """
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        groups = channel_groups(private.graph(weights=False))
        require_removable(groups.sets, self.multiple_of, self.name)
        sets = self._sets(private, groups)
        if not sets:
            raise InvalidRecipe(
                "thinet: every channel of this network is added to others or is an output, so none may be removed; set coupled "
                "to true"
            )
        require_removable(sets, self.multiple_of, self.name)
        return Training(private, resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Silence channels of the layers whose turn it is; at the end remove them for good."""
        network = training.network
        groups = channel_groups(network.graph(weights=False))
        sets = self._sets(network, groups)
        turn = len(sets) if progress >= self.until else math.floor(progress / self.until * len(sets) + _SLACK) + 1
        gone = silenced(network, groups)
        for members in sets[:turn]:
            stay = math.ceil((len(members) - round(self.sparsity * len(members))) / self.multiple_of) * self.multiple_of
            if not np.isin(members, gone).any() and max(1, stay) < len(members):
                _thin_(network, training.resources.calibration, groups, members, len(members) - max(1, stay))
        if progress == 1:
            network.become_(without_channels(network, groups, silenced(network, groups)))

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()

    def _sets(self, network: Network, groups: ChannelGroups) -> list[IntArray]:
        """The sets of channels to prune, in the order of the network."""
        return [
            members
            for members in groups.sets
            if readers(network, groups, members) and (self.coupled or len(_writers(network, groups, members)) == 1)
        ]


_SLACK = 1e-9
"""Rounding error allowed in shares of the budget."""


def _dense_nodes(network: Network) -> list[tuple[Node, WeightedLayer]]:
    """Weighted nodes except depthwise convolutions, which only pass channels through."""
    layers = weighted_layers(network)
    found = [(node, layers[node.name]) for node in network.structure.nodes if node.op in WEIGHTED]
    return [(node, layer) for node, layer in found if not is_depthwise(node, tuple(layer.weight.shape))]


def _writers(network: Network, groups: ChannelGroups, members: IntArray) -> list[str]:
    nodes = _dense_nodes(network)
    return [node.name for node, _ in nodes if np.isin(groups.classes[node.name], members).any()]


def readers(network: Network, groups: ChannelGroups, members: IntArray) -> list[str]:
    """The layers that mix these classes of channels."""
    nodes = _dense_nodes(network)
    return [node.name for node, _ in nodes if np.isin(groups.classes[node.inputs[0]], members).any()]


def _thin_(network: Network, images: Tensor, groups: ChannelGroups, members: IntArray, count: int) -> None:
    """Silence ``count`` of these classes, and scale the weights that read the others."""
    layers = weighted_layers(network)
    products: dict[str, Tensor] = {}
    owners: dict[str, Tensor] = {}

    def collect(node: Node, moments: Moments) -> None:
        columns = as_columns(layers[node.name].masked_weight().detach(), groups_of(node)).double()
        owners[node.name] = _owners(groups.classes[node.inputs[0]], members, groups_of(node)).to(columns.device)
        products[node.name] = contributions(columns, moments.inputs, owners[node.name])

    layer_moments(network, network, images, readers(network, groups, members), collect)
    energies = {name: float(product.sum()) for name, product in products.items()}
    total = torch.stack([product / energy if (energy := energies[name]) > 0 else product for name, product in products.items()])
    removed = greedy_removal(total.sum(0), count)
    stay = torch.ones(len(members), dtype=torch.bool, device=total.device)
    stay[removed] = False
    for name, product in products.items():
        _scale_columns_(layers[name], owners[name], least_squares_scales(product, stay))
    silence_(network, groups, np.sort(members[removed.cpu().numpy()]))


def _owners(classes: IntArray, members: IntArray, groups: int) -> Tensor:
    """For every input channel [G, Ci] its position among ``members``, -1 for other classes."""
    places = np.full(int(max(classes.max(), members.max())) + 1, -1, dtype=np.int64)
    places[members] = np.arange(len(members))
    return torch.from_numpy(places[classes]).reshape(groups, -1)


def contributions(columns: Tensor, inputs: Tensor, owners: Tensor) -> Tensor:
    """Mean products of the contributions of two channels to the outputs of a layer, summed over outputs, float64 [n, n].

    Args:
        columns: weights [G, R, D] with D in the order [kernel, Ci].
        inputs: mean of ``u u^T`` of the inputs, [G, D, D].
        owners: which of n channels each input channel is, [G, Ci]; -1 for none of them.
    """
    kernel = columns.shape[2] // owners.shape[1]
    count = int(owners.max()) + 1
    total = torch.zeros(count, count, dtype=torch.float64, device=columns.device)
    for group, owner in enumerate(owners):
        both = (columns[group].T @ columns[group]) * inputs[group]
        wide = torch.cat([owner] * kernel)
        mine = torch.nonzero(wide >= 0).flatten()
        which = torch.nn.functional.one_hot(wide[mine], count).double()
        total += which.T @ both[mine][:, mine] @ which
    return total


def greedy_removal(products: Tensor, count: int) -> Tensor:
    """``count`` channels in order of removal: each keeps the squared sum of all removed contributions smallest.

    Args:
        products: mean products of the contributions of two channels, [n, n].
        count: how many to remove, at most n.
    """
    own, across = products.diagonal().clone(), torch.zeros(len(products), dtype=products.dtype, device=products.device)
    removed: list[int] = []
    for _ in range(count):
        # The error of those already removed is the same for all candidates.
        costs = own + 2 * across
        if removed:
            costs[removed] = torch.inf
        chosen = int(costs.argmin())
        removed.append(chosen)
        across = across + products[:, chosen]
    return torch.tensor(removed, dtype=torch.int64, device=products.device)


def least_squares_scales(products: Tensor, stay: Tensor) -> Tensor:
    """Scales [n] for the remaining channels, 0 for the others, that bring their sum closest to that of all channels.

    Args:
        products: mean products of the contributions of two channels, [n, n].
        stay: which channels remain, bool [n].
    """
    return fitted(damped(products, _DAMPING), (products.sum(1) + _DAMPING * products.diagonal().mean())[None], stay[None])[0]


_DAMPING = 1e-6
"""Share of the mean diagonal that pulls scales towards 1: channels that contribute nothing keep scale 1."""


def _scale_columns_(layer: WeightedLayer, owners: Tensor, scales: Tensor) -> None:
    """Multiply the weights [Co, Ci, ...] that read each channel by its scale; channels without an owner are not changed."""
    groups, inputs = owners.shape
    factors = torch.where(owners >= 0, scales[owners.clamp(min=0)], 1.0).to(layer.weight.dtype)
    rows = factors.repeat_interleave(len(layer.weight) // groups, 0)
    with torch.no_grad():
        layer.weight.mul_(rows.reshape(len(layer.weight), inputs, *[1] * (layer.weight.dim() - 2)))
