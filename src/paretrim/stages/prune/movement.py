"""Movement pruning: prune the weights that training moves towards zero, even large ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, cast

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
from paretrim.stages.prune.patterns import CHANNEL, Pattern, block_shape, block_sums, expand, parse_pattern
from paretrim.stages.prune.schedule import cubic
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.unread import untrained
from paretrim.train.budget import AtLeastOne, Budget, Fraction, NotNegative, Positive
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="movement",
        kind="stage",
        source="Sanh et al. 2020, arXiv 2005.07683; blocks: Lagunas et al. 2021, arXiv 2109.04838",
        what="train scores beside the weights; prune weights that move towards zero, and restore them if their scores rise",
        formula=(
            "W' = W * M(S); dL/dS = dL/dW' * W, summed over a block\n"
            "hard: M = top-v of S, v by the cubic schedule\n"
            "soft: M = 1[sigmoid(S) > threshold], loss + penalty * sum of sigmoid(S); threshold and penalty rise"
        ),
        recipe="movement",
    ),
)

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-8
"""Adam's decays of the mean and of the mean square, and its epsilon."""


class Scores(Memory):
    """The scores of a layer's blocks and their Adam state; float64 [Co, B, ...]."""

    value: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, layer: WeightedLayer, pattern: Pattern) -> None:
        super().__init__(layer)
        shape = block_shape(layer.weight.shape, pattern)
        for name in ("value", "mean", "square"):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step_(self, gradient: Tensor, rate: float) -> None:
        """One step of Adam. Source: Kingma & Ba 2015, arXiv 1412.6980, algorithm 1."""
        self.steps += 1
        count = int(self.steps)
        self.mean.lerp_(gradient, 1 - _MEAN)
        self.square.lerp_(gradient.square(), 1 - _SQUARE)
        spread = (self.square / (1 - _SQUARE**count)).sqrt() + _TINY
        self.value -= rate / (1 - _MEAN**count) * self.mean / spread


_IDLE = (
    Idle(
        ("sparsity", "allocation"),
        lambda stage: stage.selection == "soft",
        "selection is 'soft', where threshold and penalty determine the sparsity",
        "set selection to hard",
    ),
    Idle(
        ("threshold", "penalty"),
        lambda stage: stage.selection == "hard",
        "selection is 'hard', where sparsity determines the masks",
        "set selection to soft",
    ),
    Idle(
        ("score_rate",),
        lambda stage: stage.selection == "hard",
        "selection is 'hard', which ranks scores, and no rate changes their order",
        "set selection to soft",
    ),
    untrained("score_rate", "start", "end", "every", "penalty"),
)


@settings(idle=_IDLE)
class Movement(Selection):
    """Learn a score for every weight or block of a trained network beside the weights, and keep those with the largest.

    Scores start at 0 and learn straight through the mask, by Adam with a rate that falls linearly to 0. ``hard``: keep the
    blocks with the largest scores, at the sparsity of a cubic schedule from progress ``start`` to ``end``. ``soft``: keep the
    blocks whose ``sigmoid(score)`` is above ``threshold``, with ``penalty`` times the sum of the sigmoids in the loss; the rate
    begins at ``score_rate`` (``hard`` only ranks the scores, and no rate changes their order);
    threshold and penalty rise by the same schedule and determine the final sparsity. Masks are updated every ``every`` steps.
    Pruned weights keep their values until the end and may be restored with them. What an earlier stage pruned stays pruned.

    ``pattern`` (``unstructured`` or ``1x4``), ``allocation`` (for ``hard``: ``global``, ``uniform`` or ``erk``) and the
    choice of layers (``first`` to ``ignore``) are those of :class:`Prune`. Before the first gradient, masks follow the magnitudes
    of weights.

    Source: Sanh et al. 2020, "Movement pruning: adaptive sparsity by fine-tuning", arXiv 2005.07683, sections 3 and 4; Adam with
    0.01, the ramp of the threshold and 0.1 for it are those of the authors' code, whose penalty of 400 on the mean over the 85
    million weights of its encoder is 5e-6 on their sum.

    Raises:
        InvalidRecipe: the schedule ends before its start, settings of ``hard`` are given with ``soft`` or the other way round, or
            the pattern has no blocks that could move.
    """

    name: ClassVar[str] = "movement"
    masks_grow: ClassVar[Literal[True]] = True
    budget: Budget = Field(default_factory=Budget)
    selection: Literal["hard", "soft"] = "hard"
    sparsity: Annotated[float, Field(ge=0.0, lt=1.0, strict=True)] = 0.9
    threshold: Annotated[float, Field(gt=0.0, lt=1.0, strict=True)] = 0.1
    penalty: NotNegative = 5e-6
    allocation: Literal["global", "uniform", "erk"] = "global"
    score_rate: Positive = 0.01
    start: Fraction = 0.1
    end: Fraction = 0.8
    every: AtLeastOne = 1

    def __post_init__(self) -> None:
        if self.pattern == CHANNEL or parse_pattern(self.pattern).fixed:
            raise InvalidRecipe(f"movement: pattern {self.pattern} has no blocks that can move; choose unstructured or 1x4")
        if self.end < self.start:
            raise InvalidRecipe(
                f"movement: the schedule ends at {self.end}, before its start at {self.start}; set end to at least start"
            )

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with masks, new ones being all ones, and the scores; an unreachable sparsity is rejected here."""
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        layers = self.layers_of(private)
        extra = nn.ModuleDict({key_of(name): Scores(layer, parse_pattern(self.pattern)) for name, layer in layers.items()})
        extra.to(resources.execution.torch_device())
        give_masks_(layers)
        training = Training(private, resources, extra, dense_gradients=True)
        if self.selection == "hard":
            self._masks(layers, self._scores(training, layers), 1.0)
        return training

    def advance(self, training: Training, progress: float, /) -> None:
        """Hide pruned weights; at the end choose the final masks and set pruned weights to 0."""
        layers = self.layers_of(training.network)
        if progress == 1:
            put_masks_(layers, self._masks(layers, self._scores(training, layers), 1.0))
        hide_(layers, hidden=progress < 1)

    def observe(self, training: Training, step: Step, /) -> None:
        """Update the scores, and the masks every ``every`` steps."""
        layers = self.layers_of(training.network)
        scores = self._scores(training, layers)
        pattern, penalty = parse_pattern(self.pattern), self.penalty * self._ramp(step.progress)
        for name, layer in layers.items():
            found = scores[name]
            gradient = block_sums(step.dense_gradients[name].double() * layer.weight.detach(), pattern)
            if self.selection == "soft":
                share = found.value.sigmoid()
                gradient += penalty * share * (1 - share)
            found.step_(gradient, self.score_rate * (1 - step.progress))
        if step.number % self.every == 0:
            put_masks_(layers, self._masks(layers, scores, step.progress))

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default. The penalty acts on the scores alone."""
        return ()

    def _ramp(self, progress: float) -> float:
        return cubic(progress, start=self.start, end=self.end, initial=0.0, final=1.0)

    def _scores(self, training: Training, layers: Mapping[str, WeightedLayer]) -> dict[str, Scores]:
        return {name: cast(Scores, memory_of(training, name, layer)) for name, layer in layers.items()}

    def _masks(self, layers: Mapping[str, WeightedLayer], scores: Mapping[str, Scores], progress: float) -> dict[str, Tensor]:
        """The masks for the scores at this progress."""
        pattern, ramp = parse_pattern(self.pattern), self._ramp(progress)
        if self.selection == "soft":
            return {
                name: above(scores[name].value, self.threshold * ramp, layer.weight.shape, pattern) & scores[name].alive
                for name, layer in layers.items()
            }
        alive = {name: found.alive for name, found in scores.items()}
        if any(int(found.steps) for found in scores.values()):
            keys = as_sizes({name: found.value for name, found in scores.items()}, layers, pattern)
        else:
            keys = {name: layer.weight.detach().abs() for name, layer in layers.items()}
        return masks(keys, self.sparsity * ramp, method=self.allocation, pattern=pattern, alive=alive)


def above(score: Tensor, threshold: float, shape: torch.Size, pattern: Pattern) -> Tensor:
    """The mask [Co, Ci, ...] of the blocks whose ``sigmoid(score)`` is above the threshold; the best block is always kept."""
    return expand((score.sigmoid() > threshold) | (score == score.max()), shape, pattern)


def as_sizes(scores: Mapping[str, Tensor], layers: Mapping[str, WeightedLayer], pattern: Pattern) -> dict[str, Tensor]:
    """Scores of blocks, of any sign, as non-negative scores of weights with the same order over all layers; 0 for the least."""
    least = min(float(score.min()) for score in scores.values())
    found = {}
    for name, score in scores.items():
        weight = layers[name].weight
        above_least = score - least
        if pattern.block > 1:  # scores are squared and summed over a block
            above_least = (above_least / block_sums(torch.ones_like(weight), pattern)).sqrt()
        found[name] = expand(above_least, weight.shape, pattern)
    return found
