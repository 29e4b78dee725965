"""Quantization as a stage: quantization-aware training, or with 0 epochs post-training quantization."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from paretrim.errors import InvalidRecipe, TrainingFailed, located
from paretrim.graph.fusion import grid_values, values_of_few_levels
from paretrim.graph.types import Graph
from paretrim.method import Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.formats import FLOAT_WEIGHTS, UNIFORM, activation_grid_named, new_activation_grid, new_weight_grid
from paretrim.network.freeze import freeze
from paretrim.network.grids import BITS, SMALLEST_SCALE, Grid, Scales, WeightGrid, WeightSettings
from paretrim.network.network import Network
from paretrim.network.plain_steps import choose_plain_steps_
from paretrim.settings import default_of, settings
from paretrim.stages.quantize.adjustments import AdjustmentInput, adjust_after_, adjust_before_, check_adjustments
from paretrim.stages.quantize.calibration import calibrate, weight_clips
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.comparisons import compared_of
from paretrim.stages.quantize.equalize import smooth_norms_
from paretrim.stages.quantize.held_grids import keep_grids_, take_grids_
from paretrim.stages.quantize.idle_settings import FLOAT32, OF_QUANTIZE, require_incremental, require_priced
from paretrim.stages.quantize.layer_formats import Bits, Format, formats_of
from paretrim.stages.quantize.mixed import Mixture, Question, assign
from paretrim.stages.quantize.rate import ROUNDS, coarser_clips, prices, rate_term, recount_
from paretrim.stages.quantize.reciprocals import reciprocals_of
from paretrim.stages.quantize.rounding_errors import correct_rounding_, typical_inputs
from paretrim.stored_fields import LATER
from paretrim.train.budget import AtLeastOne, Budget, Fraction, NotNegative
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.task import CLASSIFICATION
from paretrim.train.training import Step, Training

SMALLEST_WEIGHT = 2.0**16 * SMALLEST_SCALE
"""Smallest allowed maximum of a layer's weights, so that float32 can represent its steps and those of its smaller channels."""

_CORRECTS_MEANS = frozenset({"bias", "gptq"})
"""Adjustments that give every layer's outputs the mean they have in float."""

METHODS = (
    Method(
        name="quantize",
        kind="stage",
        source="Jacob et al. 2018, arXiv 1712.05877",
        what="put weights and activations on integer grids and train through the rounding; with 0 epochs, only quantize",
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
    Method(
        name="low-bit-activations",
        kind="combination",
        source="Esser et al. 2020 (LSQ), arXiv 1902.08153, section 3",
        what="activations of fewer than 8 bits, trained with the weights: here 4 bits each",
        formula="x' = s (clip(round(x / s) + z, 0, 2^bits - 1) - z)",
        recipe="low-bit-activations",
        settings=("quantize.activation_bits",),
    ),
)


@settings(idle=OF_QUANTIZE)
class Quantize:
    """Put every convolution, linear layer and activation on an integer grid, and train through the rounding.

    Weights: symmetric, per output channel, ``weight_bits`` wide (8; 7 for CPUs without VNNI). Activations: uint8 per tensor.
    Scales are ``learned`` (LSQ) or ``observed`` (range of the weight; moving average of the activation range), starting from the
    calibrator. BatchNorm stays live: it multiplies an output channel by a factor, as the weight's scale does, so folding it at
    the end does not change the trained integers.

    ``formats`` sets the format of single layers, by name or pattern:
    ``{"layer3.*": Format(bits=4), "fc": Format(grid="ternary")}``. Fewer bits make the ``.trim`` file smaller; the runtime still
    computes in 8 bits. ``mixed`` chooses formats for the layers that ``formats`` does not name. ``activations`` is the grid of
    all values: "uniform"; "clipped", which trains the clipping range (PACT); or "offset", which trains step and zero point
    (LSQ+). The last two ignore ``scales``. With "float32" activations are not quantized, only weights: INT8 weights in a float
    network, or ``{"*": Format(grid="float16")}``. The network then computes in float32: the file is smaller but not faster.

    ``formats`` can also keep single layers in float beside integer layers: ``{"fc": Format(grid="float32")}``, or float16 or
    bfloat16 for their weights. They compute in float32. Their inputs and outputs are on grids, except a value between two of
    them.

    ``activation_bits`` is the width of all values but the input, concatenations, and the few whose grids their use decides
    (reciprocals, and what only comparisons read), which keep 8 bits. Runtimes store and compute in 8 bits.

    ``portions`` is for layers on the grid ``powers``: the shares of weights that are fixed to powers of two at the beginning,
    after equal parts of the budget, and at its end (INQ).

    Calibration and training adapt to the unit of images, weights and values; see :mod:`paretrim.train.units`.

    ``weight_calibrator`` chooses the steps of weights, if they need another calibrator than activations. ``adjust`` lists
    adjustments without training, see :mod:`paretrim.stages.quantize.adjustments`: before calibration ``equalize`` or ``smooth``
    (of strength ``smoothing``), and after it ``bias``, ``batchnorm``, ``adaround`` (in ``rounding_steps``), ``gptq`` or
    ``joint``.

    ``rate`` makes the coded file smaller: it is the price of one bit per weight, averaged over the network, in nats of training
    loss. 0 optimises only accuracy; 0.001 is a good start. Steps become as coarse as the network's sensitivity on calibration
    images allows; every weight is rounded to the integer with the best trade-off of error and bits, here and in all later stages;
    and training minimises loss + ``rate`` * bits per weight. A weight that is 0 stays 0.
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
    activation_bits: Bits = dataclasses.field(default=BITS, metadata=LATER)

    def __post_init__(self) -> None:
        check_adjustments(self.adjust, rate=self.rate)
        if self.activations in FLOAT_WEIGHTS and self.activations != FLOAT32:
            raise InvalidRecipe(
                f"activations is '{self.activations}', but runtimes compute values in float32 or on a grid; set 'float32' "
                f'and store the weights in this format with formats = {{ "*" = {{ grid = "{self.activations}" }} }}'
            )
        if self.activations != FLOAT32:
            activation_grid_named(self.activations)
        elif of_grids := [name for name in self.adjust if name in ("bias", "joint")]:
            raise InvalidRecipe(
                f"adjust names '{of_grids[0]}', which needs quantized activations, but activations is 'float32'; leave it out, "
                "or choose another grid of activations"
            )
        if self.portions[-1:] != (1.0,) or list(self.portions) != sorted(self.portions):
            raise InvalidRecipe(f"portions are {list(self.portions)}; give shares in ascending order, the last of them 1.0")

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with fake quantizers on every weight and on every value that the integer graph requantizes.

        Raises:
            InvalidRecipe: a pattern of ``formats`` matches no layer, or two of them contradict each other; ``mixed`` cannot keep
                its budget; ``rate`` is set for a task other than classification.
            DataUnavailable: ``mixed`` needs labels of calibration images and there are none.
            TrainingFailed: values or weights are too small for steps in float32, or are not finite.
            UnsupportedOperation: the network has no integer form, for example because products of its scales exceed float32.
        """
        if self.rate and resources.task != CLASSIFICATION:
            raise InvalidRecipe(
                f"quantize: rate needs classification, because it draws labels from logits, and the task is "
                f"{resources.task.name}; leave rate at 0"
            )
        device = resources.execution.torch_device()
        private = copy.deepcopy(network).to(device)
        private.grids.clear()
        rounded = any(layer.quantizer is not None for layer in weighted_layers(private).values())
        held = take_grids_(private)
        work = AdjustmentInput(resources.calibration, resources.seed, self.smoothing, self.rounding_steps)
        adjust = self._adjustments(private, resources.calibration)
        adjust_before_(private, adjust, work)
        reference = copy.deepcopy(private) if adjust else private
        names, narrow = grid_values(private.structure), self._narrow(private.structure)
        grids = calibrate(private, names, resources.calibration, method=self.calibrator, percentile=self.percentile, bits=narrow)
        worth = prices(private, resources.calibration, rate=self.rate, seed=resources.seed) if self.rate else {}
        for name, layer in weighted_layers(private).items():
            _require_steps(name, layer.effective_weight().detach())
        formats = self._formats(private, resources, grids)
        self._require_integers(formats)
        # The biases of a network that was on grids make up for rounding already: by this, or by training.
        alone = not (self.budget.epochs or rounded or {*_CORRECTS_MEANS, "adaround", "batchnorm"} & set(adjust))
        inputs = typical_inputs(private, resources.calibration) if alone else {}
        self._put_grids_(private, formats, grids, worth)
        keep_grids_(private, held)
        weights = [layer.quantizer for layer in weighted_layers(private).values() if layer.quantizer is not None]
        require_priced(self.rate, weights)
        require_incremental(self.portions, default_of(Quantize, "portions"), weights)
        correct_rounding_(private, inputs)
        adjust_after_(private, reference, adjust, work)
        if self.budget.epochs:
            freeze(private)  # a network without an integer form fails here, not after training
        return Training(private, resources)

    def _adjustments(self, network: Network, images: Tensor) -> tuple[str, ...]:
        """The adjustments to make; without training, a BatchNorm that stands alone is smoothed here, and needs ``bias``.

        Where the layer before it gives 0, it gives a constant that is not on the grid: an error of the mean.
        """
        if self.budget.epochs or self.activations == FLOAT32 or "smooth" in self.adjust:
            return self.adjust
        corrected = not _CORRECTS_MEANS.isdisjoint(self.adjust)
        return self.adjust if not smooth_norms_(network, images) or corrected else (*self.adjust, "bias")

    def _require_integers(self, formats: Mapping[str, Format]) -> None:
        """Refuse settings that only integers follow, where every layer is float."""
        if not all(form.grid in FLOAT_WEIGHTS for form in formats.values()):
            return
        if self.rate:
            raise InvalidRecipe(
                f"quantize: rate is {self.rate} and every layer is float, so it would have no effect: it makes the steps of "
                "integers coarser; leave rate at 0, or keep some layers in integers"
            )
        if self.activations != FLOAT32:
            raise InvalidRecipe(
                f"quantize: formats{' and mixed' if self.mixed else ''} make every layer float and activations is "
                f"'{self.activations}', so nothing would compute in integers; set activations = 'float32', or keep some layers "
                f"in integers{', with a smaller budget' if self.mixed else ''}"
            )

    def _formats(self, network: Network, resources: Resources, grids: Mapping[str, Grid]) -> Mapping[str, Format]:
        """The format of every layer of a float network; ``grids`` are the grids of its values."""
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

    def _narrow(self, structure: Graph) -> Mapping[str, int]:
        """Bits of the values that have fewer than 8."""
        if self.activation_bits == BITS or self.activations == FLOAT32:
            return {}
        apart = {*reciprocals_of(structure), *compared_of(structure)}
        return {name: self.activation_bits for name in values_of_few_levels(structure) if name not in apart}

    def _put_grids_(
        self, network: Network, formats: Mapping[str, Format], grids: Mapping[str, Grid], worth: Mapping[str, Tensor]
    ) -> None:
        """Put every weight and value of a float network on its grid; ``worth`` is the price of bits, if they have one."""
        for name, layer in weighted_layers(network).items():
            with located(f"layer '{name}'"):
                layer.quantizer = self._weight_grid(layer.effective_weight().detach(), formats[name], worth.get(name))
        if not self.budget.epochs:  # training starts from the steps as calibrated and makes up for their settling
            choose_plain_steps_(network)
        for _ in range(ROUNDS):
            recount_(network)
        real = [name for name, form in formats.items() if form.grid in FLOAT_WEIGHTS]
        apart = {*reciprocals_of(network.structure), *compared_of(network.structure)}  # their ranges do not give their steps
        for name in grid_values(network.structure, real) if self.activations != FLOAT32 else ():
            scales = "learned" if name in apart else self.scales
            network.set_grid_(name, new_activation_grid(self.activations, grids[name], scales))
        network.to(next(network.parameters()).device)

    def _weight_grid(self, weight: Tensor, form: Format, worth: Tensor | None) -> WeightGrid:
        """The grid of a weight [Co, ...]; ``worth`` [Co] is the price of its bits, if they have one."""
        bits = form.width(self.weight_bits)
        if form.grid in FLOAT_WEIGHTS:
            return new_weight_grid(form.grid, weight, WeightSettings(bits, self.scales, name=form.grid))
        method = self.weight_calibrator or self.calibrator
        clip = weight_clips(weight, bits=bits, method=method, percentile=self.percentile)
        if worth is not None:
            clip = coarser_clips(weight, clip, worth, 2 ** (bits - 1) - 1)
        return new_weight_grid(form.grid, weight, WeightSettings(bits, self.scales, clip, worth, group=form.group))

    def advance(self, training: Training, progress: float, /) -> None:
        """Recount bits that have a price; fix the next portion of the weights of incremental grids."""
        if self.rate:
            recount_(training.network)
        share = self.portions[int(progress * (len(self.portions) - 1))]
        for layer in weighted_layers(training.network).values():
            if layer.quantizer is not None and layer.quantizer.incremental is not None:
                layer.quantizer.incremental.fix_largest_(layer.weight, share)

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default, and the price of bits."""
        return (rate_term(self.rate),) if self.rate else ()


def _require_steps(name: str, weight: Tensor) -> None:
    """Reject a layer whose weights are too small for steps in float32; all zeros are fine."""
    largest = float(weight.abs().max())
    if not 0 <= largest < math.inf:
        raise TrainingFailed(
            f"layer '{name}': its largest weight is {largest}; check the weights, or train with a lower learning rate"
        )
    if 0 < largest < SMALLEST_WEIGHT:
        raise TrainingFailed(
            f"layer '{name}': its largest weight is {largest:.2g}, too small for steps in float32; rescale its weights to at "
            f"least {SMALLEST_WEIGHT:.2g}"
        )
