import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run, values
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network import network as network_module
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.grids import Grid
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network
from paretrim.network.torch_forms import IN_PLACE
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


def test_a_copy_is_independent(network, images):
    private = copy.deepcopy(network)
    with torch.no_grad():
        for layer in weighted_layers(private).values():
            layer.weight.zero_()
    assert network(images).abs().max() > 0
    assert private(images).std(0).max() == 0


def test_it_can_be_pickled(network, images):
    name, layer = next(iter(weighted_layers(network).items()))
    set_mask_(layer, torch.arange(layer.weight.numel()).reshape(layer.weight.shape) % 2 == 0)
    loaded = pickle.loads(pickle.dumps(network))
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
        weighted_layers(loaded)[name].weight.zero_()
    assert layer.weight.any()
    validate(loaded.graph())
    with pytest.raises(TypeError, match="does not support item assignment"):
        loaded.graph().nodes[0].attributes["groups"] = 2


def test_features_are_given_by_name_with_the_input(network, images):
    found = network.features(images, (INPUT,))
    assert set(found) == {INPUT, network.structure.output}
    assert found[INPUT] is images


def test_a_grid_is_attached_to_its_value(network, images):
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


def test_a_network_can_replace_another_in_place(network, images):
    other = Network(random_graph(4, quantized=False, pixels=False)[0]).eval()
    network.become_(other)
    torch.testing.assert_close(network(images), other(images))
    assert network.structure is other.structure


def test_a_network_takes_over_arrays_that_nobody_else_holds():
    """Of two nodes with one array the first; never a part of a larger array, nor one that is read-only."""
    whole, part, still = np.ones((4, 4), np.float32), np.ones((2, 4, 4), np.float32)[0], np.ones((4, 4), np.float32)
    held = torch.ones(4, 4)
    still.flags.writeable = False
    arrays = [whole, whole, part, still, held.numpy(), torch.ones(2, 4, 4)[1].numpy(), np.ones((4, 4), np.float32)[::1].T]
    nodes, before = [], INPUT
    for number, array in enumerate(arrays):
        nodes.append(Node(f"layer{number}", "linear", (before,), ValueType((4,)), {}, {"weight": array}))
        before = nodes[-1].name
    graph = Graph(InputSpec((4,)), tuple(nodes), (before,))

    def shares(network):
        weights = [layer.weight.detach().numpy() for layer in weighted_layers(network).values()]
        assert all((weight == 1).all() for weight in weights)
        return [np.shares_memory(weight, array) for weight, array in zip(weights, arrays, strict=True)]

    assert not any(shares(Network(graph)))
    assert shares(Network(graph, owned=True)) == [True, False, False, False, True, False, False]


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


def padded_and_clamped():
    """A pad, a convolution, its ReLU, and a clamp of the ReLU's sum with the convolution."""
    kind = ValueType((3, 6, 6))
    weight = np.random.default_rng(0).normal(0, 1, (3, 2, 3, 3)).astype(np.float32)
    return Graph(
        InputSpec((2, 5, 5)),
        (
            Node("p", "pad", (INPUT,), ValueType((2, 8, 8)), {"before": (0, 1, 2), "after": (0, 2, 1)}),
            Node("c", "conv2d", ("p",), kind, {}, {"weight": weight}),
            Node("r", "relu", ("c",), kind),
            Node("a", "add", ("r", "c"), kind),
            Node("s", "clamp", ("a",), kind, {"minimum": -0.5, "maximum": 1.0}),
            Node("f", "flatten", ("s",), ValueType((108,))),
        ),
        ("f",),
    )


@pytest.mark.parametrize("names", [(), ("p",), ("c",), ("a",), ("p", "c", "r", "a", "s", INPUT)])
def test_without_gradients_values_are_the_same_bits(names):
    network = Network(padded_and_clamped()).eval()
    images = torch.randn((4, 2, 5, 5), generator=torch.Generator().manual_seed(0))
    before = images.clone()
    expected = network.features(images, names)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = network.features(images, names)
        assert found.keys() == expected.keys() == {*names, "f"}
        assert all(torch.equal(found[name], expected[name]) for name in found)
    assert torch.equal(images, before)


def test_without_gradients_a_clamp_reuses_dead_memory(monkeypatch):
    taken = []
    counted = {op: lambda *call, op=op, form=form: taken.append(op) or form(*call) for op, form in IN_PLACE.items()}
    monkeypatch.setattr(network_module, "IN_PLACE", counted)
    network, images = Network(padded_and_clamped()).eval(), torch.zeros(1, 2, 5, 5)
    network(images)
    assert taken == []  # gradients
    with torch.no_grad():
        network(images)
        assert taken == ["clamp"]  # the sum reads what the ReLU reads
        network.features(images, ("a",))
        assert taken == ["clamp"]


def test_a_pad_with_a_grid_is_kept():
    network = Network(padded_and_clamped()).eval()
    network.set_grid_("p", ActivationQuantizer(Grid(0.5, 10), scales="learned"))
    images = torch.randn((2, 2, 5, 5), generator=torch.Generator().manual_seed(0))
    expected = network(images)
    with torch.no_grad():
        assert torch.equal(network(images), expected)
    network.grids.clear()
    assert not torch.equal(network(images), expected)
