"""Reciprocals that only scale other values: their steps follow the error of the products, not their own range."""

import copy
import functools
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paretrim.capture.agreement import captured_network
from paretrim.data.digits import load_digits
from paretrim.graph.fusion import grid_values
from paretrim.graph.interpreter import run
from paretrim.graph.types import InputSpec
from paretrim.network.constraints import key_of
from paretrim.network.freeze import freeze
from paretrim.network.grids import SMALLEST_SCALE, TOP
from paretrim.stages.quantize.calibration import calibrate
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.reciprocals import reciprocals_of
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution

SHAPE = (1, 8, 8)
IMAGES = load_digits().train.images[:128].float() / 255  # the background is exactly 0
RESOURCES = SimpleNamespace(calibration=IMAGES, execution=Execution(device="cpu", precision="float32"), seed=0)


class Norm(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class ChannelsLast(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMS = {
    "F.normalize": Norm(lambda x: F.normalize(x, dim=1)),
    "norm and a small number": Norm(lambda x: x / (x.norm(dim=1, keepdim=True) + 1e-6)),
    "sum": Norm(lambda x: x / (x.sum(1, keepdim=True) + 1e-8)),
    "scaled reciprocal": Norm(lambda x: x * (2.0 / (x.sum(1, keepdim=True) + 1e-8))),
    "largest of a channel": Norm(lambda x: x / (x.amax((2, 3), keepdim=True) + 1e-8)),
    "root mean square": Norm(lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)),
    "GroupNorm": nn.GroupNorm(12, 12),
    "InstanceNorm": nn.InstanceNorm2d(12),
    "LayerNorm": ChannelsLast(nn.LayerNorm(12)),
}


@functools.cache
def network_with(name):
    """Background pixels, and one channel, are 0 before the norm."""
    generator = torch.Generator().manual_seed(0)
    conv, head = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.Conv2d(12, 6, 1)
    with torch.no_grad():
        for layer in (conv, head):
            layer.weight.normal_(0, layer.weight[0].numel() ** -0.5, generator=generator)
        conv.weight[3] = 0
    module = nn.Sequential(conv, nn.ReLU(), NORMS[name], head, nn.Flatten()).eval()
    return module, captured_network(module, SHAPE, images=IMAGES[:16]).eval()


def error_of(module, quantized):
    with torch.no_grad():
        expected = module(IMAGES).numpy()
    found = run(freeze(quantized, InputSpec(SHAPE)), IMAGES.numpy())
    return np.sqrt(np.square(found - expected).mean() / np.square(expected - expected.mean(0)).mean())


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_of_what_is_zero_leaves_steps_for_the_rest(name):
    """A grid that covers 1 / epsilon has no step for other pixels: errors were 1.2 to 3.1, of GroupNorm 0.23, of LayerNorm 0.43.

    What is left where squares are summed is the rounding of the squares.
    """
    module, network = network_with(name)
    bound = 0.15 if name in ("sum", "scaled reciprocal", "largest of a channel", "GroupNorm", "InstanceNorm") else 0.35
    assert error_of(module, Quantize().begin(network, RESOURCES).network) < bound


@pytest.mark.parametrize("calibrator", get_args(Calibrator))
def test_no_calibrator_covers_the_reciprocals_of_zeros(calibrator):
    _, network = network_with("F.normalize")
    names = grid_values(network.structure)
    grids = calibrate(network, names, IMAGES, method=calibrator, percentile=99.99)
    with torch.no_grad():
        values = network.features(IMAGES, names)
    found = reciprocals_of(network.structure)
    assert len(found) == 2
    for name in found:
        assert values[name].max() > 1e11
        assert TOP * grids[name].scale < 1e3


def test_the_range_has_the_smallest_error_of_the_products():
    """Against brute force on the values themselves."""
    _, network = network_with("sum")
    names = grid_values(network.structure)
    grids = calibrate(network, names, IMAGES, method="mse", percentile=99.99)
    with torch.no_grad():
        values = network.features(IMAGES, names)
    (spread, partners), *_ = [(name, of) for name, of in reciprocals_of(network.structure).items() if values[name].shape[1] == 12]
    scale = grids[partners[0]].scale
    other = (torch.round(values[partners[0]] / scale) * scale).double().numpy()
    exact = values[spread].double().numpy()

    def error(step):
        return np.square(other * (np.minimum(np.rint(exact / step), TOP) * step - exact)).sum()

    best = min(error(top / TOP) for top in np.geomspace(exact.max() * 1e-9, exact.max(), 1000))
    assert exact.max() > 1e7
    assert error(grids[spread].scale) < 1.1 * best


def test_observed_scales_do_not_follow_the_range_of_a_reciprocal():
    """A moving average of 1e12 would leave no steps after one batch; the products say nothing where they are 0."""
    _, network = network_with("F.normalize")
    quantized = Quantize(scales="observed").begin(network, RESOURCES).network.train()
    keys = {name: key_of(name) for name in reciprocals_of(network.structure)}
    before = {name: quantized.grids[key].grid() for name, key in keys.items()}
    quantized(IMAGES[:32]).square().sum().backward()
    assert {name: quantized.grids[key].grid() for name, key in keys.items()} == before
    assert all(quantized.grids[key].scale.grad.isfinite() for key in keys.values())


def test_only_what_products_read_is_a_reciprocal():
    bodies = {
        "read by a sum": lambda x: x + 1 / (x + 1),
        "squared": lambda x: (y := 1 / (x + 1)) * y + x,
        "not below 0": lambda x: x * (x + 1).sqrt(),
        "returned": lambda x: 1 / (x + 1),
    }
    for name, function in bodies.items():
        module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), Norm(function))
        assert not reciprocals_of(captured_network(module.eval(), SHAPE, images=IMAGES[:16]).structure), name


def test_a_reciprocal_of_zeros_alone_gets_the_grid_of_zeros():
    """Where every product is 0, no step is better than another."""
    module = copy.deepcopy(network_with("F.normalize")[0])
    with torch.no_grad():
        module[0].weight.zero_()
    network = captured_network(module, SHAPE, images=IMAGES[:16]).eval()
    grids = calibrate(network, grid_values(network.structure), IMAGES, method="mse", percentile=99.99)
    assert all(SMALLEST_SCALE <= grid.scale < np.inf for grid in grids.values())
    assert error_of_constants(module, network) < 1 / TOP


def error_of_constants(module, network):
    with torch.no_grad():
        expected = module(IMAGES).numpy()
    found = run(freeze(Quantize().begin(network, RESOURCES).network, InputSpec(SHAPE)), IMAGES.numpy())
    return float(np.abs(found - expected).max() / np.abs(expected).max())
