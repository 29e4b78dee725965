"""Several outputs in the training network, in its integers computed by torch, and in a thawed file."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from small_network import put_on_grids_
from torch import nn

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.graph.interpreter import run_outputs
from paretrim.network.freeze import freeze
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.network.thaw import network_from_file


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), heads=st.integers(2, 4))
def test_integers_by_torch_have_the_bits_of_the_interpreter(seed, heads):
    graph, _ = random_graph(seed, quantized=True, pixels=False, heads=heads)
    images = np.random.default_rng(seed).normal(0, 1.5, (3, *graph.input.shape)).astype(np.float32)
    with torch.no_grad():
        found = IntegerNetwork(graph, torch.device("cpu"))(torch.from_numpy(images))
    assert isinstance(found, tuple)
    for output, other in zip(found, run_outputs(graph, images), strict=True):
        np.testing.assert_array_equal(output.numpy().view(np.uint32), other.view(np.uint32))


class Trunk(nn.Module):
    """A linear head, a head with a ReLU, and the features that both read."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.trunk, self.head, self.other = nn.Conv2d(1, 6, 3), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x):
        features = self.trunk(x).relu().mean((2, 3))
        return self.head(features), self.other(features).relu(), features


IMAGES = torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(2))


def quantized():
    """A network with all its quantizers."""
    return put_on_grids_(Network(capture(Trunk(), (1, 6, 6))).eval(), IMAGES)


def test_float_outputs_are_those_of_the_module():
    network = Network(capture(Trunk(), (1, 6, 6))).eval()
    with torch.no_grad():
        for output, other in zip(network(IMAGES), Trunk()(IMAGES), strict=True):
            torch.testing.assert_close(output, other)
        named = network.features(IMAGES, ("trunk",))
    assert set(named) == {"trunk", *network.structure.outputs}


def test_integers_are_close_to_the_float_simulation():
    network = quantized()
    graph = freeze(network)
    with torch.no_grad():
        simulated = network(IMAGES)
    for output, other in zip(run_outputs(graph, IMAGES.numpy()), simulated, strict=True):
        np.testing.assert_allclose(output, other.numpy(), atol=0.03)


@pytest.mark.parametrize("quantize", [True, False])
def test_a_thawed_network_freezes_to_its_file(tmp_path, quantize):
    graph = freeze(quantized() if quantize else Network(capture(Trunk(), (1, 6, 6))).eval())
    trimfile.write(graph, tmp_path / "model.trim")
    network, spec = network_from_file(tmp_path / "model.trim")
    again = freeze(network, spec)
    assert again.output_shapes == graph.output_shapes == ((3,), (2,), (6,))
    for output, other in zip(run_outputs(again, IMAGES.numpy()), run_outputs(graph, IMAGES.numpy()), strict=True):
        np.testing.assert_array_equal(output, other)
