"""Pruning as a stage: single weights, blocks, n:m groups or whole channels, in one shot or gradually."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, StrictBool
from torch import Tensor

from paretrim.curves import Curve, Sensitivity
from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups, channel_groups
from paretrim.graph.types import IntArray
from paretrim.method import Method
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.settings import default_of, settings
from paretrim.stages.prune.allocation import Allocation, masks
from paretrim.stages.prune.block_costs import BY_COST, block_costs
from paretrim.stages.prune.channels import choose_channels, require_removable, silence_, without_channels
from paretrim.stages.prune.measured import fastest_multiple
from paretrim.stages.prune.patterns import CHANNEL, block_shape, parse_pattern
from paretrim.stages.prune.regroup import regrouped
from paretrim.stages.prune.schedule import Schedule, cubic
from paretrim.stages.prune.score_table import ROUNDS, SECOND_ORDER, channel_scores_of, check_score, scores_of
from paretrim.stages.prune.second_order import compensate_, second_order_scores
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.sensitivity import scan_channels, scan_weights
from paretrim.stages.prune.unread import OF_PRUNE
from paretrim.stored_fields import LATER
from paretrim.train.budget import AtLeastOne, Budget, Fraction, Positive
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

MAGNITUDE = "magnitude"
"""The score that needs only weights."""

METHODS = (
    Method(
        name="prune",
        kind="stage",
        source="Han et al. 2015, arXiv 1506.02626",
        what="set the weights with the smallest scores to zero for good, or remove channels, and train the rest",
        formula="w_effective = mask * w; masks only shrink",
        recipe="magnitude",
    ),
    Method(
        name=CHANNEL,
        kind="pattern",
        source="Li et al. 2017, arXiv 1608.08710",
        what="remove whole output channels, which saves time in every runtime",
        formula="conv (Co, Ci, kh, kw) -> (Co', Ci', kh, kw); channels that are added or multiplied are removed together",
        recipe="channels",
        settings=("prune.multiple_of",),
    ),
)


@settings(idle=OF_PRUNE)
class Prune(Selection):
    """Set the smallest weights to zero for good, or remove the weakest channels.

    ``sparsity`` is the share of zeros among the prunable weights (blocks for ``1x4``) or the share of removed channels; it is
    reached exactly, also 0 and 1. ``pattern``: ``unstructured``, ``1x4``, ``n:m`` (whose sparsity is 1 - n/m) or ``channel``.
    ``allocation`` splits the sparsity over the layers: ``global``, ``uniform``, ``erk``, ``lamp``, ``cost``, ``speed``,
    ``sensitivity`` (channels: ``global``, ``uniform`` or ``sensitivity``). ``sensitivity`` first prunes one layer at a time at
    rising sparsity and measures the loss on validation images, as many as there are calibration images; it needs ``one_shot``.
    ``schedule``: ``one_shot`` prunes before training, ``cubic`` from progress ``start`` to ``end``. ``first`` and ``last`` say
    whether to prune the first convolution and the last weighted layer, ``depthwise`` whether to prune depthwise convolutions,
    whose zeros cost accuracy and gain little speed; channels read none of them, and outputs of the network always stay.
    ``layers`` and ``ignore`` are lists of layer names or patterns (``["layer3.*"]``): only these layers, and not these. The
    sparsity is that of the selected layers, so several stages may give every part of a network its own. Channels that layers
    share are only removed if all of these layers are selected. The number of remaining channels is rounded up to
    ``multiple_of``; with ``measured`` (and ``one_shot``) to whichever of 1, 4, 8 and 16 is fastest in the native runtime on this
    machine.

    ``score`` says which weights or channels are pruned first: ``magnitude``, ``taylor``, ``random``, ``snip``, ``grasp``,
    ``synflow``, ``fisher``, ``obs`` (second-order: the error of the layer's output if the other weights compensate; not for
    channels), for channels also ``l1``, ``batchnorm``, ``taylor_gate``, ``nisp``, ``hkdp``, or a function of your own as
    ``package.module:function``. Under ``cubic`` it is computed
    again whenever the sparsity rises. ``one_shot`` prunes single weights and blocks in ``rounds``, with densities
    ``(1 - sparsity)^(k / rounds)`` and the score recomputed in each; by default in one, for ``synflow`` in 100.

    ``compensate`` fits the remaining weights, layer by layer, so that every layer keeps its outputs on calibration images:
    pruning without training. It needs ``one_shot``, and works with every score and every pattern except ``channel``.

    ``costs``, for the allocations ``cost`` and ``speed``, is the cost of one kept block of each layer, for example in measured
    microseconds. Without it, ``cost`` counts the positions at which a block is multiplied, and ``speed`` also adds reading it.

    ``regroup`` first reorders channels so that blocks of four keep more; the network computes the same, at no cost at run time.
    The order is chosen once: if an earlier stage has masked weights, it is kept.

    Sources: Han et al. 2015; Zhu & Gupta 2017; Evci et al. 2020 (ERK); Lee et al. 2021 (LAMP); Li et al. 2017 (channels);
    Pool & Yu 2021 (order of channels); Hassibi & Stork 1993, Frantar & Alistarh 2022 (``obs``, ``compensate``).

    Raises:
        InvalidRecipe: settings that cannot be combined.
    """

    name: ClassVar[str] = "prune"
    budget: Budget = Field(default_factory=Budget)
    sparsity: Fraction = 0.8
    allocation: Allocation = "global"
    schedule: Schedule = "one_shot"
    start: Fraction = 0.0
    end: Fraction = 0.6
    multiple_of: AtLeastOne | Literal["measured"] = 1
    depthwise: StrictBool = dataclasses.field(default=False, metadata=LATER)
    regroup: StrictBool = dataclasses.field(default=False, metadata=LATER)
    costs: dict[str, Positive] | None = dataclasses.field(default=None, metadata=LATER)
    score: str = dataclasses.field(default=MAGNITUDE, metadata=LATER)
    rounds: AtLeastOne | None = dataclasses.field(default=None, metadata=LATER)
    compensate: StrictBool = dataclasses.field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise InvalidRecipe(
                f"prune: the schedule ends at {self.end}, before its start at {self.start}; set end to at least start"
            )
        check_score(self.score, channels=self.pattern == CHANNEL)
        self._check_rounds()
        if self.regroup and self.score != MAGNITUDE:
            raise InvalidRecipe(
                f"prune: regroup orders channels by magnitude, but score is '{self.score}'; leave one of them out"
            )
        if self.allocation == "sensitivity" and (self.schedule == "cubic" or self.regroup):
            raise InvalidRecipe(
                "prune: allocation 'sensitivity' scans the network before it is pruned in one shot; set schedule to one_shot and "
                "leave regroup out, or choose another allocation"
            )
        if self.multiple_of == "measured" and (self.pattern != CHANNEL or self.schedule == "cubic"):
            raise InvalidRecipe(
                "prune: multiple_of 'measured' is for channels that are removed in one shot; set pattern to channel and schedule "
                "to one_shot, or give a number"
            )
        if self.costs is not None and self.allocation not in BY_COST:
            raise InvalidRecipe(f"prune: allocation '{self.allocation}' does not use costs; choose cost or speed, or omit them")
        if self.compensate and (self.pattern == CHANNEL or self.schedule != "one_shot"):
            raise InvalidRecipe(
                f"prune: compensate needs schedule one_shot and does not fit channels, but pattern is {self.pattern} and "
                f"schedule {self.schedule}; leave compensate out, or change them"
            )
        if self.pattern == CHANNEL:
            if self.regroup:
                raise InvalidRecipe("prune: regroup does not apply to channels; set it in the stage that prunes in 1x4")
            if self.allocation not in ("global", "uniform", "sensitivity"):
                raise InvalidRecipe(
                    f"prune: allocation '{self.allocation}' does not apply to channels; choose global, uniform or sensitivity"
                )
            if self.sparsity == 1:
                raise InvalidRecipe("prune: a channel sparsity of 1 leaves no network; stay below 1")
            return
        pattern = parse_pattern(self.pattern)
        if self.regroup and pattern.block == 1:
            raise InvalidRecipe(f"prune: pattern {self.pattern} has no blocks to regroup; leave regroup out, or prune in 1x4")
        if pattern.sparsity is not None and self.schedule == "cubic":
            raise InvalidRecipe(
                f"prune: the sparsity of pattern {self.pattern} is fixed at {pattern.sparsity}; use schedule one_shot"
            )
        if pattern.sparsity is not None and abs(pattern.sparsity - self.sparsity) > 1e-9:
            raise InvalidRecipe(
                f"prune: pattern {self.pattern} always has sparsity {pattern.sparsity}, but sparsity is {self.sparsity} "
                f"(default 0.8); write sparsity = {pattern.sparsity}"
            )

    def _check_rounds(self) -> None:
        if self.rounds is None:
            return
        if self.schedule == "cubic":
            raise InvalidRecipe("prune: rounds are for schedule one_shot, but schedule is cubic; leave one of them out")
        if self.pattern == CHANNEL or parse_pattern(self.pattern).fixed:
            raise InvalidRecipe(
                f"prune: pattern {self.pattern} is pruned in one round; leave rounds out, or choose another pattern"
            )

    def require_prunable(self, network: Network) -> None:
        """Refuse a network in which there is nothing to prune, or this sparsity cannot be reached. No image is looked at.

        Raises:
            InvalidRecipe: as it says.
        """
        if self.pattern == CHANNEL:
            groups = channel_groups(network.graph(weights=False))
            sets = list(itertools.compress(groups.sets, self.sets_of(groups)))
            require_removable(sets, 1 if self.multiple_of == "measured" else self.multiple_of, self.name)
        else:
            self.require_reachable(network, self.sparsity)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy, already pruned if the schedule is one-shot."""
        self.require_prunable(network)
        return Training(self._begun(network, resources), resources)

    def _begun(self, network: Network, resources: Resources) -> Network:
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        if self.regroup and all(layer.mask is None for layer in weighted_layers(private).values()):
            private = self._regrouped(private)
        if self.schedule == "one_shot":
            return self._remove(private, resources) if self.pattern == CHANNEL else self._cut(private, resources)
        if self.pattern == CHANNEL:
            self._silence_(private, 0.0, resources)
        else:
            self.mask_(private, 0.0, resources)  # masks of ones, so that their shapes are known from the first step
        return private

    def advance(self, training: Training, progress: float, /) -> None:
        """Prune to the sparsity of the cubic schedule at this progress; at the end remove silenced channels."""
        if self.schedule == "one_shot":
            return
        network = training.network
        wanted = cubic(progress, start=self.start, end=self.end, initial=0.0, final=self.sparsity)
        if self.pattern != CHANNEL:
            reachable = wanted if wanted == self.sparsity else min(wanted, self._most_on_the_way(network))
            self.mask_(network, reachable, training.resources)
        elif progress < 1:
            self._silence_(network, wanted, training.resources)
        else:
            network.become_(self._remove(network, training.resources))

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()

    def _cut(self, network: Network, resources: Resources) -> Network:
        before = copy.deepcopy(network) if self.compensate else network
        self._mask_in_rounds_(network, resources)
        if self.compensate:
            compensate_(network, before, resources.calibration, list(self.layers_of(network)))
        return network

    def _mask_in_rounds_(self, network: Network, resources: Resources) -> Network:
        rounds = 1 if parse_pattern(self.pattern).fixed else self.rounds or ROUNDS.get(self.score, 1)
        for number in range(1, rounds):
            self.mask_(network, 1 - (1 - self.sparsity) ** (number / rounds), resources)
        return self.mask_(network, self.sparsity, resources)

    def mask_(self, network: Network, sparsity: float, resources: Resources) -> Network:
        """Mask the network's weights to this sparsity; pruned ones stay pruned."""
        layers = self.layers_of(network)
        for name, mask in self.masks_of(network, sparsity, resources).items():
            set_mask_(layers[name], mask)
        return network

    def masks_of(self, network: Network, sparsity: float, resources: Resources) -> dict[str, Tensor]:
        """The masks for this sparsity, by layer; the network is not changed."""
        layers, scores = self.layers_of(network), self._scores(network, resources)
        alive = {name: layer.mask for name, layer in layers.items() if layer.mask is not None}
        curves = None
        if self.allocation == "sensitivity" and not parse_pattern(self.pattern).fixed:
            curves = scan_weights(network, resources, scores, parse_pattern(self.pattern)).by_layer()
        return self._chosen(network, scores, sparsity, alive, curves)

    def _scores(self, network: Network, resources: Resources) -> dict[str, Tensor]:
        """Scores of the weights of the selected layers."""
        names = list(self.layers_of(network))
        if self.score == SECOND_ORDER:
            return second_order_scores(network, resources, names=names, pattern=parse_pattern(self.pattern))
        scores = scores_of(self.score, network, resources)
        return {name: scores[name] for name in names}

    def scan(self, network: Network, resources: Resources) -> Sensitivity:
        """The effect of zeros in one layer at a time on the loss, by this score and pattern."""
        if self.pattern == CHANNEL:
            scores = channel_scores_of(self.score, network, resources)
            return scan_channels(network, resources, scores, score=self.score, selected=self.sets_of)
        pattern = parse_pattern(self.pattern)
        return scan_weights(network, resources, self._scores(network, resources), pattern, score=self.score)

    def _chosen(
        self,
        network: Network,
        scores: Mapping[str, Tensor],
        sparsity: float,
        alive: Mapping[str, Tensor] | None = None,
        curves: Mapping[str, Curve] | None = None,
    ) -> dict[str, Tensor]:
        """The masks for these scores of the network's weights."""
        pattern = parse_pattern(self.pattern)
        costs = None
        if self.allocation in BY_COST:
            costs = block_costs(network, scores, self.costs, reading=self.allocation == "speed")
        return masks(scores, sparsity, method=self.allocation, pattern=pattern, alive=alive, costs=costs, curves=curves)

    def _most_on_the_way(self, network: Network) -> float:
        """The sparsity that leaves every layer one block: a schedule that ends at 1 passes it only in its last step."""
        pattern = parse_pattern(self.pattern)
        layers = self.layers_of(network).values()
        blocks = sum(math.prod(block_shape(layer.weight.shape, pattern)) for layer in layers)
        return 1 - len(layers) / blocks

    def _regrouped(self, network: Network) -> Network:
        names = tuple(self.layers_of(network))
        return regrouped(
            network,
            names,
            parse_pattern(self.pattern),
            lambda weights: self._chosen(network, _magnitudes(weights), self.sparsity),
        )

    def _silence_(self, network: Network, sparsity: float, resources: Resources) -> None:
        silence_(network, *self._channels(network, sparsity, resources))

    def _remove(self, network: Network, resources: Resources) -> Network:
        return without_channels(network, *self._channels(network, self.sparsity, resources))

    def _channels(self, network: Network, sparsity: float, resources: Resources) -> tuple[ChannelGroups, IntArray]:
        scores = channel_scores_of(self.score, network, resources)
        keys = None
        if self.allocation == "sensitivity":
            keys = [curve.keys() for curve in scan_channels(network, resources, scores, selected=self.sets_of).curves]

        def chosen(multiple: int) -> tuple[ChannelGroups, IntArray]:
            return choose_channels(
                network,
                scores,
                sparsity,
                allocation=self._allocation(),
                multiple_of=multiple,
                keys=keys,
                selected=self.sets_of,
            )

        if self.multiple_of != "measured":
            return chosen(self.multiple_of)
        return chosen(fastest_multiple(lambda multiple: without_channels(network, *chosen(multiple)), resources))

    def _allocation(self) -> Literal["uniform", "global"]:
        return "uniform" if self.allocation == "uniform" else "global"


def pruning(settings: Selection, sparsity: float, *, allocation: Allocation = "global", score: str = MAGNITUDE) -> Prune:
    """A prune stage that makes the masks of another stage, with that stage's selection."""
    given = {one.name: getattr(settings, one.name) for one in dataclasses.fields(Selection)}
    given |= {"sparsity": sparsity, "allocation": allocation, "score": score}
    return Prune(**{name: value for name, value in given.items() if value != default_of(Prune, name)})


def _magnitudes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in weights.items()}
