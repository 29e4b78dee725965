"""Straight-through masks: pruned weights keep learning behind the mask, and are restored when they are large enough."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import WeightedLayer, key_of
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.prune.allocation import masks
from paretrim.stages.prune.hidden import Memory, give_masks_, hide_, memory_of, put_masks_
from paretrim.stages.prune.patterns import CHANNEL, parse_pattern
from paretrim.stages.prune.schedule import cubic
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import Prune, pruning
from paretrim.stages.prune.unread import OF_GROUPS, is_grouped, untrained
from paretrim.train.budget import AtLeastOne, Budget, Fraction, NotNegative
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="straight_through",
        kind="stage",
        source="Lin et al. 2020 (DPF), arXiv 2006.07253; decay of Zhou et al. 2021 (SR-STE), arXiv 2102.04010",
        what="train all weights, pruned ones too, with the gradients of the pruned network; masks are updated until they freeze",
        formula="mask = top-k of |w|; dL/dw = dL/d(mask * w) for all w, + decay * w for pruned w",
        recipe="straight-through",
    ),
)


class _FreezableMemory(Memory):
    """Also whether the masks are frozen."""

    frozen: Tensor

    def __init__(self, layer: WeightedLayer) -> None:
        super().__init__(layer)
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))


_IDLE = (
    OF_GROUPS,
    Idle(
        ("end",),
        lambda stage: is_grouped(stage.pattern),
        "pattern {pattern} has its full sparsity from start on",
        "set pattern to unstructured or 1x4",
    ),
    Idle(("every", "decay"), lambda stage: stage.freeze == 0, "freeze is 0, so that masks never change", "set freeze above 0"),
    untrained("every", "start", "end", "freeze", "decay"),
)


@settings(idle=_IDLE)
class StraightThrough(Selection):
    """Prune the smallest weights, pass gradients straight through the mask to all weights, and update the masks as they change.

    The network computes with ``mask * w``; the gradient of that product trains ``w`` everywhere. Every ``every`` steps the masks
    are those of the largest weights, hidden ones included, at the sparsity of a cubic schedule from progress ``start`` to ``end``
    (n:m: the full sparsity from ``start`` on). From progress ``freeze`` on the masks are fixed and pruned weights are 0.
    ``decay`` pulls pruned weights towards 0, so that fewer are restored. What an earlier stage pruned stays pruned.

    ``sparsity``, ``pattern`` (not ``channel``), ``allocation`` (``global``, ``uniform``, ``erk`` or ``lamp``) and the choice
    of layers (``first`` to ``ignore``) are those of :class:`Prune`.

    Source: Lin et al. 2020, "Dynamic model pruning with feedback", arXiv 2006.07253, section 4: a mask every 16 steps; ``decay``:
    Zhou et al. 2021, "Learning N:M fine-grained structured sparse neural networks from scratch", arXiv 2102.04010, equation 9,
    with 2e-4.

    Raises:
        InvalidRecipe: the schedule ends after the masks freeze, the pattern is ``channel``, or ``prune`` rejects a setting.
    """

    name: ClassVar[str] = "straight_through"
    masks_grow: ClassVar[Literal[True]] = True
    budget: Budget = Field(default_factory=Budget)
    sparsity: Annotated[float, Field(ge=0.0, lt=1.0, strict=True)] = 0.9
    allocation: Literal["global", "uniform", "erk", "lamp"] = "global"
    every: AtLeastOne = 16
    start: Fraction = 0.0
    end: Fraction = 0.5
    freeze: Fraction = 0.75
    decay: NotNegative = 0.0

    def __post_init__(self) -> None:
        if self.pattern == CHANNEL:
            raise InvalidRecipe("straight_through: whole channels have no mask; choose pattern unstructured, 1x4 or n:m")
        if not self.start <= self.end <= self.freeze:
            raise InvalidRecipe(
                f"straight_through: start, end and freeze are {self.start}, {self.end} and {self.freeze}; the schedule must end "
                "before the masks freeze, so give them in ascending order"
            )
        self._prune()

    def _prune(self) -> Prune:
        """Makes the masks."""
        return pruning(self, self.sparsity, allocation=self.allocation)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with masks, new ones being all ones; an unreachable sparsity is rejected here."""
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        self._prune().masks_of(private, self.sparsity, resources)
        layers = self.layers_of(private)
        extra = nn.ModuleDict({key_of(name): _FreezableMemory(layer) for name, layer in layers.items()})
        give_masks_(layers)
        return Training(private, resources, extra, dense_gradients=True)

    def advance(self, training: Training, progress: float, /) -> None:
        """Freeze the masks once ``freeze`` is reached."""
        layers = self.layers_of(training.network)
        memories = {name: memory_of(training, name, layer) for name, layer in layers.items()}
        hidden = progress < self.freeze
        if not hidden:
            moving = {name: layer for name, layer in layers.items() if not bool(memories[name].get_buffer("frozen"))}
            if moving:
                put_masks_(layers, self._masks(layers, memories, 1.0))
            for memory in memories.values():
                memory.get_buffer("frozen").fill_(value=True)
        hide_(layers, hidden=hidden)

    def observe(self, training: Training, step: Step, /) -> None:
        """Pass gradients through to all weights, and update the masks every ``every`` steps."""
        if step.progress >= self.freeze:
            return
        layers = self.layers_of(training.network)
        memories = {name: memory_of(training, name, layer) for name, layer in layers.items()}
        for name, layer in layers.items():
            weight, pruned = layer.weight.detach(), ~torch.as_tensor(layer.mask)
            layer.weight.grad = (step.dense_gradients[name] + self.decay * weight * pruned) * memories[name].alive
        if step.number % self.every == 0:
            put_masks_(layers, self._masks(layers, memories, step.progress))

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()

    def _masks(self, layers: Mapping[str, WeightedLayer], memories: Mapping[str, Memory], progress: float) -> dict[str, Tensor]:
        """The masks of the largest weights at this progress."""
        pattern = parse_pattern(self.pattern)
        alive = {name: memory.alive for name, memory in memories.items()}
        wanted = cubic(progress, start=self.start, end=self.end, initial=0.0, final=self.sparsity)
        if pattern.fixed:
            if progress < self.start:
                return alive
            wanted = self.sparsity
        sizes = {name: layer.weight.detach().abs() for name, layer in layers.items()}
        return masks(sizes, wanted, method=self.allocation, pattern=pattern, alive=alive)
