"""Layers called more than once, and weights shared by several layers: capture makes every use a layer of its own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hand_bodies import IMAGES, SHAPE, body
from hand_networks import conv
from torch import nn
from torch.nn import functional as F

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.runtime import load
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution

REMARK = r"the weight '.*' is used more than once: every use becomes a layer with its own copy"


class Gate(nn.Module):
    """The two gates of CBAM (Woo et al. 2018, arXiv 1807.06521): one small network sees means and maxima."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 8, 1, bias=False))
        self.places = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        x = x * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        return x * torch.sigmoid(self.places(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


def tied():
    parts = nn.ModuleList([conv(8, 8), conv(8, 8)])
    parts[1].weight = parts[0].weight
    return parts


def twice(self, x):
    return self.part(F.relu(self.part(x)))


CASES = {
    "cbam": lambda: body(lambda self, x: self.part(x), part=Gate()),
    "twice": lambda: body(twice, part=conv(8, 8)),
    "with its norm": lambda: body(twice, part=nn.Sequential(conv(8, 8), nn.BatchNorm2d(8))),
    "linear": lambda: body(lambda self, x: x * self.part(self.part(x.mean((2, 3))))[..., None, None], part=nn.Linear(8, 8)),
    "transposed": lambda: body(twice, part=nn.ConvTranspose2d(8, 8, 2, 2)),
    "tied": lambda: body(lambda self, x: self.part[1](F.relu(self.part[0](x))), part=tied()),
}


@pytest.mark.parametrize("name", CASES)
def test_every_use_computes_what_the_layer_does(name, tmp_path):
    module = CASES[name]()
    with pytest.warns(UserWarning, match=REMARK):
        network = Network(capture(module, SHAPE)).eval()
    with torch.no_grad():
        expected = module(IMAGES.clone())
        torch.testing.assert_close(network(IMAGES), expected, rtol=1e-5, atol=1e-5)
    resources = SimpleNamespace(calibration=IMAGES, execution=Execution(device="cpu", precision="float32"), seed=0)
    graph = freeze(Quantize().begin(network, resources).network.eval())
    validate(graph)
    trimfile.write(graph, tmp_path / "a.trim")
    found = load(tmp_path / "a.trim", measure=False)(IMAGES.numpy())
    np.testing.assert_array_equal(found, run(graph, IMAGES.numpy()))
    assert np.abs(found - expected.numpy()).max() < 0.1 * np.abs(expected.numpy()).max()


def test_the_copies_are_pruned_each_by_itself():
    with pytest.warns(UserWarning, match=REMARK):
        network = Network(capture(CASES["twice"](), SHAPE)).eval()
    layers = weighted_layers(network)
    assert {"part", "part_2"} <= set(layers)
    torch.testing.assert_close(layers["part"].weight, layers["part_2"].weight, rtol=0, atol=0)
    set_mask_(layers["part"], torch.zeros_like(layers["part"].weight, dtype=torch.bool))
    assert not layers["part"].masked_weight().any()
    assert layers["part_2"].masked_weight().any()


def test_two_parts_of_one_parameter_are_no_copies(recwarn):
    bank = nn.Parameter(torch.randn(2, 8, 8, 3, 3))
    capture(body(lambda self, x: F.conv2d(F.conv2d(x, self.bank[0]), self.bank[1]), bank=bank), SHAPE)
    assert not recwarn.list
