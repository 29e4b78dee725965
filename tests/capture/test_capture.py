import math

import numpy as np
import pytest
import torch
from hand_bodies import SHAPE, untrained_body
from hand_networks import CLASSES, NETWORKS, Net, conv, made
from torch import nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.capture.driver import CONVERTERS
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.network.network import Network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_captured_network_computes_what_its_module_does(name):
    module = made(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    graph = capture(module, SHAPE, classes=[str(index) for index in range(CLASSES)])
    validate(graph)
    images = torch.rand(3, *SHAPE)
    with torch.no_grad():
        expected, found = module(images.clone()), Network(graph).eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(graph, images.numpy()), expected.numpy(), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_layers_keep_the_names_of_the_user():
    graph = capture(made("shuffle"), SHAPE)
    names = [node.name for node in graph.nodes]
    assert {"stem", "norm", "branch.0", "branch.1", "branch.2.relu", "head"} <= set(names)
    assert next(node for node in graph.nodes if node.op == "concat").layer == ""


def test_a_normalisation_inside_the_network_is_one_node():
    graph = capture(made("normalised"), SHAPE)
    first = graph.nodes[0]
    assert (first.op, graph.nodes[1].op) == ("batch_norm", "conv2d")
    np.testing.assert_allclose(first.tensors["gamma"], [5.0, 4.0, 1 / 0.3], rtol=1e-6)
    np.testing.assert_allclose(first.tensors["beta"], [-2.0, -2.0, -2.0], rtol=1e-6)


def test_dead_branches_are_left_out():
    class Dead(Net):
        def body(self, x):
            torch.tanh(x)
            return x

    assert all(node.op != "pointwise" for node in capture(Dead().eval(), SHAPE).nodes)


@pytest.mark.parametrize("dropout", [nn.Dropout(0.2), nn.Dropout2d(0.2), nn.Dropout(0.2, inplace=True)])
def test_what_is_changed_in_place_behind_a_dropout_is_changed_in_front_of_it(dropout):
    def forward(self, x):
        before = self.extra[0](x)
        behind = self.extra[1](before)
        behind += x
        return before + behind

    module = untrained_body(forward, lambda: nn.ModuleList([conv(8, 8), dropout])).eval()
    images = torch.rand(3, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(Network(capture(module, SHAPE)).eval()(images), module(images), rtol=1e-5, atol=1e-5)


def test_every_converter_is_reached_by_name():
    """By what :func:`operation_of` gives: no overload, and no underscore of operations in place but that of ``__and__``."""
    assert all("." not in name and (name.startswith("__") or name == name.removesuffix("_")) for name in CONVERTERS)


def _resized(**how):
    return untrained_body(lambda _, x: F.interpolate(x, mode="bilinear", **how))


@pytest.mark.parametrize(
    "bounded",
    [lambda x: F.hardtanh(x, -math.inf, 0.2), lambda x: x.clamp(-math.inf, math.inf), lambda x: x.clamp(0.1, math.inf)],
)
def test_an_infinite_bound_bounds_nothing(bounded):
    module = untrained_body(lambda _, x: bounded(x)).eval()
    images = torch.rand(3, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(Network(capture(module, SHAPE)).eval()(images), module(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "how", [{"size": (16, 16)}, {"scale_factor": 2.0}, {"scale_factor": 2.05, "recompute_scale_factor": True}]
)
def test_bilinear_upsampling_by_the_ratio_of_the_sizes_is_captured(how):
    module = untrained_body(lambda _, x: F.interpolate(x[:, :, :8, :8], mode="bilinear", **how)).eval()
    images = torch.rand(3, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(Network(capture(module, SHAPE)).eval()(images), module(images), rtol=1e-5, atol=1e-5)
