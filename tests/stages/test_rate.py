"""``rate`` of the quantize stage: fewer bits, no effect at 0, and the chosen integers ship."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CLASSES, NONE, SHAPE, SHORT, dense, prune, resources, same, state
from torch import nn

from paretrim.capture import capture
from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.graph.entropy import summarize_weights
from paretrim.network.code_length import bits_between, cheapest, code_lengths
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.network.uniform import WeightQuantizer
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import stage_settings
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.rate import prices
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.losses import LossTerm, cross_entropy, with_a_goal
from paretrim.train.task import CLASSIFICATION


def entropy(network):
    return sum(one.entropy_bytes for one in summarize_weights(freeze(network)))


def test_without_a_rate_nothing_is_different():
    with_default = run_stage(dense("residual"), Quantize(budget=SHORT), resources("residual"))
    given = run_stage(dense("residual"), Quantize(budget=SHORT, rate=0.0), resources("residual"))
    assert same(state(with_default), state(given))
    assert not any(".price" in name or ".lengths" in name for name in state(given))
    assert "rate" not in stage_settings(Quantize(rate=0.0))
    assert stage_settings(Quantize(rate=0.1))["rate"] == 0.1


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_a_higher_rate_gives_a_smaller_file(scales, epochs):
    stage = Quantize(budget=replace(SHORT, epochs=epochs), scales=scales)
    found = [
        entropy(run_stage(dense("residual"), replace(stage, rate=rate), resources("residual")).network)
        for rate in (0.0, 0.003, 0.03)
    ]
    assert found == sorted(found, reverse=True)
    assert found[2] < 0.8 * found[0]


def test_the_rate_is_the_slope_of_loss_against_bits():
    """Between two rates, what a bit per weight has cost lies between them: the unit is what it is said to be (in the model)."""
    network, images = dense("residual").network, resources("residual").calibration
    worth = prices(copy.deepcopy(network), images, rate=1.0, seed=0)
    layers = weighted_layers(network)
    weights = sum(layer.weight.numel() for layer in layers.values())

    def loss_and_bits(rate):
        loss = bits = 0.0
        for name, layer in layers.items():
            curvature = 2 / (weights * worth[name].double())
            scale = layer.weight.detach().reshape(len(layer.weight), -1).abs().amax(1) / 127
            columns = (-1, *[1] * (layer.weight.dim() - 1))
            steps, price = layer.weight.detach() / scale.reshape(columns), (worth[name] * rate / scale**2).reshape(columns)
            error = (cheapest(steps, lengths[name], price) - steps).double() * scale.reshape(columns).double()
            loss += float((curvature.reshape(columns) * error**2).sum()) / 2
            bits += float(lengths[name][cheapest(steps, lengths[name], price).abs().long()].sum())
        return loss, bits / weights

    lengths = {name: torch.cat([torch.zeros(1), 1 + torch.arange(1, 128.0).log2()]) for name in layers}
    (loss, bits), (more_loss, fewer_bits) = loss_and_bits(0.01), loss_and_bits(0.1)
    assert fewer_bits < bits
    assert 0.01 <= (more_loss - loss) / (bits - fewer_bits) <= 0.1


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_judged_integers_are_the_chosen_ones_and_zeros_stay(pattern):
    pruned = run_stage(dense("residual"), prune(pattern=pattern), resources("residual"))
    found = run_stage(pruned, Quantize(budget=SHORT, rate=0.02), resources("residual")).network
    graph = freeze(found)
    by_name = {node.name: node.tensors["weight"] for node in graph.nodes if "weight" in node.tensors}
    for name, layer in weighted_layers(found).items():
        scale = layer.quantizer.scale_for(layer.weight).detach().double().reshape(-1, *[1] * (layer.weight.dim() - 1))
        chosen = torch.round(layer.effective_weight().detach().double() / scale).abs()
        np.testing.assert_array_equal(np.abs(by_name[name]), chosen.numpy())
        nearest = torch.round(layer.masked_weight().detach() / scale).clamp(-127, 127).abs()
        assert (chosen <= nearest + 1).all()
        if layer.mask is not None:
            assert not chosen[~layer.mask].any()
    assert any(
        not torch.equal(layer.effective_weight(), WeightQuantizer.forward(plain(layer.quantizer), layer.masked_weight()))
        for layer in weighted_layers(found).values()
    )
    images = resources("residual").calibration
    with torch.no_grad():
        integers = IntegerNetwork(graph, torch.device("cpu"))(images)
        assert (integers.argmax(1) == found(images).argmax(1)).float().mean() >= 0.95


def plain(quantizer):
    """The same quantizer without a price."""
    other = copy.deepcopy(quantizer)
    other.price = other.lengths = None
    return other


@pytest.mark.parametrize("later", [Distill(budget=SHORT), prune(sparsity=0.6), prune(pattern="channel", sparsity=0.25)])
def test_later_stages_keep_the_price(later):
    stage = Quantize(budget=NONE, rate=0.05)
    plainly = run_stage(run_stage(dense("residual"), Quantize(budget=NONE), resources("residual")), later, resources("residual"))
    found = run_stage(run_stage(dense("residual"), stage, resources("residual")), later, resources("residual"))
    assert entropy(found.network) < 0.8 * entropy(plainly.network)
    assert all(layer.quantizer.price is not None for layer in weighted_layers(found.network).values())


def test_dead_and_empty_layers_are_accepted():
    network = copy.deepcopy(dense("residual").network)
    first, second, *_ = weighted_layers(network).values()
    with torch.no_grad():
        first.weight[0] = 0
        second.weight.zero_()
    stage = Quantize(budget=NONE, rate=0.05)
    found = run_stage(Candidate(network), stage, resources("residual")).network
    for layer in list(weighted_layers(found).values())[:2]:
        assert torch.isfinite(layer.quantizer.price).all()
    assert not list(weighted_layers(found).values())[1].effective_weight().any()
    everything = run_stage(Candidate(network), Prune(budget=NONE, sparsity=1.0), resources("residual"))
    assert entropy(run_stage(everything, stage, resources("residual")).network) < entropy(found)


def test_gradients_that_are_not_finite_are_refused():
    network = copy.deepcopy(dense("residual").network)
    name, layer = next(iter(weighted_layers(network).items()))
    layer.weight.data.mul_(1e38)
    with pytest.raises(TrainingFailed, match=f"layer '{name}': a gradient on calibration images is not finite"):
        prices(network, resources("residual").calibration.mul(1e30), rate=0.1, seed=0)


def test_prices_are_for_classes_alone():
    other = replace(resources("plain"), task=replace(CLASSIFICATION, name="regression"))
    with pytest.raises(
        InvalidRecipe, match=r"rate needs classification, because it draws labels from logits, and the task is regression"
    ):
        Quantize(rate=0.1).begin(dense("plain").network, other)
    assert Quantize(budget=NONE).begin(dense("plain").network, other).network.quantizers()


def test_prices_are_the_curvature_of_the_loss():
    """Against second derivatives of the expected loss, on the last layer, where Fisher information and Hessian are the same."""
    network, images = copy.deepcopy(dense("plain").network).eval(), resources("plain").calibration
    name, layer = list(weighted_layers(network).items())[-1]
    found = {seed: prices(network, images, rate=1.0, seed=seed)[name] for seed in range(24)}
    weights = sum(one.weight.numel() for one in weighted_layers(network).values())
    measured = torch.stack([2 / (weights * price) for price in found.values()]).mean(0)
    with torch.no_grad():
        features = network.features(images, (network.structure.nodes[-1].inputs[0],))
    inputs, logits = (features[name] for name in (network.structure.nodes[-1].inputs[0], network.structure.output))
    shares = logits.softmax(1)
    exact = (shares * (1 - shares)).T @ inputs.square() / len(images)
    torch.testing.assert_close(measured, exact.mean(1), rtol=0.25, atol=0)
    assert layer.weight.grad is None


def test_integers_are_the_cheapest_of_those_tried():
    torch.manual_seed(0)
    steps, lengths = torch.randn(4000) * 6, 3 + torch.rand(16) * 4
    for price in (0.0, 0.05, 0.5, 5.0):
        found = cheapest(steps, lengths, torch.tensor(price))
        cost = (found - steps.clamp(-15, 15)) ** 2 + price * lengths[found.abs().long()]
        below = steps.abs().clamp(max=15).floor()
        for other in (torch.zeros_like(steps), (below - 1).clamp_min(0), below, (below + 1).clamp(max=15)):
            assert (cost <= (other - steps.abs().clamp(max=15)) ** 2 + price * lengths[other.long()] + 1e-5).all()
        assert (found * steps >= 0).all()
    assert torch.equal(cheapest(steps, lengths, torch.tensor(0.0)), steps.round().clamp(-15, 15))
    assert not cheapest(torch.zeros(5), torch.tensor([9.0, 0.1, 0.1]), torch.tensor(9.0)).any()


def test_lengths_are_those_of_the_frequencies():
    levels = torch.tensor([[3.0, 0, 0, 1, 0, 0, 0, 0, -1]] * 500)
    lengths = code_lengths(levels, 4)  # per row: a block 3 0 0 1, a dead block, and the last channel alone
    for magnitude, count in ((0, 2), (1, 2), (3, 1)):
        assert float(lengths[magnitude]) == pytest.approx(math.log2(5 / count) + (magnitude > 0), abs=0.01)
    assert lengths[2] == lengths[4] > 10


def test_bits_fall_towards_what_is_frequent():
    lengths = torch.tensor([1.0, 3.0, 2.5, 6.0])
    steps = torch.tensor([0.0, 0.5, -1.5, 2.25, -9.0], requires_grad=True)
    bits = bits_between(steps, lengths)
    assert float(bits.detach()) == pytest.approx(1 + 2 + 2.75 + 3.375 + 6)
    bits.backward()
    assert steps.grad.tolist() == [0.0, 2.0, 0.5, 3.5, 0.0]


def test_the_objective_excludes_penalties():
    penalty, goal = LossTerm(lambda _: torch.zeros(()), penalty=True), cross_entropy()
    assert with_a_goal([goal], 0.0) == (goal,)
    assert with_a_goal([penalty, goal], 0.0) == (penalty, goal)
    assert len(with_a_goal([], 0.0)) == 1
    first, second = with_a_goal([penalty], 0.0)
    assert (first.penalty, second) == (False, penalty)


def test_training_with_a_rate_still_learns_the_labels():
    found = run_stage(dense("residual"), Quantize(budget=replace(SHORT, epochs=4), rate=0.02), resources("residual"))
    assert found.history[-1].value_after >= 0.9


class Normed(nn.Module):
    """A layer norm over channels, which is captured as layers with fixed weights."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.last(self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).relu().mean((2, 3)))


@pytest.mark.parametrize("epochs", [0, 1])
def test_fixed_weights_have_no_price(epochs):
    torch.manual_seed(0)
    network = Network(capture(Normed(), SHAPE))
    fixed = [name for name, layer in weighted_layers(network).items() if not layer.weight.requires_grad]
    assert fixed
    worth = prices(network.eval(), resources("plain").calibration, rate=0.001, seed=0)
    assert worth.keys() == weighted_layers(network).keys() - set(fixed)
    stage = Quantize(budget=replace(SHORT, epochs=epochs), rate=0.001)
    run_stage(Candidate(network), stage, resources("plain"))


def test_float_layers_have_no_price():
    stage = Quantize(rate=0.1, activations="float32", formats={"*": Format(grid="float16")}, budget=NONE)
    with pytest.raises(InvalidRecipe, match=r"rate is 0\.1 and every layer is float, so it would have no effect"):
        stage.begin(dense("plain").network, resources("plain"))
