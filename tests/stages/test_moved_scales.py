"""Scales moved from one layer to the next: the float function stays, ranges become even."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import NETWORKS, NONE, block, dense, resources
from torch import nn

from paretrim.capture import capture
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.stages.quantize.equalize import equalize_, scale_groups, smooth_, smooth_norms_
from paretrim.stages.quantize.stage import Quantize


class Branches(nn.Module):
    """Joins, a concatenation, groups, depthwise, a gate, a leaky ReLU, a ReLU6 and a BatchNorm that nothing is folded into."""

    def __init__(self):
        super().__init__()
        self.stem, self.grouped = block(3, 8), block(8, 8, groups=2)
        self.depthwise, self.leaky = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 8, 1)
        self.gate, self.six, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 6, 1), nn.Conv2d(6, 5, 1)
        self.norm, self.head = nn.BatchNorm2d(5), nn.Linear(5 * 16, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.grouped(x)
        x = torch.cat([self.depthwise(x), torch.nn.functional.leaky_relu(self.leaky(x), 0.1)], 1)
        left = x[:, :8] * torch.sigmoid(self.gate(x[:, 8:]))
        x = torch.nn.functional.relu6(self.six(torch.cat([left, x[:, 8:]], 1)))
        return self.head(torch.flatten(torch.nn.functional.avg_pool2d(self.norm(torch.relu(self.last(x))), 2), 1))


def branches():
    torch.manual_seed(3)
    network = Network(capture(Branches(), (3, 8, 8)))
    with torch.no_grad():
        for norm in network.batch_norms().values():
            norm.gamma.uniform_(0.2, 3)
            norm.beta.uniform_(-1, 1)
            norm.variance.uniform_(0.1, 4)
        for layer in weighted_layers(network).values():
            layer.weight.mul_(torch.exp(torch.randn(len(layer.weight), *[1] * (layer.weight.dim() - 1))))
    return network.eval()


MOVES = {
    "equalize": lambda network, _: equalize_(network),
    "smooth": lambda network, images: smooth_(network, images, 0.5),
    "smooth 0.8": lambda network, images: smooth_(network, images, 0.8),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", [*NETWORKS, "branches"])
def test_moving_scales_leaves_the_float_function_as_it_is(move, name):
    network = branches() if name == "branches" else copy.deepcopy(dense(name).network)
    images = resources("plain").calibration
    weights = {key: layer.weight.detach().clone() for key, layer in weighted_layers(network).items()}
    with torch.no_grad():
        before = network(images)
        MOVES[move](network, images)
        after = network(images)
    assert float((after - before).abs().max()) <= 3e-6 * float(before.abs().max())
    moved = [key for key, layer in weighted_layers(network).items() if not torch.allclose(layer.weight, weights[key], rtol=1e-2)]
    assert len(moved) >= 2


def test_equalized_ranges_are_the_geometric_mean_of_both():
    network = Network(capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (3,)))
    first, second = weighted_layers(network).values()
    made, read = first.weight.detach().abs().amax(1), second.weight.detach().abs().amax(0)
    biases = first.bias.detach().clone()
    equalize_(network)
    assert torch.allclose(first.weight.detach().abs().amax(1), (made * read).sqrt(), rtol=1e-5)
    assert torch.allclose(second.weight.detach().abs().amax(0), (made * read).sqrt(), rtol=1e-5)
    assert torch.allclose(first.bias.detach(), biases * (read / made).sqrt(), rtol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_full_strength_gives_channels_one_reach_and_none_gives_it_to_the_weights(strength):
    torch.manual_seed(1)
    network = Network(capture(nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1), nn.Flatten()), (3, 1, 1)))
    images = torch.randn(50, 3, 1, 1)
    smooth_(network, images, strength)
    second = [node for node in network.structure.nodes if node.op == "conv2d"][1]
    with torch.no_grad():
        reach = network.features(images, second.inputs)[second.inputs[0]].abs().amax((0, 2, 3))
    weight = weighted_layers(network)[second.name].weight.detach().abs().amax((0, 2, 3))
    even, uneven = (reach, weight) if strength else (weight, reach)
    alive = reach > 0
    assert torch.allclose(even[alive], torch.ones(int(alive.sum())), rtol=1e-5)
    assert uneven[alive].max() > 1.2 * uneven[alive].min()


def test_channels_behind_other_functions_are_not_rescaled():
    network = branches()
    groups = scale_groups(network)
    (norm,) = (node.name for node in network.structure.nodes if node.name in groups.outputs and node.op == "batch_norm")
    assert groups.free[groups.outputs[norm]].all()  # nothing is folded into it, and an average and a linear layer read it
    free = {name: set(groups.free[members].tolist()) for name, members in groups.outputs.items()}
    layers = {node.layer: node.name for node in network.structure.nodes if node.name in groups.outputs}
    expected = {"stem.0": {True}, "grouped.0": {True}, "gate": {False}, "six": {False}, "last": {False}, "head": {False}}
    assert {layer: free[layers[layer]] for layer in expected} == expected
    assert free[layers["leaky"]] == {True}  # read by a slice, a concatenation and convolutions
    assert free[layers["depthwise"]] == {False}  # the gate multiplies it
    assert np.array_equal(groups.outputs[layers["stem.0"]], groups.outputs[layers["grouped.0"]])  # an addition joins them


def norm_behind_relu(*, outlier):
    """conv, ReLU, BatchNorm, conv, flatten; a channel of the BatchNorm is ``outlier`` times as wide, weights on it narrower."""
    torch.manual_seed(2)
    parts = nn.Conv2d(3, 6, 3, 1, 1), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3), nn.Flatten()
    network = Network(capture(nn.Sequential(*parts), (3, 8, 8))).eval()
    (norm,) = network.batch_norms().values()
    with torch.no_grad():
        norm.gamma[2] *= outlier
        list(weighted_layers(network).values())[1].weight[:, 2] /= outlier
    return network


def test_without_training_channels_behind_a_lone_norm_get_even_ranges():
    network, images = norm_behind_relu(outlier=64.0), torch.randn(32, 3, 8, 8)
    with torch.no_grad():
        expected = network(images)
        kept = replace(resources("plain"), calibration=images)
        fake, plain = (Quantize(budget=replace(NONE, epochs=epochs)).begin(network, kept).network.eval() for epochs in (0, 1))
        errors = [float((one(images) - expected).square().mean()) for one in (fake, plain)]
    assert errors[0] < errors[1] / 4
    (own,), (before,) = fake.batch_norms().values(), network.batch_norms().values()
    factors = own.gamma.detach() / before.gamma.detach()
    with torch.no_grad():
        shifts = [(one(images) - expected).reshape(32, 4, -1).mean((0, 2)).abs().max() for one in (fake, plain)]
    assert float(shifts[0]) < 0.1 * float(shifts[1])  # means are corrected too
    assert float(factors[2]) < 0.5 * float(factors[[0, 1, 3, 4, 5]].min())


def test_networks_without_a_lone_norm_are_not_smoothed():
    network = copy.deepcopy(dense("residual").network)
    before = copy.deepcopy(network.state_dict())
    assert not smooth_norms_(network, resources("residual").calibration)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_a_value_that_is_not_finite_moves_no_scale():
    network, images = norm_behind_relu(outlier=1.0), torch.randn(4, 3, 8, 8)
    (norm,) = network.batch_norms().values()
    images[0, 0, 0, 0] = torch.inf
    assert smooth_norms_(network, images)
    assert torch.isfinite(norm.gamma).all()
