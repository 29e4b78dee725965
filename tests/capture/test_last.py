"""Channels-last layouts, norms over the image, permuted axes, and every mode of interpolation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hand_bodies import IMAGES, SHAPE, body, is_captured, is_refused
from hand_networks import conv
from torch import nn
from torch.nn import functional as F

from paretrim import trimfile
from paretrim.capture.agreement import captured_network
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.network.freeze import freeze
from paretrim.runtime import load
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution


class ConvNextBlock(nn.Module):
    """Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545, figure 4, as torchvision writes it."""

    def __init__(self, channels=8):
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.rand(channels))
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias, 0, 0.2)

    def forward(self, x):
        inside = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        inside = self.scale * F.dropout(self.narrow(F.gelu(self.wide(inside))), 0.1, self.training)
        return x + inside.permute(0, 3, 1, 2)


def norm_of_channels(self, x):
    return F.layer_norm(x.permute(0, 2, 3, 1), (8,), self.weight, self.bias, 1e-3).permute(0, 3, 1, 2)


def norm_of_a_pixel(self, x):
    pixel = F.layer_norm(x.mean((2, 3), keepdim=True).permute(0, 2, 3, 1), (8,), self.weight, self.bias, 1e-3)
    return x * pixel.permute(0, 3, 1, 2)


def channels_last(self, x):
    last = self.c(x).permute(0, 2, 3, 1)
    other = (1 - last).relu() * last + last / self.weight
    return (self.bias - other.contiguous()).permute(0, 3, 1, 2)


def gated(self, x):
    """MambaOut's block: parts of the channels, one of which goes through a convolution and comes back."""
    gate, kept, mixed = torch.split(self.fc(x.permute(0, 2, 3, 1)), [8, 5, 3], dim=-1)
    mixed = self.depthwise(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return x + (torch.relu(gate) * torch.cat((kept, mixed), dim=-1)).permute(0, 3, 1, 2)


def parts_of_channels_last(self, x):
    last = self.c(x).permute(0, 2, 3, 1)
    first, second = last[..., :6].chunk(2, -1)
    top, bottom = last[:, ::2, 1:5].split(2, 1)
    joined = torch.cat((first - second, last[..., 3:]), 3).permute(0, 3, 1, 2)
    return joined + (top - bottom).permute(0, 3, 1, 2).mean((2, 3), keepdim=True)


BODIES = {
    "gated": (gated, {"fc": nn.Linear(8, 16), "depthwise": nn.Conv2d(3, 3, 3, padding=1, groups=3)}),
    "parts of channels-last": (parts_of_channels_last, {}),
    "convnext": (lambda self, x: self.block(x), {"block": ConvNextBlock()}),
    "layer norm of channels": (norm_of_channels, {}),
    "layer norm of a pixel": (norm_of_a_pixel, {}),
    "layer norm of a vector": (
        lambda self, x: x * F.layer_norm(x.mean((2, 3)), (8,), self.weight, None, 1e-3)[..., None, None],
        {},
    ),
    "layer norm of the image": (lambda self, x: F.layer_norm(self.c(x), (8, 8, 8), eps=1e-3), {}),
    "group norm": (lambda self, x: F.group_norm(self.c(x), 2, self.weight, self.bias, 1e-3), {}),
    "group norm of one group": (lambda self, x: F.group_norm(self.c(x), 1, self.weight, self.bias, 1e-3), {}),
    "group norm of every channel": (lambda self, x: F.group_norm(self.c(x), 8, self.weight, self.bias, 1e-3), {}),
    "instance norm": (lambda self, x: F.instance_norm(self.c(x), weight=self.weight, bias=self.bias, eps=1e-3), {}),
    "functions and sums": (channels_last, {}),
    "linear of a pixel": (
        lambda self, x: x * self.fc(x.mean((2, 3), keepdim=True).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {"fc": nn.Linear(8, 8)},
    ),
    "rows reversed": (lambda self, x: x.flip(2) * self.c(x), {}),
    "rows and columns reversed": (lambda self, x: torch.flip(self.c(x), (2, 3)), {}),
    "all reversed": (lambda self, x: torch.flip(self.c(x), (1, -1)), {}),
    "vector reversed": (lambda self, x: x * x.mean((2, 3)).flip(1)[..., None, None], {}),
    "rolled": (lambda self, x: torch.roll(self.c(x), (3, -2), (2, 3)), {}),
    "rolled twice": (lambda self, x: torch.roll(self.c(x), (3, -2), (2, 2)), {}),
    "channels rolled": (lambda self, x: torch.roll(self.c(x), 3, 1), {}),
    "corners aligned": (lambda self, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), {}),
    "corners aligned, to a size": (lambda self, x: F.interpolate(x, (11, 13), mode="bilinear", align_corners=True), {}),
    "bilinear to a size": (lambda self, x: F.interpolate(x, (11, 5), mode="bilinear"), {}),
    "bilinear by a factor": (lambda self, x: F.interpolate(x, scale_factor=1.3, mode="bilinear"), {}),
    "bicubic": (lambda self, x: F.interpolate(x, scale_factor=2, mode="bicubic"), {}),
    "smooth": (lambda self, x: F.interpolate(x, (5, 6), mode="bilinear", antialias=True), {}),
    "nearest to a size": (lambda self, x: F.interpolate(x, (13, 11)), {}),
}


def built(name):
    function, parts = BODIES[name]
    shared = {"weight": nn.Parameter(torch.linspace(0.5, 1.5, 8)), "bias": nn.Parameter(torch.linspace(-0.5, 0.5, 8))}
    return body(function, c=conv(8, 8), **shared, **parts)


@pytest.mark.parametrize("name", BODIES)
def test_it_is_what_torch_computes_and_runs_in_integers(name, tmp_path):
    module = built(name)
    is_captured(module)
    network = captured_network(module, SHAPE, images=IMAGES).eval()
    resources = SimpleNamespace(calibration=IMAGES, execution=Execution(device="cpu", precision="float32"), seed=0)
    graph = freeze(Quantize(calibrator="minmax").begin(network, resources).network.eval())
    validate(graph)
    trimfile.write(graph, tmp_path / "a.trim")
    found = load(tmp_path / "a.trim", measure=False)(IMAGES.numpy())
    np.testing.assert_array_equal(found, run(graph, IMAGES.numpy()))
    with torch.no_grad():
        expected = module(IMAGES.clone()).numpy()
    assert np.abs(found - expected).max() < 0.15 * np.abs(expected).max()


REFUSED = {
    "convolution": (
        lambda self, x: self.c(x.permute(0, 2, 3, 1)),
        r"it reads a channels-last map, which only layer norm, linear",
    ),
    "only one": (
        lambda self, x: x.permute(0, 2, 3, 1) + x,
        r"only one of its operands is channels-last",
    ),
    "norm of rows": (
        lambda self, x: F.layer_norm(x, (8,)),
        r"it normalises \[8\] of \[8, 8, 8\]; normalise whole images, or chan",
    ),
    "norm of a vector": (
        lambda self, x: F.group_norm(x.mean((2, 3)), 2)[..., None, None],
        r"it normalises \[8\]; this norm is",
    ),
    "batch": (lambda self, x: x.flip(0), r"it reorders the images of a batch; every image must be computed alike"),
    "all axes": (lambda self, x: torch.roll(x, 1), r"it rolls the flattened tensor, across images; pass the axes"),
    "flattened": (
        lambda self, x: x.flatten(2).flip(2).view_as(x),
        r"it reorders axes of \(8, 64\); only channels, rows and columns of maps \[C, H, W\]",
    ),
    "huge": (
        lambda self, x: F.interpolate(x, (9000, 1), mode="bilinear", align_corners=True),
        r"it computes 9000 rows or columns from 8; their product may be at most 65,536",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_exact_is_refused(name):
    function, message = REFUSED[name]
    weight = nn.Parameter(torch.ones(8))
    is_refused(body(function, c=conv(8, 8), weight=weight), message)
