import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run, values
from paretrim.graph.types import INPUT
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.grids import Grid
from paretrim.network.network import BatchNorm, Network
from paretrim.network.uniform import ActivationQuantizer


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_a_network_computes_its_graph(seed):
    graph, images = random_graph(seed, quantized=False, pixels=False)
    network = Network(graph).eval()
    names = tuple(node.name for node in graph.nodes)
    with torch.no_grad():
        found = network.features(torch.from_numpy(images), names)
    for name, expected in values(graph, images).items():
        if name != INPUT:
            np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-4, atol=1e-4 * max(np.abs(expected).max(), 1e-3))
    again = network.graph()
    validate(again)
    np.testing.assert_array_equal(run(again, images), run(graph, images))
    assert (again.output, again.classes, again.input) == (graph.output, graph.classes, graph.input)


@pytest.fixture
def network():
    return Network(random_graph(3, quantized=False, pixels=False)[0]).eval()


@pytest.fixture
def images():
    return torch.from_numpy(random_graph(3, quantized=False, pixels=False)[1])


def test_a_copy_is_its_own(network, images):
    private = copy.deepcopy(network)
    with torch.no_grad():
        for layer in weighted_layers(private).values():
            layer.weight.zero_()
    assert network(images).abs().max() > 0
    assert private(images).std(0).max() == 0


def test_features_are_given_by_name_with_the_input(network, images):
    found = network.features(images, (INPUT,))
    assert set(found) == {INPUT, network.structure.output}
    assert found[INPUT] is images


def test_a_grid_stands_on_its_value(network, images):
    name = next(iter(weighted_layers(network)))
    network.set_grid_(name, ActivationQuantizer(Grid(0.5, 10), scales="learned"))
    assert list(network.quantizers()) == [name]
    steps = network.features(images, (name,))[name] / 0.5
    torch.testing.assert_close(steps, steps.round())


def test_masks_are_in_the_graph(network):
    name, layer = next(iter(weighted_layers(network).items()))
    mask = torch.rand_like(layer.weight) > 0.5
    set_mask_(layer, mask)
    node = next(node for node in network.graph().nodes if node.name == name)
    assert (node.tensors["weight"][~mask.numpy()] == 0).all()


def test_a_network_becomes_another(network, images):
    other = Network(random_graph(4, quantized=False, pixels=False)[0]).eval()
    network.become_(other)
    torch.testing.assert_close(network(images), other(images))
    assert network.structure is other.structure


def test_batch_norms_train_on_the_batch_unless_they_are_frozen():
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    layer = BatchNorm({"gamma": ones, "beta": zeros, "mean": zeros, "variance": ones}, 1e-5)
    x = torch.randn(8, 2, 3, 3) * 3 + 1
    assert abs(float(layer(x).detach().mean())) < 1e-5
    assert float(layer.mean.abs().max()) > 0
    layer.frozen, before = True, layer.mean.clone()
    torch.testing.assert_close(layer(x), layer.eval()(x))
    torch.testing.assert_close(layer.mean, before)
    constant = BatchNorm({"gamma": ones * 2, "beta": zeros, "mean": zeros, "variance": ones}, 0.0)
    torch.testing.assert_close(constant(x), 2 * x)  # a constant of the user's is no statistic
    constant.alive = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(constant(x)[:, 0], torch.zeros(8, 3, 3))
