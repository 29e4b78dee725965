"""A deployed file can be trained further: it freezes to the same content, and its zeros stay."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "stages"))

from tiny import CLASSES, NETWORKS, NONE, SHAPE, SHORT, block, dense, resources, start

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.errors import UnsupportedOperation
from paretrim.graph import storage
from paretrim.graph.interpreter import run
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.thaw import network_from_file, thaw
from paretrim.network.uniform import WeightQuantizer
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize


def assert_equal_graphs(found, expected):
    assert [(node.op, node.type) for node in found.nodes] == [(node.op, node.type) for node in expected.nodes]
    for one, other in zip(found.nodes, expected.nodes, strict=True):
        assert dict(one.attributes) == dict(other.attributes)
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            assert tensor.dtype == other.tensors[name].dtype
            expected_tensor = other.tensors[name]
            if name == "weight_scale":  # that of a channel without weights is found again from its bias, a rounding away
                empty = ~other.tensors["weight"].reshape(len(tensor), -1).any(1)
                np.testing.assert_allclose(tensor[empty], expected_tensor[empty], rtol=2.5e-7)
                tensor, expected_tensor = tensor[~empty], expected_tensor[~empty]
            np.testing.assert_array_equal(tensor, expected_tensor, err_msg=f"{one.name} {name}")
    assert (found.input, found.classes) == (expected.input, expected.classes)


@pytest.mark.parametrize("suffix", [".trim", ".graph"])
@pytest.mark.parametrize("settings", [{}, {"rate": 0.01}, {"weight_bits": 4}])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_thawed_network_freezes_to_its_file(name, settings, suffix, tmp_path):
    stage = Quantize(budget=SHORT, **settings)
    pruned = run_stage(dense(name), Prune(budget=NONE, sparsity=0.5, pattern="1x4"), resources(name))
    graph = freeze(run_stage(pruned, stage, resources(name)).network, start(name).spec)
    path = tmp_path / f"network{suffix}"
    (trimfile.write if suffix == ".trim" else storage.save)(graph, path)
    network, spec = network_from_file(path)
    assert_equal_graphs(freeze(network, spec), graph)
    zeros = {node.name: node.tensors["weight"] == 0 for node in graph.nodes if "weight" in node.tensors}
    for key, layer in weighted_layers(network).items():
        assert (layer.mask is None) == (not zeros[key].any())
        if layer.mask is not None:
            np.testing.assert_array_equal(~layer.mask.numpy(), zeros[key])
    images = resources(name).calibration
    with torch.no_grad():
        logits = network(images).numpy()
    assert (run(freeze(network), images.numpy()).argmax(1) == logits.argmax(1)).mean() >= 0.9


def loss_of(network):
    """The mean cross-entropy of training images, which training reduces; accuracy could drop by chance."""
    images, labels = resources("residual").labelled_calibration()
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(network.eval()(images), labels))


def test_a_thawed_network_trains_and_keeps_its_zeros(tmp_path):
    pruned = run_stage(dense("residual"), Prune(budget=NONE, sparsity=0.6), resources("residual"))
    graph = freeze(run_stage(pruned, Quantize(budget=NONE), resources("residual")).network, start("residual").spec)
    trimfile.write(graph, tmp_path / "network.trim")
    network, spec = network_from_file(tmp_path / "network.trim")
    found = run_stage(Candidate(network), FineTune(budget=replace(SHORT, epochs=4)), resources("residual"))
    assert loss_of(found.network) < loss_of(network)
    again = freeze(found.network, spec)
    pairs = [
        (one.tensors["weight"], other.tensors["weight"])
        for one, other in zip(again.nodes, graph.nodes, strict=True)
        if "weight" in one.tensors
    ]
    assert any((one != other).any() for one, other in pairs)
    assert not any(one[other == 0].any() for one, other in pairs)


class Preactivated(nn.Module):
    """An unfoldable BatchNorm, fused and separate clamps, a table, and a sum of values of both signs."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.head = block(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv(torch.relu(self.norm(x)))
        x = nn.functional.hardswish(nn.functional.relu6(x) + nn.functional.hardtanh(x, -0.5, 0.75))
        return self.head(self.last(x).mean((2, 3)))


def settled(node):
    """Attributes except a BatchNorm's epsilon, which is part of its factors by then."""
    return {key: value for key, value in node.attributes.items() if key != "epsilon"}


def test_unfolded_batch_norm_and_clamps_are_restored():
    torch.manual_seed(3)
    network = Network(capture(Preactivated(), SHAPE))
    trained = run_stage(Candidate(network), FineTune(budget=SHORT), resources("residual"))
    graph = freeze(run_stage(trained, Quantize(budget=NONE), resources("residual")).network, start("residual").spec)
    assert "batch_norm" in {node.op for node in graph.nodes}
    again = freeze(thaw(graph), graph.input)
    assert [(node.op, node.type, settled(node)) for node in again.nodes] == [(n.op, n.type, settled(n)) for n in graph.nodes]
    for one, other in zip(again.nodes, graph.nodes, strict=True):
        for name, tensor in one.tensors.items():  # multiplier and offset of the BatchNorm are products, rounded twice
            tolerance = 3e-7 if one.op == "batch_norm" else 0
            np.testing.assert_allclose(tensor, other.tensors[name], rtol=tolerance, atol=0)


def test_float_files_are_restored(tmp_path):
    pruned = run_stage(dense("residual"), Prune(budget=NONE, sparsity=0.5), resources("residual"))
    graph = freeze(pruned.network, start("residual").spec)
    trimfile.write(graph, tmp_path / "float.trim")
    network, spec = network_from_file(tmp_path / "float.trim")
    assert_equal_graphs(freeze(network, spec), graph)
    assert sum(layer.mask is not None for layer in weighted_layers(network).values()) == 3


def test_other_files_and_huge_biases_are_refused(tmp_path):
    with pytest.raises(UnsupportedOperation, match=r"ends in '.onnx'; a network that trains is read from a .trim or .graph"):
        network_from_file(tmp_path / "network.onnx")
    graph = freeze(run_stage(dense("plain"), Quantize(budget=NONE), resources("plain")).network)
    last = graph.nodes[-1]
    huge = replace(last, tensors={**last.tensors, "bias": last.tensors["bias"] + 2**24})
    with pytest.raises(UnsupportedOperation, match=f"layer '{last.layer}': a bias is .* steps.*fewer than 8,388,608 exactly"):
        thaw(replace(graph, nodes=(*graph.nodes[:-1], huge)))


@pytest.mark.parametrize("bits", [(8, 4, 2, 4), (2, 8, 4, 8), (4, 2, 8, 2)])
def test_every_layer_has_the_bits_of_its_own_integers(bits):
    """No layer gets the bits of the widest layer."""
    network = Quantize(budget=NONE, calibrator="minmax").begin(dense("without_norm").network, resources("without_norm")).network
    for layer, count in zip(weighted_layers(network).values(), bits, strict=True):
        layer.quantizer = WeightQuantizer(layer.masked_weight().detach(), bits=count, scales="learned")
    graph = freeze(network)
    thawed = thaw(graph)
    assert tuple(layer.quantizer.bits for layer in weighted_layers(thawed).values()) == bits
    assert_equal_graphs(freeze(thawed), graph)
    stage = FineTune(budget=SHORT)
    trained = run_stage(Candidate(thawed), stage, resources("without_norm"))
    for layer, count in zip(weighted_layers(trained.network).values(), bits, strict=True):
        assert layer.quantizer.integers(layer.masked_weight())[0].abs().max() <= 2 ** (count - 1) - 1
