"""INT8 quantization as a stage: with epochs it is quantization-aware training, with none post-training quantization."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from paretrim.constraints import weighted_layers
from paretrim.fake_quantize import ActivationQuantizer, Scales, WeightQuantizer
from paretrim.graph.fusion import grid_values
from paretrim.network import Network
from paretrim.quantize.calibration import Calibrator, calibrate, weight_clips
from paretrim.train.budget import STRICT, Budget
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources


@dataclass(frozen=True, config=STRICT)
class Quantize:
    """Put every convolution, linear layer and activation on an integer grid, and train through the rounding.

    Weights: symmetric, per output channel, ``weight_bits`` wide (8; 7 for CPUs without VNNI). Activations: uint8 per tensor.
    Scales are ``learned`` (LSQ) or ``observed`` (range of the weight; moving average of the activation range), starting from the
    calibrator. BatchNorm stays live: it multiplies an output channel by a factor, as the weight's scale does, so folding it at
    the end leaves the trained integers as they are.
    """

    name: ClassVar[str] = "quantize"
    budget: Budget = Field(default_factory=Budget)
    weight_bits: Annotated[int, Field(ge=2, le=8, strict=True)] = 8
    scales: Literal["learned", "observed"] = "learned"
    calibrator: Calibrator = "mse"
    percentile: Annotated[float, Field(gt=50.0, le=100.0, strict=True)] = 99.99

    def begin(self, network: Network, resources: Resources, /) -> Network:
        """A copy with fake quantizers on every weight and on every value that the integer graph requantizes."""
        device = resources.execution.torch_device()
        private = copy.deepcopy(network).to(device)
        private.grids.clear()
        for layer in weighted_layers(private).values():
            layer.quantizer = None
        names = grid_values(private.structure)
        grids = calibrate(private, names, resources.calibration, method=self.calibrator, percentile=self.percentile)
        scales: Scales = self.scales
        for layer in weighted_layers(private).values():
            weight = layer.effective_weight().detach()
            clip = weight_clips(weight, bits=self.weight_bits, method=self.calibrator, percentile=self.percentile)
            layer.quantizer = WeightQuantizer(weight, bits=self.weight_bits, scales=scales, clip=clip)
        for name in names:
            private.set_grid_(name, ActivationQuantizer(grids[name], scales=scales).to(device))
        return private

    def advance(self, network: Network, progress: float, /) -> None:
        """Nothing ramps."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()
