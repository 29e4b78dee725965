"""Scores against their definitions."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import NETWORKS, SHORT, dense, network, resources, same, state
from torch import nn
from torch.nn import functional

from paretrim.capture import capture
from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.channel_scores import feature_importance
from paretrim.stages.prune.score_table import CHANNEL_SCORES, channel_scores_of, scores_of
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

NONE = Budget(epochs=0)


def exact(name):
    """The trained network in float64, and its mean loss on calibration images as a function of nothing."""
    given, private = resources(name), copy.deepcopy(dense(name).network).double().eval()
    images, labels = given.labelled_calibration()

    def loss(temperature=1.0):
        return functional.cross_entropy(private(images.double()) / temperature, labels)

    return private, loss


def central(loss, change, step=1e-5):
    """Derivative of the loss along a change, by differences."""
    with torch.no_grad():
        change(step)
        above = float(loss())
        change(-2 * step)
        below = float(loss())
        change(step)
    return (above - below) / (2 * step)


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_snip_is_the_derivative_of_the_loss_by_a_connection(name):
    found = scores_of("snip", dense(name).network, resources(name))
    private, loss = exact(name)
    for layer_name, layer in weighted_layers(private).items():
        flat = layer.weight.data.view(-1)
        for index in (0, len(flat) // 2, len(flat) - 1):
            weight = float(flat[index])

            def change(step, flat=flat, index=index, weight=weight):
                flat[index] += step * weight

            expected = abs(central(loss, change))
            assert float(found[layer_name].flatten()[index]) == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_grasp_is_the_weight_times_the_change_of_the_gradient_along_itself():
    found = scores_of("grasp", dense("plain").network, resources("plain"))
    private, loss = exact("plain")
    layers = weighted_layers(private)
    weights = [layer.weight for layer in layers.values()]
    gradients = torch.autograd.grad(loss(200.0), weights)
    # short enough to cross no kink of a ReLU
    step = 1e-7 / max(float(gradient.abs().max()) for gradient in gradients)

    def gradients_at(distance):
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight += distance * gradient
        result = torch.autograd.grad(loss(200.0), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= distance * gradient
        return result

    above, below = gradients_at(step), gradients_at(-step)
    signed = [w.detach() * (a - b) / (2 * step) for w, a, b in zip(weights, above, below, strict=True)]
    least = min(float(values.min()) for values in signed)
    largest = max(float((values - least).max()) for values in signed)
    for name, values in zip(layers, signed, strict=True):
        torch.testing.assert_close(found[name].square(), values - least, rtol=1e-4, atol=1e-5 * largest)


def test_grasp_works_through_fake_quantizers():
    quantized = Quantize(budget=NONE).begin(dense("plain").network, resources("plain")).network
    found = scores_of("grasp", quantized, resources("plain"))
    assert all(scores.any() for scores in found.values())


@pytest.mark.parametrize("name", ["plain", "without_norm"])
@pytest.mark.parametrize("masked", [False, True])
def test_synaptic_flow_is_the_same_through_every_layer(name, masked):
    private = copy.deepcopy(dense(name).network)
    if masked:
        for layer in weighted_layers(private).values():
            set_mask_(layer, torch.arange(layer.weight.numel()).reshape(layer.weight.shape) % 3 > 0)
    found = scores_of("synflow", private, resources(name))
    totals = [float(scores.square().sum()) for scores in found.values()]
    assert totals == pytest.approx([totals[0]] * len(totals), rel=1e-9)
    assert totals[0] > 0


def test_synaptic_flow_counts_paths():
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU6(), nn.Linear(3, 2))
    captured = Network(capture(module, (2, 1, 1)))
    first, second = (layer.weight.detach().double().abs() for layer in weighted_layers(captured).values())
    found = list(scores_of("synflow", captured, resources("plain")).values())
    torch.testing.assert_close(found[0].square(), first * second.sum(0)[:, None])
    torch.testing.assert_close(found[1].square(), second * first.sum(1)[None])


def test_synaptic_flow_takes_no_data_and_many_rounds():
    blind = replace(resources("residual"), calibration=torch.empty(0), calibration_labels=None)
    settings = {"sparsity": 0.95, "first": True, "last": True, "score": "synflow", "budget": NONE}
    usual = Prune(**settings).begin(network("residual"), blind).network
    hundred = Prune(**settings, rounds=100).begin(network("residual"), blind).network
    assert same(state(usual), state(hundred))
    once = Prune(**settings, rounds=1).begin(network("residual"), blind).network
    assert not same(state(usual), state(once))
    flows = [float(next(iter(scores_of("synflow", found, blind).values())).square().sum()) for found in (usual, once)]
    assert flows[0] > flows[1]


def test_rounds_change_nothing_where_the_score_stays():
    """So they are refused with such a score; as a function of one's own it may be computed again."""
    settings = {"sparsity": 0.7, "pattern": "1x4", "first": True, "budget": NONE}
    own = {"score": "paretrim.stages.prune.score_table:by_magnitude"}
    masks = [
        state(Prune(**settings, **changed).begin(dense("residual").network, resources("residual")).network)
        for changed in ({}, {**own, "rounds": 1}, {**own, "rounds": 7})
    ]
    assert same(masks[0], masks[1])
    assert same(masks[0], masks[2])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"schedule": "cubic"}, "rounds are for schedule one_shot, but schedule is cubic"),
        ({"pattern": "channel"}, "pattern channel is pruned in one round; leave rounds out"),
        ({"pattern": "2:4", "sparsity": 0.5}, "pattern 2:4 is pruned in one round"),
    ],
)
def test_meaningless_rounds_are_refused(settings, match):
    with pytest.raises(InvalidRecipe, match=match):
        Prune(**settings, rounds=3)


def test_fisher_sums_squared_gradients_of_single_images():
    given = resources("plain")
    images, labels = given.labelled_calibration()
    few = replace(given, calibration=images[:5], calibration_labels=labels[:5])
    found = scores_of("fisher", dense("plain").network, few)
    private = copy.deepcopy(dense("plain").network).eval()
    layers = weighted_layers(private)
    squares = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    for image, label in zip(images[:5], labels[:5], strict=True):
        loss = functional.cross_entropy(private(image[None]), label[None])
        gradients = torch.autograd.grad(loss, [layer.weight for layer in layers.values()])
        for name, gradient in zip(layers, gradients, strict=True):
            squares[name] += gradient.square()
    for name, layer in layers.items():
        expected = layer.weight.detach().double().square() * squares[name] / 10
        torch.testing.assert_close(found[name].square(), expected, rtol=1e-3, atol=1e-12)


def test_of_one_image_fisher_snip_and_taylor_are_one():
    given = resources("residual")
    images, labels = given.labelled_calibration()
    one = replace(given, calibration=images[:1], calibration_labels=labels[:1])
    fisher, snip, taylor = (scores_of(score, dense("residual").network, one) for score in ("fisher", "snip", "taylor"))
    for name in snip:
        torch.testing.assert_close(snip[name], taylor[name])
        torch.testing.assert_close(fisher[name] * 2**0.5, taylor[name])


@pytest.mark.parametrize("score", CHANNEL_SCORES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_score_of_channels_is_a_number_a_channel_and_leaves_the_network_alone(score, name):
    if score == "batchnorm" and name == "without_norm":
        return
    private = copy.deepcopy(dense(name).network).train()
    before = state(private)
    found = channel_scores_of(score, private, resources(name))
    assert {layer: tuple(scores.shape) for layer, scores in found.items()} == {
        layer: (len(one.weight),) for layer, one in weighted_layers(private).items()
    }
    assert all(scores.dtype == torch.float64 and scores.any() and not scores.requires_grad for scores in found.values())
    assert same(before, state(private))
    assert private.training
    assert all(parameter.grad is None for parameter in private.parameters())


@pytest.mark.parametrize("score", CHANNEL_SCORES)
def test_every_score_of_channels_removes_some(score):
    stage = Prune(pattern="channel", sparsity=0.5, score=score, schedule="cubic", budget=SHORT)
    found = run_stage(dense("residual"), stage, resources("residual"))
    assert sum(p.numel() for p in found.network.parameters()) < 0.7 * sum(p.numel() for p in network("residual").parameters())


def test_channels_by_l1_and_by_the_scale_of_their_batchnorm():
    private = dense("residual").network
    sums = channel_scores_of("l1", private, resources("residual"))
    scales = channel_scores_of("batchnorm", private, resources("residual"))
    for name, layer in weighted_layers(private).items():
        torch.testing.assert_close(sums[name], layer.weight.detach().double().abs().flatten(1).sum(1))
    assert torch.equal(scales["stem.0"], private.batch_norms()["stem.1"].gamma.detach().double().abs())
    assert torch.equal(scales["head"], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("padding", [0, 1])
def test_the_scale_of_a_transposed_convolution_is_that_of_the_norm_behind_its_pixels(padding):
    """Four channels of the captured layer make the pixels of one channel, and are worth what that is."""
    torch.manual_seed(0)
    body = (nn.ConvTranspose2d(4, 3, 3, stride=2, padding=padding), nn.BatchNorm2d(3), nn.ReLU())
    module = nn.Sequential(nn.Conv2d(2, 4, 3), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        module[2].weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
    private = Network(capture(module, (2, 8, 8)))
    found = channel_scores_of("batchnorm", private, resources("residual"))
    assert found["1"].tolist() == [0.5] * 4 + [2.0] * 4 + [1.0] * 4
    assert found["0"].tolist() == [1.0] * 4


def test_without_batchnorm_there_is_no_scale():
    with pytest.raises(InvalidRecipe, match="by the scale of the BatchNorm behind them, and this network has none; choose magn"):
        channel_scores_of("batchnorm", network("without_norm"), resources("without_norm"))


@pytest.mark.parametrize(("name", "layer"), [("residual", "stem.0"), ("without_norm", "0")])
def test_the_gate_of_a_channel_is_what_the_loss_changes_by_with_it(name, layer):
    found = channel_scores_of("taylor_gate", dense(name).network, resources(name))[layer]
    private, loss = exact(name)
    if name == "residual":
        norm = private.batch_norms()["stem.1"]
        tensors = norm.gamma.data, norm.beta.data
    else:
        tensors = weighted_layers(private)[layer].weight.data, weighted_layers(private)[layer].bias.data
    for channel in range(8):
        rows = [tensor[channel].clone() for tensor in tensors]

        def change(step, channel=channel, rows=rows):
            for tensor, row in zip(tensors, rows, strict=True):
                tensor[channel] += step * row

        assert float(found[channel]) == pytest.approx(abs(central(loss, change)), rel=1e-3, abs=1e-6)


def test_importance_propagates_by_absolute_weights():
    layers = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)
    captured = Network(capture(nn.Sequential(nn.Flatten(), *layers), (6, 1, 1)))
    images = torch.randn(40, 6, 1, 1, generator=torch.Generator().manual_seed(1))
    found = list(channel_scores_of("nisp", captured, replace(resources("plain"), calibration=images)).values())
    with torch.no_grad():
        features = torch.tanh(layers[2](torch.relu(layers[0](images.flatten(1)))))
    last = feature_importance(features.double())
    torch.testing.assert_close(found[1], last, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found[0], layers[2].weight.detach().double().abs().T @ last, rtol=1e-4, atol=1e-8)


def test_importance_goes_to_both_sides_of_a_sum_and_evenly_over_a_window():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 4))
    captured = Network(capture(module, (3, 8, 8)))
    found = channel_scores_of("nisp", captured, resources("plain"))["0"]
    place = captured.structure.nodes[-1].inputs[0]
    features = captured.features(resources("plain").calibration, (place,))[place].detach().double()
    torch.testing.assert_close(found, feature_importance(features).reshape(4, 16).sum(1))
    residual = dense("residual").network
    both = channel_scores_of("nisp", residual, resources("residual"))
    scale = residual.batch_norms()["left.2"]
    end = both["left.1"] / (scale.gamma.abs() / (scale.variance + scale.epsilon).sqrt()).double().detach()
    assert bool((both["stem.0"] > 0).all())
    assert bool((end > 0).all())


def test_importance_of_features_is_the_sum_over_all_paths():
    features = torch.randn(30, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features[:, 3] = features[:, 0] ** 3  # the same ranks
    features[:, 5] = 0
    spread = features.std(0, correction=0) / features.std(0, correction=0).max()
    order = features.argsort(0).argsort(0).double()
    order[:, 5] = 0
    alike = torch.nan_to_num(torch.corrcoef(order.T)).abs()
    links = 0.5 * torch.maximum(spread[:, None], spread[None]) + 0.5 * (1 - alike)
    step = 0.9 / torch.linalg.eigvalsh(links).abs().max() * links
    total, power = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for _ in range(400):
        power = step @ power
        total += power
    torch.testing.assert_close(feature_importance(features), total, rtol=1e-9, atol=0)
    assert torch.equal(feature_importance(torch.zeros(3, 1, dtype=torch.float64)), feature_importance(torch.ones(5, 1).double()))


def test_scores_of_channels_alone_are_no_scores_of_weights():
    with pytest.raises(InvalidRecipe, match="score 'l1' is for whole channels; set pattern to channel, or choose one of magn"):
        Prune(score="l1")
