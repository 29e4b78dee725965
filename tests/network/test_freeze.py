import numpy as np
import pytest
import torch

from paretrim.errors import ExportMismatch, UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network, unshared
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

f32 = np.float32


def quantized(network, **settings):
    execution = Execution(device="cpu", precision="float32")
    resources = Resources(None, None, torch.randn(16, 2, 6, 6), execution, 0)
    return Quantize(budget=Budget(epochs=0), **settings).begin(network, resources).network.eval()


@pytest.mark.parametrize("bits", [8, 7, 4])
@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_the_frozen_graph_equals_the_trained_network(network, bits, scales):
    fake = quantized(network, weight_bits=bits, scales=scales)
    graph = freeze(fake)
    validate(graph)
    images = torch.randn(20, 2, 6, 6)
    with torch.no_grad():
        expected = fake(images).numpy()
    assert np.abs(run(graph, images.numpy()) - expected).max() <= 0.03 * np.abs(expected).max()
    for name, layer in weighted_layers(fake).items():
        weight = next(node for node in graph.nodes if node.name == name).tensors["weight"]
        assert (weight[~layer.mask.numpy()] == 0).all()
        assert 2 ** (bits - 1) - 1 >= np.abs(weight.astype(int)).max() > 2 ** (bits - 2)
    assert graph.classes == ("a", "b", "c")


def test_a_float_network_is_folded(network):
    graph = freeze(network)
    validate(graph)
    assert [node.op for node in graph.nodes] == ["conv2d", "relu", "flatten", "linear"]
    images = torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        np.testing.assert_allclose(run(graph, images.numpy()), network(images).numpy(), rtol=1e-4, atol=1e-4)
    for name, layer in weighted_layers(network).items():
        weight = next(node for node in graph.nodes if node.name == name).tensors["weight"]
        assert (weight[~layer.mask.numpy()] == 0).all()


@pytest.mark.parametrize("integer", [True, False])
def test_pixels_are_normalised_in_the_file(network, integer):
    spec = InputSpec((2, 6, 6), (0.4, 0.5), (0.2, 0.3))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 6, 6)).astype(np.uint8)
    mean, std = (np.array(v)[:, None, None] for v in (spec.mean, spec.std))
    trained = quantized(network) if integer else network
    found = run(freeze(trained, spec), pixels)
    expected = run(freeze(trained), ((pixels / 255 - mean) / std).astype(f32))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_half_quantized_networks_are_refused(network):
    fake = quantized(network)
    weighted_layers(fake)["conv"].quantizer = None
    with pytest.raises(UnsupportedOperation, match="layers conv are not quantized and the others are; quantize all or none"):
        freeze(fake)


def test_a_pruned_weight_that_is_not_zero_is_refused(network, monkeypatch):
    fake = quantized(network)
    quantizer = weighted_layers(fake)["conv"].quantizer
    monkeypatch.setattr(
        quantizer, "integers", lambda weight: (torch.ones_like(weight, dtype=torch.int8), torch.ones(len(weight)))
    )
    with pytest.raises(ExportMismatch, match="layer 'conv': a pruned weight is not 0 in the exported integers"):
        freeze(fake)


def arrays_of(graph):
    return {(node.name, name): array.copy() for node in graph.nodes for name, array in node.tensors.items()}


def test_a_frozen_graph_does_not_change_with_the_network(network):
    """Later changes of the network affect only graphs that share its memory on request."""
    frozen, own, shared, late = freeze(network), network.graph(), network.graph(shared=True), freeze(network, shared=True)
    kept = unshared(late)
    before = [arrays_of(graph) for graph in (frozen, own, kept, shared, late)]
    assert arrays_of(late).keys() == arrays_of(frozen).keys()
    assert all(array.tobytes() == arrays_of(frozen)[key].tobytes() for key, array in arrays_of(late).items())
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(1)
    after = [arrays_of(graph) for graph in (frozen, own, kept, shared, late)]
    for old, new in zip(before[:3], after[:3], strict=True):
        assert old.keys() == new.keys()
        assert all(old[key].tobytes() == new[key].tobytes() for key in old)
    assert any(before[3][key].tobytes() != after[3][key].tobytes() for key in before[3])


def test_a_graph_that_is_frozen_without_copies_lies_in_the_memory_of_the_network():
    weight = np.ones((4, 4), f32)
    linear = Node("linear", "linear", (INPUT,), ValueType((4,)), {}, {"weight": weight})
    network = Network(Graph(InputSpec((4,)), (linear,), ("linear",)))
    frozen = freeze(network, shared=True)
    kept = unshared(frozen)
    with torch.no_grad():
        weighted_layers(network)["linear"].weight.add_(1)
    assert (frozen.nodes[0].tensors["weight"] == 2).all()
    assert (kept.nodes[0].tensors["weight"] == 1).all()
