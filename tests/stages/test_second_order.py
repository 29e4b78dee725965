"""Second-order pruning and the fit of the remaining weights, on the tiny networks of the contract suite."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from paretrim.capture import capture
from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.stages import layer_inputs
from paretrim.stages.layer_inputs import as_columns, from_columns, layer_moments
from paretrim.stages.prune import second_order
from paretrim.stages.prune.allocation import masks
from paretrim.stages.prune.patterns import parse_pattern
from paretrim.stages.prune.second_order import compensate_, second_order_scores
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from tests.stages import tiny
from tests.stages.tiny import CLASSES, NETWORKS, NONE, SHAPE, network

ALL = list(NETWORKS)


def resources():
    """The same for all networks, but for the teacher, which nothing here needs."""
    return tiny.resources("plain")


def settled(name):
    """A network whose BatchNorm statistics are those of the images."""
    found = network(name)
    for norm in found.batch_norms().values():
        norm.momentum = 1.0
    found.train()(resources().calibration)
    return found.eval()


def outputs(found):
    with torch.no_grad():
        return found.eval()(resources().calibration)


def test_columns_hold_the_input_channels_of_a_kernel_position_side_by_side():
    weight = torch.arange(4 * 2 * 3 * 3.0).reshape(4, 2, 3, 3)
    columns = as_columns(weight, 2)
    assert columns.shape == (2, 2, 18)
    assert columns[1, 0, :2].tolist() == weight[2, :, 0, 0].tolist()
    assert torch.equal(from_columns(columns, weight.shape), weight)


@pytest.mark.parametrize("name", ALL)
def test_moments_are_those_of_what_layers_compute(name):
    found = settled(name)
    images = resources().calibration
    names = list(weighted_layers(found))
    seen = {}
    layer_moments(found, found, images, names, lambda node, moments: seen.setdefault(node.name, moments))
    values = found.features(images, tuple(names))
    for layer, moments in seen.items():
        weighted = weighted_layers(found)[layer]
        value = values[layer].detach().double()
        if weighted.bias is not None:
            value -= weighted.bias.reshape(-1, *[1] * (value.dim() - 2))
        rows = value.movedim(1, 0).flatten(1)
        torch.testing.assert_close(moments.wanted.flatten(), rows.mean(1), rtol=1e-4, atol=1e-5)
        columns = as_columns(weighted.weight.detach(), len(moments.inputs)).double()
        energy = (moments.targets * columns).sum(2).flatten()
        torch.testing.assert_close(energy, rows.square().mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments.targets, columns @ moments.inputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_moments_of_positions_on_a_grid_are_close_to_those_of_all(name, monkeypatch):
    found, images = settled(name), resources().calibration
    names = list(weighted_layers(found))

    def moments():
        seen = {}
        layer_moments(found, found, images, names, lambda node, moments: seen.setdefault(node.name, moments))
        return seen

    full = moments()
    monkeypatch.setattr(layer_inputs, "_VALUES", 1)
    monkeypatch.setattr(layer_inputs, "_POSITIONS_A_WEIGHT", 2)
    sparse = moments()
    assert any(not torch.equal(few.inputs, full[layer].inputs) for layer, few in sparse.items())
    for layer, few in sparse.items():
        columns = as_columns(weighted_layers(found)[layer].weight.detach(), len(few.inputs)).double()
        torch.testing.assert_close(few.targets, columns @ few.inputs, rtol=1e-4, atol=1e-5)
        spread, all_of_it = (some.centred().inputs.diagonal(dim1=1, dim2=2).sum() for some in (few, full[layer]))
        assert 0.5 * all_of_it <= spread <= 2 * all_of_it


@pytest.mark.parametrize("name", ALL)
def test_an_unpruned_network_is_not_changed_by_the_fit(name):
    found = settled(name)
    before, expected = copy.deepcopy(found), outputs(found)
    compensate_(found, before, resources().calibration, list(weighted_layers(found)))
    torch.testing.assert_close(outputs(found), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4"])
def test_a_fit_reduces_the_output_error_and_keeps_zeros(name, pattern):
    before = settled(name)
    stage = Prune(sparsity=0.5, pattern=pattern, first=True, depthwise=True, budget=NONE)
    cut = stage.begin(before, resources()).network
    fitted = replace(stage, compensate=True).begin(before, resources()).network
    expected = outputs(before)
    assert float((outputs(fitted) - expected).square().mean()) < 0.9 * float((outputs(cut) - expected).square().mean())
    for layer, weighted in weighted_layers(fitted).items():
        mask = weighted_layers(cut)[layer].mask
        assert mask is None or (torch.equal(weighted.mask, mask) and bool((weighted.weight[~mask] == 0).all()))


def test_a_fit_takes_the_mean_into_the_bias():
    found = settled("without_norm")
    before = copy.deepcopy(found)
    name = list(weighted_layers(found))[1]
    layer = weighted_layers(found)[name]
    set_mask_(layer, torch.zeros_like(layer.weight, dtype=torch.bool))
    compensate_(found, before, resources().calibration, [name])
    images = resources().calibration
    wanted = before.features(images, (name,))[name].mean((0, 2, 3))
    torch.testing.assert_close(layer.bias.detach(), wanted.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
@pytest.mark.parametrize("name", ["plain", "residual", "depthwise"])
def test_scores_equal_the_error_after_the_fit(name, pattern):
    """One layer is pruned by its scores: the squared scores of removed weights sum to the relative error of its output."""
    found = settled(name)
    images = resources().calibration
    layer = list(weighted_layers(found))[-2]
    scores = second_order_scores(found, resources(), names=[layer], pattern=parse_pattern(pattern))[layer]
    pruned = copy.deepcopy(found)
    mask = masks({layer: scores}, 0.5, method="global", pattern=parse_pattern(pattern))[layer]
    set_mask_(weighted_layers(pruned)[layer], mask)
    compensate_(pruned, found, images, [layer])
    norm = next(node.name for node in found.structure.nodes if node.op == "batch_norm" and node.inputs[0] == layer)
    with torch.no_grad():
        wanted, got = (one.features(images, (norm,))[norm].double() for one in (found, pruned))
        spread = found.features(images, (layer,))[layer].double().var((0, 2, 3))
        gamma = found.batch_norms()[norm].gamma.double()
    errors = (got - wanted).square().mean((0, 2, 3)) / gamma.square()  # of outputs with a variance of 1
    relative = float((errors * spread).sum() / spread.sum())
    assert float(scores.square()[~mask].sum()) == pytest.approx(relative, rel=0.15)


def test_blocks_whose_inputs_never_vary_score_nothing_and_leave_at_no_cost():
    found = settled("plain")
    second = list(weighted_layers(found))[1]
    norm = next(iter(found.batch_norms().values()))
    with torch.no_grad():
        norm.gamma[:4] = 0.0
        norm.beta[:4] = 0.0
    scores = second_order_scores(found, resources(), names=[second], pattern=parse_pattern("1x4"))[second]
    assert bool((scores[:, :4] == 0).all())
    assert bool((scores[:, 4:] > 0).all())
    pruned = copy.deepcopy(found)
    set_mask_(weighted_layers(pruned)[second], scores > 0)
    torch.testing.assert_close(outputs(pruned), outputs(found), rtol=1e-4, atol=1e-5)


def test_a_layer_that_only_ever_gets_zeros_can_be_scored():
    found = settled("plain")
    second = list(weighted_layers(found))[1]
    norm = next(iter(found.batch_norms().values()))
    with torch.no_grad():
        norm.gamma.zero_()
        norm.beta.zero_()
    scores = second_order_scores(found, resources(), names=[second], pattern=parse_pattern("1x4"))[second]
    assert bool(torch.isfinite(scores).all())


def test_a_layer_whose_inputs_never_vary_is_rounded_as_it_is():
    reference = settled("depthwise")
    norm = next(iter(reference.batch_norms().values()))
    with torch.no_grad():
        norm.gamma[:3] = 0.0  # three groups of the depthwise layer only get this constant
        norm.beta[:3] = 0.0
    fake = Quantize(budget=NONE, adjust=("gptq",)).begin(reference, resources()).network
    layer, before = (list(weighted_layers(one).values())[1] for one in (fake, reference))
    steps = layer.quantizer.scale_for(layer.weight).detach().reshape(-1, 1, 1, 1)
    moved = (layer.effective_weight() - before.weight).detach().abs() / steps
    assert float(moved[:3].max()) <= 0.5 + 1e-4
    assert float((outputs(fake) - outputs(reference)).abs().max()) < 0.1 * float(outputs(reference).abs().max())


def test_blocks_of_channels_that_are_no_multiple_of_four_are_scored_whole():
    found = settled("residual")
    scores = second_order_scores(found, resources(), names=[next(iter(weighted_layers(found)))], pattern=parse_pattern("1x4"))
    score = next(iter(scores.values()))
    assert score.shape[1] == 3
    assert float((score - score[:, :1]).abs().max()) == pytest.approx(0, abs=1e-12)


def test_groups_lose_what_costs_least_while_their_quota_lasts():
    """A layer of three input channels, so its groups of four are one short, and one of which a weight is gone already."""
    found = settled("residual")
    first, second = list(weighted_layers(found))[:2]
    layer = weighted_layers(found)[second]
    mask = torch.ones_like(layer.weight, dtype=torch.bool)
    mask[:, 0] = False
    set_mask_(layer, mask)
    scores = second_order_scores(found, resources(), names=[first, second], pattern=parse_pattern("2:4"))
    for name, channels in ((first, 3), (second, layer.weight.shape[1])):
        score, weighted = scores[name], weighted_layers(found)[name]
        kept = masks(
            {name: score}, 0.5, method="global", pattern=parse_pattern("2:4"), alive={second: mask} if name == second else {}
        )
        assert int(kept[name].sum()) == int(sum(2 for _ in range(-(-channels // 4))) * weighted.weight.numel() // channels)
        stays = score == score.flatten(1).max(1).values.reshape(-1, *[1] * (score.dim() - 1))
        assert torch.equal(stays, kept[name])


def test_a_short_last_group_loses_as_large_a_share_as_the_others():
    """Six channels in a group of four and one of two: half of each leaves."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(180, CLASSES))
    found = Network(capture(module, SHAPE))
    second = list(weighted_layers(found))[1]
    score = second_order_scores(found, resources(), names=[second], pattern=parse_pattern("2:4"))[second]
    stays = score == score.flatten(1).max(1).values.reshape(-1, 1, 1, 1)
    assert stays[:, :4].sum(1).unique().tolist() == [2]
    assert stays[:, 4:].sum(1).unique().tolist() == [1]
    kept = masks({second: score}, 0.5, method="global", pattern=parse_pattern("2:4"))
    assert torch.equal(kept[second], stays)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compensate": True, "pattern": "channel"}, "compensate needs schedule one_shot and does not fit channels"),
        ({"compensate": True, "schedule": "cubic"}, "and schedule cubic; leave compensate out"),
        ({"score": "obs", "pattern": "channel"}, "obs ranks weights and blocks, not channels"),
    ],
)
def test_conflicting_second_order_settings_are_refused(settings, message):
    with pytest.raises(InvalidRecipe, match=message):
        Prune(**settings)


@pytest.mark.parametrize("name", ["plain", "depthwise"])
@pytest.mark.parametrize("limit", ["_MOST", "_WIDEST"])
def test_very_large_layers_are_scored_by_the_variance_of_their_inputs_and_not_fitted(name, limit, monkeypatch):
    monkeypatch.setattr(second_order, limit, 1)
    found, given = settled(name), resources()
    names = [layer for layer, one in weighted_layers(found).items() if one.weight.dim() == 4]
    scores = second_order_scores(found, given, names=names, pattern=parse_pattern("1x4"))
    biased = second_order._followed_by_bias(found)
    moments = {}
    layer_moments(found, found, given.calibration, names, lambda node, of: moments.update({node.name: of}))
    for layer in names:
        of = moments[layer].centred() if layer in biased else moments[layer]
        weight = as_columns(weighted_layers(found)[layer].effective_weight().detach(), len(of.inputs)).double()
        expected = weight.square() * of.inputs.diagonal(dim1=1, dim2=2)[:, None]
        expected = from_columns(expected / expected.sum(), scores[layer].shape)
        torch.testing.assert_close(scores[layer].square(), expected, rtol=1e-3, atol=1e-6)
    pruned = copy.deepcopy(found)
    for layer in names:
        one = weighted_layers(pruned)[layer]
        set_mask_(one, torch.rand(one.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    before = {layer: weighted_layers(pruned)[layer].weight.clone() for layer in names}
    compensate_(pruned, found, given.calibration, names)
    assert all(torch.equal(weighted_layers(pruned)[layer].weight, before[layer]) for layer in names)
