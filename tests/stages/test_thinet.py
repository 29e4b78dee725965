"""ThiNet: the choice of channels and their scales against brute force, and the stage."""

import itertools
from dataclasses import replace

import pytest
import torch
from tiny import NONE, SHORT, dense, resources, same, state

from paretrim.capture import capture
from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.graph.channels import channel_groups
from paretrim.graph.operations.channel_rules import groups_of
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.run.pipeline import run_stage
from paretrim.stages.layer_inputs import as_columns, layer_moments
from paretrim.stages.prune.thinet import ThiNet, contributions, greedy_removal, least_squares_scales, readers


def samples(n=6, m=40, seed=0):
    """Contributions of n channels at m positions, partly correlated."""
    g = torch.Generator().manual_seed(seed)
    mixed = torch.randn(m, n, generator=g, dtype=torch.float64) @ torch.randn(n, n, generator=g, dtype=torch.float64)
    return mixed + 0.3


def products(x):
    return x.T @ x / len(x)


@pytest.mark.parametrize("seed", range(5))
def test_each_channel_that_leaves_is_the_best_of_those_that_could(seed):
    x = samples(seed=seed)
    removed = greedy_removal(products(x), 4).tolist()
    for taken in range(4):
        before = removed[:taken]
        costs = {c: float(x[:, [*before, c]].sum(1).square().sum()) for c in range(6) if c not in before}
        assert removed[taken] == min(costs, key=costs.get)
    assert len(set(removed)) == 4


def test_one_channel_and_channels_that_have_nothing_in_common_are_chosen_as_by_trying_all():
    x = torch.linalg.qr(samples(m=6))[0] * torch.tensor([3.0, 1.0, 2.0, 0.5, 4.0, 0.1], dtype=torch.float64)
    found = set(greedy_removal(products(x), 3).tolist())
    best = min(itertools.combinations(range(6), 3), key=lambda some: float(x[:, list(some)].sum(1).square().sum()))
    assert found == set(best) == {1, 3, 5}
    y = samples(seed=9)
    assert greedy_removal(products(y), 1).tolist() == [min(range(6), key=lambda c: float(y[:, c].square().sum()))]


def test_scales_are_the_least_squares_solution():
    x = samples(seed=3)
    stay = torch.tensor([True, False, True, True, False, True])
    scales = least_squares_scales(products(x), stay)
    expected = torch.linalg.lstsq(x[:, stay], x.sum(1)[:, None]).solution[:, 0]
    torch.testing.assert_close(scales[stay], expected, rtol=1e-3, atol=1e-4)
    assert not scales[~stay].any()
    torch.testing.assert_close(least_squares_scales(products(x), torch.ones(6, dtype=torch.bool)), torch.ones(6).double())


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "without_norm"])
def test_products_are_those_of_what_channels_add_to_the_next_layer(name):
    found, given = dense(name).network, resources(name)
    groups = channel_groups(found.graph())
    members = groups.sets[0]
    reader = readers(found, groups, members)[-1]
    layer, seen = weighted_layers(found)[reader], {}
    layer_moments(found, found, given.calibration, [reader], lambda node, moments: seen.update({node.name: (node, moments)}))
    node, moments = seen[reader]
    owners = torch.tensor([members.tolist().index(c) if c in members else -1 for c in groups.classes[node.inputs[0]].tolist()])
    got = contributions(as_columns(layer.weight.detach(), groups_of(node)).double(), moments.inputs, owners[None])
    value = found.features(given.calibration, (node.inputs[0], reader))
    bias = 0 if layer.bias is None else layer.bias
    added = []
    for channel in range(len(members)):
        inputs = value[node.inputs[0]] * (owners == channel).float().reshape(-1, *[1] * (value[node.inputs[0]].dim() - 2))
        weight = layer.weight.detach()
        same_as = torch.nn.functional.linear(inputs, weight) if node.op == "linear" else conv(node, inputs, weight)
        added.append(same_as.detach().double().movedim(1, 0).flatten(1))
    everything = torch.stack(added)  # [n, outputs, places]
    if (owners >= 0).all():
        total = value[reader].detach().double() - torch.as_tensor(bias).reshape(-1, *[1] * (value[reader].dim() - 2))
        torch.testing.assert_close(everything.sum(0), total.movedim(1, 0).flatten(1), rtol=1e-3, atol=1e-4)
    expected = torch.einsum("aop,bop->ab", everything, everything) / everything.shape[2]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def conv(node, inputs, weight):
    attributes = node.attributes
    top, left, bottom, right = attributes["padding"]
    padded = torch.nn.functional.pad(inputs, (left, right, top, bottom))
    return torch.nn.functional.conv2d(padded, weight, None, tuple(attributes["stride"]))


@pytest.mark.parametrize("name", ["plain", "depthwise", "without_norm"])
def test_half_of_the_channels_of_every_layer_are_removed(name):
    found = run_stage(dense(name), ThiNet(budget=NONE), resources(name)).network
    before = channel_groups(dense(name).network.graph()).sets
    after = channel_groups(found.graph()).sets
    assert [len(members) for members in after] == [len(members) // 2 for members in before]


def test_outputs_of_residual_blocks_are_pruned_only_on_request():
    parent = dense("residual")
    shapes = {name: layer.weight.shape[0] for name, layer in weighted_layers(parent.network).items()}
    inner = run_stage(parent, ThiNet(budget=NONE), resources("residual")).network
    coupled = run_stage(parent, ThiNet(budget=NONE, coupled=True), resources("residual")).network
    assert {name: layer.weight.shape[0] for name, layer in weighted_layers(inner).items()} == shapes | {
        "left.0.0": shapes["left.0.0"] // 2,
        "down.0": shapes["down.0"] // 2,
    }
    assert all(layer.weight.shape[0] == shapes[name] // 2 for name, layer in weighted_layers(coupled).items() if name != "head")


def test_layers_lose_their_channels_in_turn():
    stage = ThiNet(budget=SHORT, until=0.8)
    training = stage.begin(dense("plain").network, resources("plain"))
    seen = []
    for progress in (0.0, 0.39, 0.41, 0.9):
        stage.advance(training, progress)
        layers = weighted_layers(training.network)
        seen.append([None if layers[name].alive is None else int(layers[name].alive.sum()) for name in ("0.0", "1.0")])
    assert seen == [[4, 16], [4, 16], [4, 8], [4, 8]]


def test_survivors_are_rounded_up():
    found = run_stage(dense("plain"), ThiNet(budget=NONE, sparsity=0.6, multiple_of=4), resources("plain")).network
    assert [layer.weight.shape[0] for layer in weighted_layers(found).values()] == [4, 8, 4]
    unchanged = run_stage(dense("plain"), ThiNet(budget=NONE, sparsity=0.0), resources("plain"))
    assert same(state(unchanged), state(dense("plain")))


@pytest.mark.parametrize("rate", [1e9, 1e18, 1e30])
def test_weights_that_explode_while_layers_are_thinned_are_one_clear_error(rate):
    said = r"stage 2 \(thinet\): the equations of a layer cannot be solved \(\w+: linalg\..*\), since .*; lower the learning"
    with pytest.raises(TrainingFailed, match=said):
        run_stage(dense("without_norm"), ThiNet(budget=replace(SHORT, learning_rate=rate)), resources("without_norm"))


def test_networks_without_removable_channels_are_refused():
    with pytest.raises(InvalidRecipe, match="thinet: a channel sparsity of 1 leaves no network; stay below 1"):
        ThiNet(sparsity=1.0)
    with pytest.raises(InvalidRecipe, match="thinet: every channel of this network is added to others or is an output"):
        ThiNet().begin(Network(capture(Added(), (3, 8, 8))), resources("plain"))
    ThiNet(coupled=True).begin(Network(capture(Added(), (3, 8, 8))), resources("plain"))


class Added(torch.nn.Module):
    """Both layers' channels are added."""

    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 8, 3)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head((self.left(x) + self.right(x)).mean((2, 3)))
