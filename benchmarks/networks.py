"""Networks for the benchmarks: built, pruned and quantized without training, on random images.

The time of a call depends on shapes and on the positions of zeros, not on the values of the weights.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from paretrim.capture import capture
from paretrim.data.batches import EvalBatches
from paretrim.data.types import ImageSet
from paretrim.graph.types import Graph, InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.settle import settle_
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

CHANNELS = 3
MEAN, STD = (0.5,) * CHANNELS, (0.25,) * CHANNELS
CALIBRATION_IMAGES = 32
TIMED_IMAGES = 256


@dataclass(frozen=True, eq=False)
class PreparedNetwork:
    """A captured network with the resources that stages need; ``graph`` returns its deployed forms."""

    network: Network
    resources: Resources
    spec: InputSpec

    def graph(self, *, quantized: bool, zeros: float = 0.0) -> Graph:
        """The graph that ships, with this share of 1x4 blocks set to zero by magnitude in every layer but first and last."""
        network = self._quantized if quantized else self.network
        if zeros:
            stage = Prune(budget=Budget(epochs=0), sparsity=zeros, pattern="1x4", allocation="uniform")
            network = stage.begin(network, self.resources).network
        return freeze(network.eval(), self.spec)

    @functools.cached_property
    def _quantized(self) -> Network:
        """Cached for every sparsity: calibration takes seconds, and grids do not affect the time of a call."""
        network = Quantize(budget=Budget(epochs=0)).begin(self.network, self.resources).network
        settle_(network)
        return network


def prepare(model: ModelSpec, *, size: int, classes: int) -> PreparedNetwork:
    """The network in evaluation mode, with random weights (seed 0) unless the model names a file."""
    torch.manual_seed(0)
    shape = (CHANNELS, size, size)
    network = Network(capture(build(model, classes=classes, channels=CHANNELS), shape)).eval()
    images = ImageSet(
        torch.randint(0, 256, (CALIBRATION_IMAGES, *shape), dtype=torch.uint8), torch.zeros(CALIBRATION_IMAGES).long()
    )
    batches = EvalBatches(images=images, batch_size=CALIBRATION_IMAGES, mean=MEAN, std=STD)
    calibration = next(batches.epoch(0)).inputs
    resources = Resources(lambda _: batches, batches, calibration, Execution(device="cpu"), 0)
    return PreparedNetwork(network, resources, InputSpec(shape, MEAN, STD))


def random_pixels(size: int, count: int = TIMED_IMAGES) -> npt.NDArray[np.uint8]:
    """Images uint8 [count, 3, size, size], the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (count, CHANNELS, size, size), np.uint8)


def trained_weights(network: str, folder: str | None) -> str | None:
    """The weights file of a network in a folder of such files, if there is one."""
    path = Path(folder, f"cifar10_{network}.safetensors") if folder else None
    return str(path) if path and path.is_file() else None
