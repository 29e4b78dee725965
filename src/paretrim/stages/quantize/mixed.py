"""Mixed precision: a format for every layer, chosen from statistics of the network.

Every method is a function in :data:`MIXTURES`, from a :class:`Question` to the formats of the layers that are not named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.graph.types import Graph
from paretrim.method import OURS, Method
from paretrim.network.constraints import WeightedLayer, living_weights, weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.formats import FLOAT_WEIGHTS
from paretrim.network.grids import WeightGrid
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.gradients import hessian_traces
from paretrim.stages.quantize.knapsack import least_loss
from paretrim.stages.quantize.latency import alternating, layer_times_ns
from paretrim.stages.quantize.layer_formats import Bits, Format
from paretrim.train.budget import AtLeastOne, Positive
from paretrim.train.execution import fast_batches
from paretrim.train.resources import Resources
from paretrim.visible import brief

PERCENTILES = (30.0, 70.0)
"""Default percentiles of the variance of outputs at which layers are divided."""

SAMPLES = 50
"""Random vectors that estimate a trace."""

Percentile = Annotated[float, Field(gt=0.0, lt=100.0, strict=True)]

BUDGETED = ("hessian", "divergence")
"""Methods with a budget of bits or bytes."""

DIVERGENCE_IMAGES = 256
"""Maximum number of calibration images for ``divergence``; the network runs on them once for every layer and choice."""

METHODS = (
    Method(
        name="hessian",
        kind="mixture",
        source="Dong et al. 2020 (HAWQ-V2), arXiv 1911.03852",
        what="bits per layer by mean Hessian trace and rounding error, within a budget of bits or bytes, solved exactly",
        formula="minimise sum of mean trace(H_l) ||W_l - Q(W_l)||^2 within the budget; traces estimated",
        recipe="mixed-hessian",
        settings=("quantize.mixed",),
    ),
    Method(
        name="divergence",
        kind="mixture",
        source="Cai et al. 2020 (ZeroQ), arXiv 2001.00281, section 3.2",
        what="bits per layer by the effect of quantizing it alone on the outputs, within a budget of bits or bytes",
        formula="minimise sum of KL(network || network with W_l replaced by Q(W_l)) within the budget",
        recipe="mixed-divergence",
        settings=("quantize.mixed",),
    ),
    Method(
        name="variance",
        kind="mixture",
        source=OURS,
        what="bits per layer by the variance of its outputs, relative to percentiles over all layers",
        formula="first choice below the first percentile, last choice above the last",
        recipe="mixed-variance",
        settings=("quantize.mixed",),
    ),
    Method(
        name="latency",
        kind="mixture",
        source=OURS,
        what="bits per layer by Hessian trace and rounding error, within a latency budget measured on this machine",
        formula="minimise sum of mean trace(H_l) ||W_l - Q(W_l)||^2 with sum of time_l(format) <= microseconds",
        recipe="mixed-latency",
        settings=("quantize.mixed",),
    ),
)


_IDLE = (
    Idle(("percentiles",), lambda mixture: mixture.by != "variance", "by '{by}' compares no variances", "set by to variance"),
    Idle(
        ("samples",),
        lambda mixture: mixture.by not in ("hessian", "latency"),
        "by '{by}' draws no random vectors",
        "set by to hessian or latency",
    ),
)


@settings(idle=_IDLE)
class Mixture:
    """A format for every layer out of ``choices``; layers that ``formats`` of the stage names keep theirs.

    ``by`` is one of:

    - ``hessian``: minimise the sum of mean Hessian trace * squared rounding error of the weights, with at most ``bits`` per
      weight on average, or ``bytes`` in total, before the file is coded (Dong et al. 2020, HAWQ-V2, arXiv 1911.03852); solved
      exactly. ``samples`` random vectors estimate the traces. Pruned weights take no bits.
    - ``divergence``: the same budgets; the loss of a layer in a format is the change of the outputs when only its weights are
      quantized (Cai et al. 2020, ZeroQ, arXiv 2001.00281), measured by the task's imitation loss. For classification that is the
      KL divergence from the float network. At most 256 calibration images are used, without labels.
    - ``variance``: compare the variance of a layer's outputs on calibration images with the ``percentiles`` over all layers:
      the first choice below the first percentile, the last choice above the last, so there is one choice more than percentiles.
    - ``latency``: minimise the sum of ``hessian`` with at most ``microseconds`` for all layers in the native runtime, for one
      image on one thread; the time of a float layer beside integer layers includes the conversions around it. ``times`` are the
      microseconds of every layer in every choice. Without them they are measured when the stage begins, so another machine, or
      an interrupted and resumed stage, may get another assignment.

    Choices may be floats: ``Format(grid="float16")`` takes 16 bits per weight and has a rounding error, ``float32`` takes 32 and
    has none. Losses are those of weights: the missing grid between two float layers is not counted as a gain.

    Raises:
        InvalidRecipe: the settings contradict each other.
    """

    by: str = "hessian"
    choices: tuple[Format, ...] = (Format(bits=4), Format(bits=6), Format(bits=8))
    bits: Positive | None = None
    bytes: AtLeastOne | None = None
    samples: AtLeastOne = SAMPLES
    percentiles: tuple[Percentile, ...] = PERCENTILES
    microseconds: Positive | None = None
    times: dict[str, tuple[Positive, ...]] | None = None

    def __post_init__(self) -> None:
        if self.by not in MIXTURES:
            raise InvalidRecipe(f"mixed: by is {brief(self.by)}; choose one of {', '.join(MIXTURES)}")
        if len(self.choices) < 2:
            raise InvalidRecipe(f"mixed: there are {len(self.choices)} choices; give at least two formats to choose from")
        budgets = (self.bits is not None) + (self.bytes is not None)
        timed = self.by == "latency"
        if timed != (self.microseconds is not None) or (self.times is not None and not timed):
            raise InvalidRecipe(
                f"mixed: by is '{self.by}', microseconds is {self.microseconds} and times are {'' if self.times else 'not '}"
                "given; by 'latency' needs microseconds and may have times, other methods have neither"
            )
        if self.by in BUDGETED and budgets != 1:
            raise InvalidRecipe(f"mixed: by '{self.by}' needs one budget, but {budgets} are given; give either bits or bytes")
        if self.by not in BUDGETED and budgets:
            raise InvalidRecipe(
                f"mixed: by '{self.by}' has no budget of bits; leave bits and bytes out, or set by to {' or '.join(BUDGETED)}"
            )
        ascending = list(self.percentiles) == sorted(set(self.percentiles))
        if self.by == "variance" and not (ascending and len(self.percentiles) + 1 == len(self.choices)):
            raise InvalidRecipe(
                f"mixed: percentiles are {list(self.percentiles)} for {len(self.choices)} choices; give them in ascending order, "
                "one fewer than choices"
            )


Fit = Callable[[Tensor, Format], WeightGrid]
"""The grid that a weight [Co, ...] would get in a format."""


@plain_dataclass(frozen=True, eq=False)
class Question:
    """The input of a mixed-precision method: a float network with its masks, and how the stage would quantize it.

    ``named`` layers already have a format; they count towards a budget. ``usual`` is the number of bits for formats without one.
    """

    network: Network
    resources: Resources
    settings: Mixture
    named: Mapping[str, Format]
    usual: Bits
    fit: Fit
    frozen: Callable[[Mapping[str, Format]], Graph]
    """The graph that ships with these formats of all layers."""
    on_grids: bool
    """Whether activations are quantized, so that float layers have conversions around them."""

    @property
    def open(self) -> dict[str, WeightedLayer]:
        """The layers without a format."""
        return {name: layer for name, layer in weighted_layers(self.network).items() if name not in self.named}

    def weights_bits(self, layer: WeightedLayer, form: Format) -> int:
        """Bits of a layer's weights in a format, before coding; pruned weights take none."""
        return living_weights(layer) * form.width(self.usual)


Assignment = Mapping[str, Format]
"""The format of every open layer, by its name."""


def assign(question: Question) -> Assignment:
    """The formats of all layers: those that are named, and the choices of the :class:`Mixture` for the others.

    Raises:
        InvalidRecipe: no assignment keeps the budget.
        DataUnavailable: the method needs labels of calibration images and there are none.
    """
    return {**MIXTURES[question.settings.by](question), **question.named} if question.open else dict(question.named)


def _by_variance(question: Question) -> Assignment:
    settings, names = question.settings, tuple(question.open)
    values = output_variances(question.network, names, question.resources.calibration)
    thresholds = np.percentile([values[name] for name in names], settings.percentiles)
    return {name: settings.choices[int(np.searchsorted(thresholds, values[name]))] for name in names}


def output_variances(network: Network, names: tuple[str, ...], images: Tensor) -> dict[str, float]:
    """The variance of all outputs of each layer over normalised images float32 [M, C, H, W]."""
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in names}
    with evaluating(network), torch.inference_mode():
        for part in fast_batches(network, images):
            for name, value in network.features(part, names).items():
                if name in sums:
                    flat = value.double()
                    sums[name] += torch.stack([flat.new_tensor(flat.numel()), flat.sum(), flat.square().sum()]).cpu()
    return {name: float(squares / count - (total / count) ** 2) for name, (count, total, squares) in sums.items()}


def _by_hessian(question: Question) -> Assignment:
    return _within_bits(question, _losses(question))


def _by_divergence(question: Question) -> Assignment:
    return _within_bits(question, divergences(question))


def divergences(question: Question) -> list[list[float]]:
    """The change of the outputs when only one open layer is quantized: for every layer a list over its choices, 0 or more."""
    network, choices = question.network, question.settings.choices
    images = question.resources.calibration[:DIVERGENCE_IMAGES]
    with evaluating(network), torch.no_grad():
        parts = list(fast_batches(network, images))
        expected = [network.outputs(part) for part in parts]
        found = []
        for layer in question.open.values():
            weight = layer.weight.detach().clone()
            moved = []
            for form in choices:
                layer.weight.copy_(question.fit(layer.effective_weight(), form)(layer.effective_weight()))
                moved.append(_moved(question, parts, expected))
                layer.weight.copy_(weight)
            found.append(moved)
    return found


def _moved(question: Question, parts: Sequence[Tensor], expected: Sequence[tuple[Tensor, ...]]) -> float:
    """Mean distance of the outputs from the expected ones, as the task measures imitation."""
    total, task = 0.0, question.resources.task
    for part, outputs in zip(parts, expected, strict=True):
        total += float(task.imitation(question.network.outputs(part), outputs, temperature=1.0)) * len(part)
    return max(total, 0.0) / sum(map(len, parts))


def _within_bits(question: Question, losses: Sequence[Sequence[float]]) -> Assignment:
    """The assignment with the smallest sum of losses within the budget; ``losses`` are by open layer and choice."""
    settings, layers = question.settings, question.open
    costs = [[question.weights_bits(layer, form) for form in settings.choices] for layer in layers.values()]
    every = weighted_layers(question.network)
    taken = sum(question.weights_bits(every[name], form) for name, form in question.named.items())
    weights = sum(living_weights(layer) for layer in every.values())
    budget = 8 * settings.bytes if settings.bytes is not None else int((settings.bits or 0.0) * weights)
    chosen = least_loss(losses, costs, budget - taken)
    if chosen is None:
        needed = taken + sum(min(some) for some in costs)
        raise InvalidRecipe(
            f"mixed: the budget is {budget / 8:,.0f} bytes of weights, but the smallest choices take {needed / 8:,.0f} "
            f"({needed / weights:.3g} bits per weight); raise the budget, or add choices with fewer bits"
        )
    return {name: settings.choices[number] for name, number in zip(layers, chosen, strict=True)}


def _by_latency(question: Question) -> Assignment:
    settings, names = question.settings, list(question.open)
    times = _times_ns(question)
    taken = sum(times[name][0] for name in question.named)
    budget = round(1000 * (settings.microseconds or 0.0))
    chosen = least_loss(_losses(question), [times[name] for name in names], budget - taken)
    if chosen is None:
        needed = taken + sum(min(times[name]) for name in names)
        raise InvalidRecipe(
            f"mixed: the budget is {budget / 1000:.4g} microseconds, but the fastest choices take {needed / 1000:.4g}; raise it"
        )
    return {name: settings.choices[number] for name, number in zip(names, chosen, strict=True)}


def _times_ns(question: Question) -> dict[str, list[int]]:
    """Nanoseconds of every open layer in every choice, and of every named one in its own format."""
    settings, named = question.settings, question.named
    if settings.times is None:
        tables = [_measured_ns(question, one) for one in settings.choices]
        return {name: [table[name] for table in tables[: 1 if name in named else None]] for name in tables[0]}
    layers = weighted_layers(question.network)
    if strange := sorted(settings.times.keys() - layers):
        raise InvalidRecipe(f"mixed: times names '{strange[0]}', but there is no such layer; layers are {', '.join(layers)}")
    for name in layers:
        wanted, given = 1 if name in named else len(settings.choices), len(settings.times.get(name, ()))
        if given != wanted:
            raise InvalidRecipe(
                f"mixed: times has {given} numbers for layer '{name}'; for every layer, give one per choice (here {wanted})"
            )
    return {name: [round(1000 * time) for time in times] for name, times in settings.times.items()}


def _measured_ns(question: Question, form: Format) -> dict[str, int]:
    """Nanoseconds of every layer if the open ones have this format; for float formats beside integers, in two halves."""
    named = question.named
    if not (question.on_grids and form.grid in FLOAT_WEIGHTS):
        return layer_times_ns(question.frozen({**dict.fromkeys(question.open, form), **named}))
    integers = next((one for one in question.settings.choices if one.grid not in FLOAT_WEIGHTS), Format())
    found: dict[str, int] = {}
    for half in alternating(question.network.structure):
        formats = {**dict.fromkeys(question.open, integers), **dict.fromkeys(half & question.open.keys(), form), **named}
        times = layer_times_ns(question.frozen(formats))
        found |= {name: time for name, time in times.items() if name in half}
    return found


def _losses(question: Question) -> list[list[float]]:
    """Mean Hessian trace times squared error of every open layer in every choice."""
    settings = question.settings
    traces = hessian_traces(question.network, question.resources, samples=settings.samples)
    return [
        [traces[name] * _squared_error(layer, question.fit, form) for form in settings.choices]
        for name, layer in question.open.items()
    ]


def _squared_error(layer: WeightedLayer, fit: Fit, form: Format) -> float:
    with torch.no_grad():
        weight = layer.effective_weight()
        return float((fit(weight, form)(weight) - weight).double().square().sum())


MIXTURES: Mapping[str, Callable[[Question], Assignment]] = {
    "hessian": _by_hessian,
    "divergence": _by_divergence,
    "variance": _by_variance,
    "latency": _by_latency,
}
"""Mixed-precision methods by their name in recipes."""
