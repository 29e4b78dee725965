"""Means over channels and gates of single maps are convolutions in a graph, but are neither pruned nor trained."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.graph.checks import validate
from paretrim.graph.types import InputSpec
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.stages.prune.stage import Prune
from paretrim.train.execution import Execution

RESOURCES = SimpleNamespace(execution=Execution(device="cpu", precision="float32"))
SHAPE = (3, 8, 8)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.last = (nn.Conv2d(inputs, 8, 3, padding=1) for inputs in (3, 8, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.conv(F.relu(self.stem(x))))
        x = x * x.mean(1, keepdim=True).sigmoid()
        return self.head(F.relu(self.last(x)).mean((2, 3)))


def network():
    torch.manual_seed(1)
    return Network(capture(Gated().eval(), SHAPE)).eval()


def fixed(of):
    return {name: layer for name, layer in weighted_layers(of).items() if name.startswith("conv2d")}


@pytest.mark.parametrize(
    "settings", [{"sparsity": 0.9}, {"sparsity": 0.9, "allocation": "uniform"}, {"pattern": "2:4", "sparsity": 0.5}]
)
def test_no_weight_of_theirs_is_pruned(settings):
    pruned = Prune(first=True, last=True, depthwise=True, **settings).begin(network(), RESOURCES).network
    layers = fixed(pruned)
    assert [tuple(layer.weight.shape) for layer in layers.values()] == [(1, 8, 1, 1), (8, 1, 1, 1)]
    for layer, value in zip(layers.values(), (1 / 8, 1.0), strict=True):
        assert layer.mask is None
        torch.testing.assert_close(layer.weight, torch.full_like(layer.weight, value))


def test_they_are_not_trained():
    trained = network().train()
    trained(torch.randn(4, *SHAPE)).square().sum().backward()
    assert all(layer.weight.grad is None for layer in fixed(trained).values())
    assert all(layer.weight.grad is not None for name, layer in weighted_layers(trained).items() if name not in fixed(trained))


def test_channels_in_front_of_them_can_be_removed():
    """What is left computes what the silenced network did: a mean counts the removed channels as zeros."""
    dense = network()
    smaller = Prune(pattern="channel", sparsity=0.5).begin(dense, RESOURCES).network
    assert [tuple(layer.weight.shape) for layer in fixed(smaller).values()] == [(1, 4, 1, 1), (4, 1, 1, 1)]
    assert all(not layer.weight.requires_grad for layer in fixed(smaller).values())
    torch.testing.assert_close(fixed(smaller)["conv2d"].weight, torch.full((1, 4, 1, 1), 1 / 8))


def test_a_deployed_graph_does_not_tell_them_from_others():
    graph = freeze(network(), InputSpec(SHAPE))
    validate(graph)
    assert all("fixed" not in node.attributes for node in graph.nodes)


def test_what_writing_out_an_operation_makes_is_fixed_too():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)

        def forward(self, x):
            x = F.relu(self.stem(x)).cumsum(1)
            return self.head(x + F.fold(F.unfold(x, 2, stride=2), 8, 2, stride=2)).mean((2, 3))

    captured = Network(capture(Patches().eval(), SHAPE)).eval()
    layers = fixed(captured)
    assert len(layers) == 3
    before = {name: layer.weight.clone() for name, layer in layers.items()}
    pruned = Prune(sparsity=0.9, first=True, last=True, depthwise=True).begin(captured, RESOURCES).network
    for name, layer in fixed(pruned).items():
        assert layer.mask is None
        assert not layer.weight.requires_grad
        assert torch.equal(layer.weight, before[name])
