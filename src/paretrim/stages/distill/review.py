"""Knowledge review: every stage of the student also learns from the teacher's earlier stages."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.distill.criterion import teacher_of, weightless
from paretrim.stages.distill.features import Path, Paths, pairs
from paretrim.stages.distill.logits import warmed
from paretrim.train.budget import AtLeastOne, Fraction, NotNegative
from paretrim.train.losses import LossTerm, Outputs
from paretrim.train.resources import Resources
from paretrim.train.task import Task

POOLS = (4, 2, 1)
"""Sizes to which maps are averaged; each counts half as much as the one before."""

METHODS = (
    Method(
        name="review",
        kind="loss",
        source="Chen et al. 2021 (ReviewKD), arXiv 2104.09044, sections 3.3 and 3.4",
        what="match fused feature maps, so that every stage of the student also learns from the teacher's earlier stages",
        formula="sum over modules of HCL(fusion(student and deeper ones), teacher)",
        recipe="reviewkd",
        settings=("distill.criteria",),
    ),
)


@settings(kw_only=True, idle=(weightless("warmup", "channels", "teacher_at"),))
class Review:
    """ReviewKD: features of the student, fused with deeper ones, are compared with the teacher's, from the deepest to the first.

    A fusion maps the student's features to ``channels`` channels (or those of the deepest module, if fewer), adds the deeper
    fusion's features, weighed by attention, and convolves the sum to the teacher's shape. Two maps are compared by their mean
    squared difference and by those of their averages over 4x4, 2x2 and 1x1 fields, which count 1/2, 1/4 and 1/8 as much. The
    weight grows linearly over the share ``warmup`` of the stage. Name the modules from input to output; ``penultimate`` may be
    the last.

    Source: Chen et al. 2021, "Distilling knowledge via knowledge review", sections 3.3 and 3.4; the weight is that of most of
    their pairs on CIFAR-100.
    """

    at: Paths
    loss: Literal["review"] = "review"
    weight: NotNegative = 5.0
    warmup: Fraction = 20 / 240
    channels: AtLeastOne = 512
    teacher_at: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        pairs(self.loss, self.at, self.teacher_at)

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """A fusion for each pair."""
        chosen = pairs(self.loss, self.at, self.teacher_at)
        shapes = [(_as_map(network.shape_at(one)), _as_map(teacher_of(resources).shape_at(other))) for one, other in chosen]
        middle = min(self.channels, shapes[-1][0][0])
        deepest = len(shapes) - 1
        fusions = [FeatureFusion(*both, middle, fuses=number < deepest) for number, both in enumerate(shapes)]
        return nn.ModuleDict({"fusions": nn.ModuleList(fusions)})

    def term(self, _task: Task, /) -> LossTerm:
        """The sum over all pairs."""
        ours, theirs = zip(*pairs(self.loss, self.at, self.teacher_at), strict=True)

        def function(outputs: Outputs) -> Tensor:
            fusions = cast(nn.ModuleList, outputs.extra["fusions"])
            fusions.train(len(outputs.labels) > 1)  # a single image has no batch statistics
            loss, deeper = outputs.logits.new_zeros((), dtype=torch.float32), None
            for fusion, one, other in reversed(list(zip(fusions, ours, theirs, strict=True))):
                found, deeper = fusion(_of_map(outputs.features[one]), deeper)
                loss = loss + hierarchical(found, _of_map(outputs.teacher_features[other]))
            return loss

        return LossTerm(
            function,
            lambda progress: warmed(self.weight, self.warmup, progress),
            features=ours,
            teacher_features=theirs,
        )


class FeatureFusion(nn.Module):
    """Maps features of the student, and those of the deeper fusion, to the shape of the teacher's map."""

    def __init__(self, shape: tuple[int, ...], wanted: tuple[int, ...], middle: int, *, fuses: bool) -> None:
        super().__init__()
        self.size, self.wanted = shape[1:], wanted[1:]
        enter = nn.Conv2d(shape[0], middle, 1, bias=False)
        leave = nn.Conv2d(middle, wanted[0], 3, padding=1, bias=False)
        for convolution in (enter, leave):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.enter = nn.Sequential(enter, nn.BatchNorm2d(middle))
        self.leave = nn.Sequential(leave, nn.BatchNorm2d(wanted[0]))
        self.attention = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuses else None

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """From a map [N, C, H, W], the features to compare with the teacher's, and those for the next fusion."""
        x = self.enter(x)
        if self.attention is not None and deeper is not None:
            deeper = functional.interpolate(deeper, self.size)
            weights = self.attention(torch.cat((x, deeper), 1))
            x = x * weights[:, :1] + deeper * weights[:, 1:]
        if self.size != self.wanted:
            x = functional.interpolate(x, self.wanted)
        return self.leave(x), x


def hierarchical(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of two maps [N, C, H, W] and of their averages, weighed 1, 1/2, 1/4, 1/8 and normalised."""
    loss, weight, total = functional.mse_loss(student, teacher), 1.0, 1.0
    for size in POOLS:
        if size < student.shape[2]:
            weight /= 2
            ours, theirs = (functional.adaptive_avg_pool2d(one, size) for one in (student, teacher))
            loss, total = loss + weight * functional.mse_loss(ours, theirs), total + weight
    return loss / total


def _as_map(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A vector is a map of one pixel."""
    return shape if len(shape) == 3 else (*shape, 1, 1)


def _of_map(values: Tensor) -> Tensor:
    return values if values.dim() == 4 else values[:, :, None, None]
