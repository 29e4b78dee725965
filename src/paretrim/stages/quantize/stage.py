"""INT8 quantization as a stage: with epochs it is quantization-aware training, with none post-training quantization."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from paretrim.errors import InvalidRecipe, TrainingFailed, located
from paretrim.graph.fusion import grid_values
from paretrim.graph.types import Graph
from paretrim.history import LATER
from paretrim.method import Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.formats import FLOAT_WEIGHTS, UNIFORM, activation_grid_named, weight_grid_named
from paretrim.network.freeze import freeze
from paretrim.network.grids import SMALLEST_SCALE, Grid, Scales, WeightGrid, WeightSettings
from paretrim.network.network import Network
from paretrim.stages.quantize.adjustments import Work, adjust_after_, adjust_before_, check_adjustments
from paretrim.stages.quantize.calibration import calibrate, weight_clips
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.formats import Bits, Format, formats_of
from paretrim.stages.quantize.mixed import Mixture, Question, assign
from paretrim.stages.quantize.rate import ROUNDS, coarser_clips, prices, rate_term, recount_
from paretrim.train.budget import STRICT, AtLeastOne, Budget, Fraction, NotNegative
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.task import CLASSIFICATION
from paretrim.train.training import Step, Training

SMALLEST_WEIGHT = 2.0**16 * SMALLEST_SCALE
"""Least size of the largest weight of a layer: its steps, and those of its smaller channels, are numbers that float32 holds."""

FLOAT32 = "float32"
"""Values that are not quantized."""

METHODS = (
    Method(
        name="quantize",
        kind="stage",
        source="Jacob et al. 2018, arXiv 1712.05877",
        what="put weights and activations on integer grids and train through the rounding; with 0 epochs without training",
        formula="forward: w' = s clip(round(w / s), -top, top); backward: dw'/dw = 1 inside the grid, 0 outside",
        recipe="qat",
    ),
    Method(
        name="int8-weights",
        kind="combination",
        source="Krishnamoorthi 2018, arXiv 1806.08342, section 3.1",
        what="integer weights, float32 activations: a smaller file, computed in float32",
        formula="w' = s q with q int8; y = sum of w' x in float32",
        recipe="int8-weights",
        settings=("quantize.activations",),
    ),
)


@dataclass(frozen=True, config=STRICT)
class Quantize:
    """Put every convolution, linear layer and activation on an integer grid, and train through the rounding.

    Weights: symmetric, per output channel, ``weight_bits`` wide (8; 7 for CPUs without VNNI). Activations: uint8 per tensor.
    Scales are ``learned`` (LSQ) or ``observed`` (range of the weight; moving average of the activation range), starting from the
    calibrator. BatchNorm stays live: it multiplies an output channel by a factor, as the weight's scale does, so folding it at
    the end leaves the trained integers as they are.

    ``formats`` gives layers formats of their own, by name or pattern:
    ``{"layer3.*": Format(bits=4), "fc": Format(grid="ternary")}``. Fewer bits make the ``.trim`` file smaller; the runtime
    computes in 8 bits all the same. ``mixed`` chooses formats for the layers that ``formats`` does not name. ``activations`` is
    the grid of all values: "uniform"; "clipped", which trains the reach of the grid by what is beyond it (PACT); or "offset",
    which trains step and zero point (LSQ+). The last two ignore ``scales``. With "float32" values stay as they are
    and weights alone are quantized: INT8 weights in a float network, or ``{"*": Format(grid="float16")}``. What is computed is
    then float32, so the file is smaller and not faster.

    Single layers stay floats beside layers of integers where ``formats`` says so: ``{"fc": Format(grid="float32")}``, or
    float16 or bfloat16 for their weights. They compute in float32; what they read is on its grid as ever, unless another such
    layer made it, and so is what they give to others.

    ``portions`` are for layers on the grid ``powers``: the shares of weights that have their powers of two from the beginning, at
    equal parts of the budget, and at its end (INQ).

    Calibration and training follow the unit of images, weights and values, whatever it is; see :mod:`paretrim.train.units`.

    ``weight_calibrator`` chooses the steps of weights where that should not be the ``calibrator``. ``adjust`` names what is done
    to the network without training, see :mod:`paretrim.stages.quantize.adjustments`: before grids are calibrated ``equalize`` or
    ``smooth`` (of strength ``smoothing``), and after that ``bias``, ``batchnorm``, ``adaround`` (in ``rounding_steps``),
    ``gptq`` or ``joint``.

    ``rate`` makes the coded file smaller: it is what one bit per weight, averaged over the network, is worth in nats of training
    loss; 0 asks for accuracy alone, 0.001 is a start. Steps become as coarse as the network's sensitivity on calibration images
    allows, every weight moves to the integer that is worth its bits, here and in all later stages, and training minimises
    loss + ``rate`` * bits per weight. A weight that is 0 stays 0.
    """

    name: ClassVar[str] = "quantize"
    budget: Budget = Field(default_factory=Budget)
    weight_bits: Bits = 8
    scales: Scales = "learned"
    calibrator: Calibrator = "mse"
    percentile: Annotated[float, Field(gt=50.0, le=100.0, strict=True)] = 99.99
    rate: NotNegative = dataclasses.field(default=0.0, metadata=LATER)
    formats: dict[str, Format] | None = dataclasses.field(default=None, metadata=LATER)
    activations: str = dataclasses.field(default=UNIFORM, metadata=LATER)
    mixed: Mixture | None = dataclasses.field(default=None, metadata=LATER)
    weight_calibrator: Calibrator | None = dataclasses.field(default=None, metadata=LATER)
    adjust: tuple[str, ...] = dataclasses.field(default=(), metadata=LATER)
    smoothing: Fraction = dataclasses.field(default=0.5, metadata=LATER)
    rounding_steps: AtLeastOne = dataclasses.field(default=10_000, metadata=LATER)
    portions: tuple[Fraction, ...] = dataclasses.field(default=(0.5, 0.75, 0.875, 1.0), metadata=LATER)

    def __post_init__(self) -> None:
        check_adjustments(self.adjust, rate=self.rate)
        if self.activations in FLOAT_WEIGHTS and self.activations != FLOAT32:
            raise InvalidRecipe(
                f"activations is '{self.activations}'; runtimes compute values in float32 or on a grid: give 'float32' "
                f'and have the weights in this format with formats = {{ "*" = {{ grid = "{self.activations}" }} }}'
            )
        if self.activations != FLOAT32:
            activation_grid_named(self.activations)
        elif of_grids := [name for name in self.adjust if name in ("bias", "joint")]:
            raise InvalidRecipe(f"adjust names '{of_grids[0]}', which works on grids of values, and activations is 'float32'")
        if self.portions[-1:] != (1.0,) or list(self.portions) != sorted(self.portions):
            raise InvalidRecipe(f"portions are {list(self.portions)}; give shares in ascending order, the last of them 1.0")

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with fake quantizers on every weight and on every value that the integer graph requantizes.

        Raises:
            InvalidRecipe: a pattern of ``formats`` matches no layer, or two say different things about one; ``mixed`` cannot keep
                its budget; ``rate`` is given for another task than classification.
            DataUnavailable: ``mixed`` needs labels of calibration images and there are none.
            TrainingFailed: values or weights lie where float32 has no room for steps, or are not finite.
            UnsupportedOperation: the network has no integer form, for instance because products of its scales leave float32.
        """
        if self.rate and resources.task != CLASSIFICATION:
            raise InvalidRecipe(
                f"quantize: rate weighs bits by labels drawn from logits, and the task is {resources.task.name}; leave rate at 0"
            )
        device = resources.execution.torch_device()
        private = copy.deepcopy(network).to(device)
        private.grids.clear()
        for layer in weighted_layers(private).values():
            layer.quantizer = None
        work = Work(resources.calibration, resources.seed, self.smoothing, self.rounding_steps)
        adjust_before_(private, self.adjust, work)
        reference = copy.deepcopy(private) if self.adjust else private
        names = grid_values(private.structure)
        grids = calibrate(private, names, resources.calibration, method=self.calibrator, percentile=self.percentile)
        worth = prices(private, resources.calibration, rate=self.rate, seed=resources.seed) if self.rate else {}
        for name, layer in weighted_layers(private).items():
            _require_steps(name, layer.effective_weight().detach())
        formats = self._formats(private, resources, grids)
        if self.activations != FLOAT32 and all(form.grid in FLOAT_WEIGHTS for form in formats.values()):
            raise InvalidRecipe(
                f"quantize: every layer gets floats from formats{' and mixed' if self.mixed else ''} and activations is "
                f"'{self.activations}', so nothing would be computed on integers: set activations = 'float32', or leave some "
                f"layers integers{', with a smaller budget' if self.mixed else ''}"
            )
        self._put_grids_(private, formats, grids, worth)
        adjust_after_(private, reference, self.adjust, work)
        if self.budget.epochs:
            freeze(private)  # what has no integers is refused here, not after training
        return Training(private, resources)

    def _formats(self, network: Network, resources: Resources, grids: Mapping[str, Grid]) -> Mapping[str, Format]:
        """The format of every layer of a float network, whose values get these grids."""
        usual = Format()
        formats = formats_of(list(weighted_layers(network)), self.formats or {}, usual)
        if self.mixed is None:
            return formats
        named = {name: form for name, form in formats.items() if form is not usual}
        fit = functools.partial(self._weight_grid, worth=None)

        def frozen(formats: Mapping[str, Format]) -> Graph:
            tried = copy.deepcopy(network)
            self._put_grids_(tried, formats, grids, {})
            return freeze(tried)

        on_grids = self.activations != FLOAT32
        return assign(Question(network, resources, self.mixed, named, self.weight_bits, fit, frozen, on_grids))

    def _put_grids_(
        self, network: Network, formats: Mapping[str, Format], grids: Mapping[str, Grid], worth: Mapping[str, Tensor]
    ) -> None:
        """Put every weight and value of a float network on its grid; ``worth`` is what bits are worth, if they have a price."""
        for name, layer in weighted_layers(network).items():
            with located(f"layer '{name}'"):
                layer.quantizer = self._weight_grid(layer.effective_weight().detach(), formats[name], worth.get(name))
        for _ in range(ROUNDS):
            recount_(network)
        real = [name for name, form in formats.items() if form.grid in FLOAT_WEIGHTS]
        for name in grid_values(network.structure, real) if self.activations != FLOAT32 else ():
            network.set_grid_(name, activation_grid_named(self.activations).fitted(grids[name], self.scales))
        network.to(next(network.parameters()).device)

    def _weight_grid(self, weight: Tensor, form: Format, worth: Tensor | None) -> WeightGrid:
        """The grid of a weight [Co, ...]; ``worth`` [Co] is what a bit of it is worth, if bits have a price."""
        bits = form.width(self.weight_bits)
        if form.grid in FLOAT_WEIGHTS:
            return weight_grid_named(form.grid).fitted(weight, WeightSettings(bits, self.scales, name=form.grid))
        method = self.weight_calibrator or self.calibrator
        clip = weight_clips(weight, bits=bits, method=method, percentile=self.percentile)
        if worth is not None:
            clip = coarser_clips(weight, clip, worth, 2 ** (bits - 1) - 1)
        return weight_grid_named(form.grid).fitted(weight, WeightSettings(bits, self.scales, clip, worth))

    def advance(self, training: Training, progress: float, /) -> None:
        """Recount bits that have a price; grids that take weights over in portions take the next portion."""
        if self.rate:
            recount_(training.network)
        share = self.portions[int(progress * (len(self.portions) - 1))]
        for layer in weighted_layers(training.network).values():
            if layer.quantizer is not None and layer.quantizer.incremental is not None:
                layer.quantizer.incremental.fix_largest_(layer.weight, share)

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default, and what bits are worth."""
        return (rate_term(self.rate),) if self.rate else ()


def _require_steps(name: str, weight: Tensor) -> None:
    """Refuse a layer whose weights lie where float32 cannot divide them into steps; one without any weight is fine."""
    largest = float(weight.abs().max())
    if not 0 <= largest < math.inf:
        raise TrainingFailed(f"layer '{name}': its largest weight is {largest}; the training before had failed")
    if 0 < largest < SMALLEST_WEIGHT:
        raise TrainingFailed(
            f"layer '{name}': its weights reach {largest:.2g}, where float32 has no room for steps; rescale them so that they "
            f"reach {SMALLEST_WEIGHT:.2g}"
        )
