"""Losses on features, the outputs of modules of student and teacher: hints, quantized mimicking, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.distill.criterion import teacher_of, weightless
from paretrim.train.budget import NotNegative, Positive
from paretrim.train.losses import LossTerm, Outputs
from paretrim.train.resources import Resources
from paretrim.train.task import Task

Path = Annotated[str, Field(min_length=1)]
Paths = Annotated[tuple[Path, ...], Field(min_length=1)]
Regressor = Literal["conv", "pool", "none"]

METHODS = (
    Method(
        name="hint",
        kind="loss",
        source="Romero et al. 2015 (FitNets), arXiv 1412.6550, section 2.2",
        what="match features in the middle of the network, through a trained regressor",
        formula="mean (r(student) - teacher)^2",
        recipe="hint",
        settings=("distill.criteria",),
    ),
    Method(
        name="mimic",
        kind="loss",
        source="Wei et al. 2018 (Quantization Mimic), arXiv 1805.02152, equations 2 to 4",
        what="match features that are rounded to multiples of a step in both networks",
        formula="1/(2 N) sum ||Q(r(student)) - Q(teacher)||^2",
        recipe="mimic",
        settings=("distill.criteria",),
    ),
    Method(
        name="attention",
        kind="loss",
        source="Zagoruyko & Komodakis 2017, arXiv 1612.03928, equation 2",
        what="match attention maps: the energy at each position of a feature map",
        formula="mean (a(student) - a(teacher))^2, a the mean over channels of squared values, scaled to length 1",
        recipe="attention-transfer",
        settings=("distill.criteria",),
    ),
)


@settings(kw_only=True, idle=(weightless("teacher_at", "regressor"),))
class Hint:
    """``mean (r(student) - teacher)^2`` of the outputs of the modules ``at`` and ``teacher_at`` (by default the same path).

    The regressor r trains too. ``conv``: one convolution to the teacher's shape, without padding if the student's map is larger
    (with stride 2 if it is twice as large), and a BatchNorm, without which a weight of 100 diverges; ``pool``: adaptive average
    pooling, then a 1x1 convolution without BatchNorm, so give it a weight near 1 (100 diverged at a rate of 0.05); ``none``: the
    shapes must be equal. The paper's ``1/2 ||.||^2`` is a sum, which differs only by a factor.

    As published there are two stages: the first uses only this loss (``labels = 0``) and trains the layers up to ``at``; the
    second is plain distillation. In a single stage the weight is 100 beside the labels.

    Source: Romero et al. 2015, "FitNets", section 2.2; one stage: Tian et al. 2020, whose code has this weight.
    """

    at: Path
    loss: Literal["hint"] = "hint"
    weight: NotNegative = 100.0
    teacher_at: str = ""
    regressor: Regressor = "conv"

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """The regressor."""
        return _regressor(self, self.regressor, network, resources)

    def term(self, _task: Task, /) -> LossTerm:
        """The mean squared difference."""
        return _between(self, lambda student, teacher: functional.mse_loss(student, teacher))


@settings(kw_only=True, idle=(weightless("teacher_at"),))
class Mimic:
    """``1/(2 N) sum ||Q(r(student)) - Q(teacher)||^2`` over the N positions of a map (Quantization Mimic).

    Q rounds to the nearest non-negative multiple of ``step`` and has the gradient of ReLU; r is a 1x1 convolution.

    Source: Wei et al. 2018, "Quantization mimic: towards very tiny CNN for object detection", equations 2 to 4.
    """

    at: Path
    step: Positive
    loss: Literal["mimic"] = "mimic"
    weight: NotNegative = 1.0
    teacher_at: str = ""

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """The regressor."""
        return _regressor(self, "pool", network, resources)

    def term(self, _task: Task, /) -> LossTerm:
        """Half the squared distance of two rounded maps."""
        return _between(
            self,
            lambda student, teacher: (_rounded(student, self.step) - _rounded(teacher, self.step)).square().sum(1).mean() / 2,
        )


@settings(kw_only=True, idle=(weightless("teacher_at"),))
class Attention:
    """Attention transfer: the mean of ``(a(student) - a(teacher))^2``, summed over the modules ``at``.

    a is the mean over channels of squared values, scaled to length 1. If two maps differ in size, the larger is average-pooled.
    Source: Zagoruyko & Komodakis 2017, "Paying more attention to attention", equation 2, with the power 2.
    """

    at: Paths
    loss: Literal["attention"] = "attention"
    weight: NotNegative = 1000.0
    teacher_at: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        pairs(self.loss, self.at, self.teacher_at)

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """No modules."""
        for ours, theirs in pairs(self.loss, self.at, self.teacher_at):
            require_maps(self.loss, ours, network.shape_at(ours))
            require_maps(self.loss, theirs, teacher_of(resources).shape_at(theirs))
        return nn.ModuleDict()

    def term(self, _task: Task, /) -> LossTerm:
        """The distances of all pairs."""
        chosen = pairs(self.loss, self.at, self.teacher_at)

        def function(outputs: Outputs) -> Tensor:
            distances = (attention_distance(outputs.features[ours], outputs.teacher_features[theirs]) for ours, theirs in chosen)
            return sum(distances, outputs.labels.new_zeros((), dtype=outputs.logits.dtype))

        ours, theirs = zip(*chosen, strict=True)
        return LossTerm(function, self.weight, features=ours, teacher_features=theirs)


def pairs(loss: str, at: tuple[str, ...], teacher_at: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The paths in student and teacher, in order; the teacher's default to the student's.

    Raises:
        InvalidRecipe: their numbers differ.
    """
    if teacher_at and len(teacher_at) != len(at):
        raise InvalidRecipe(
            f"distill: {loss} has {len(at)} modules of the student and {len(teacher_at)} of the teacher; name equally many"
        )
    return tuple(zip(at, teacher_at or at, strict=True))


def require_maps(loss: str, path: str, shape: tuple[int, ...]) -> None:
    """Require a feature map [C, H, W].

    Raises:
        InvalidRecipe: the module returns something else.
    """
    if len(shape) != 3:
        raise InvalidRecipe(
            f"distill: {loss} compares feature maps, but module '{path}' returns values of shape {list(shape)}; name a "
            "convolution or a block of convolutions"
        )


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the attention of two maps [N, C, H, W]; numbers of channels may differ."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    ours, theirs = (
        functional.normalize(functional.adaptive_avg_pool2d(map_, size).square().mean(1).flatten(1))
        for map_ in (student, teacher)
    )
    return functional.mse_loss(ours, theirs)


def fitting(shape: tuple[int, ...], wanted: tuple[int, ...], kind: Regressor) -> nn.Module:
    """A module that maps values of one shape (without the batch) to another.

    Raises:
        InvalidRecipe: this kind of regressor cannot.
    """
    if kind == "none" and shape == wanted:
        return nn.Identity()
    if kind != "none" and len(shape) == len(wanted) == 1:
        return nn.Linear(shape[0], wanted[0])
    if kind == "pool" and len(shape) == len(wanted) == 3:
        return nn.Sequential(nn.AdaptiveAvgPool2d(wanted[1:]), nn.Conv2d(shape[0], wanted[0], 1))
    if kind == "conv" and len(shape) == len(wanted) == 3:
        (height, width), (tall, wide) = shape[1:], wanted[1:]
        if (height, width) == (2 * tall, 2 * wide):
            return _normalised(nn.Conv2d(shape[0], wanted[0], 3, stride=2, padding=1))
        if (2 * height, 2 * width) == (tall, wide):
            return _normalised(nn.ConvTranspose2d(shape[0], wanted[0], 4, stride=2, padding=1))
        if height >= tall and width >= wide:
            return _normalised(nn.Conv2d(shape[0], wanted[0], (1 + height - tall, 1 + width - wide)))
    raise InvalidRecipe(
        f"the student returns {list(shape)} and the teacher {list(wanted)}, which regressor '{kind}' cannot match; choose pool, "
        "or modules with similar shapes"
    )


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """As in the code of Tian et al. 2020, but without its ReLU: a module may return negative values."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def _regressor(one: Hint | Mimic, kind: Regressor, network: Network, resources: Resources) -> nn.ModuleDict:
    theirs = one.teacher_at or one.at
    shapes = network.shape_at(one.at), teacher_of(resources).shape_at(theirs)
    try:
        return nn.ModuleDict({"regressor": fitting(*shapes, kind)})
    except InvalidRecipe as error:
        raise InvalidRecipe(f"distill: {one.loss} at '{one.at}' and '{theirs}': {error}") from error


def _between(one: Hint | Mimic, distance: Callable[[Tensor, Tensor], Tensor]) -> LossTerm:
    theirs = one.teacher_at or one.at

    def function(outputs: Outputs) -> Tensor:
        return distance(outputs.extra["regressor"](outputs.features[one.at]), outputs.teacher_features[theirs])

    return LossTerm(function, one.weight, features=(one.at,), teacher_features=(theirs,))


def _rounded(values: Tensor, step: float) -> Tensor:
    """The nearest multiple of the step, at least 0; the gradient is that of the ReLU."""
    positive = values.relu()
    return positive + (step * (positive / step).round() - positive).detach()
