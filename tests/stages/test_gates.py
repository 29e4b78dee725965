"""Hard-concrete gates: their distribution, their gradients, and the pruned network."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from tiny import NONE, SHORT, assert_killed_goes_on_to_the_same_bits, dense, resources, same, state

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import channel_groups
from paretrim.network.constraints import weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.gates import GATES, HIGH, LOW, TEMPERATURE, Gates, HardConcrete
from paretrim.stages.together import Together


def with_log_alpha(values):
    gates = HardConcrete(len(values), drop=0.5)
    gates.log_alpha.data[:] = torch.tensor(values)
    return gates


def test_gates_begin_open_with_the_probability_that_was_asked_for():
    assert torch.sigmoid(HardConcrete(3, drop=0.3).log_alpha).tolist() == pytest.approx([0.7] * 3)
    assert HardConcrete(2, drop=0.05).settled().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 1.5])
def test_draws_have_the_distribution_of_the_paper(log_alpha):
    torch.manual_seed(0)
    gates = with_log_alpha([log_alpha] * 40000)
    drawn = gates().detach()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    shut = 1 - float(gates.open_probability()[0].detach())
    assert float((drawn == 0).double().mean()) == pytest.approx(shut, abs=0.01)

    def value(u):
        s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + log_alpha) / TEMPERATURE))
        return min(1.0, max(0.0, s * (HIGH - LOW) + LOW))

    assert float(drawn.mean()) == pytest.approx(quad(value, 0, 1, limit=200)[0], abs=0.01)


def test_gradients_are_those_of_finite_differences():
    gates = with_log_alpha([-1.0, 0.2, 2.0]).double()

    def drawn(log_alpha):
        torch.manual_seed(3)
        return (torch.func.functional_call(gates, {"log_alpha": log_alpha}, ()) * torch.tensor([1.0, -2.0, 3.0])).sum()

    assert torch.autograd.gradcheck(drawn, (gates.log_alpha.detach().clone().requires_grad_(),))
    p = gates.open_probability()
    (gradient,) = torch.autograd.grad(p.sum(), gates.log_alpha)
    torch.testing.assert_close(gradient, (p * (1 - p)).detach())


def begun(name, **settings):
    training = Gates(**settings).begin(dense(name).network, resources(name))
    return Gates(**settings), training


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise"])
def test_the_pruned_network_equals_the_gated_one(name):
    stage, training = begun(name)
    torch.manual_seed(1)
    training.extra[GATES].log_alpha.data.normal_(0, 3)
    stage.advance(training, 0.0)
    images = resources(name).calibration
    with torch.no_grad():
        expected = training.network.eval()(images)
    before = channel_groups(training.network.graph()).sets
    stage.advance(training, 1.0)
    after = channel_groups(training.network.graph()).sets
    assert sum(map(len, after)) < sum(map(len, before))
    with torch.no_grad():
        torch.testing.assert_close(training.network.eval()(images), expected, rtol=1e-3, atol=1e-4)
    assert all(batch_norm.gate is None for batch_norm in training.network.batch_norms().values())


def test_every_training_batch_draws_new_gates():
    stage, training = begun("residual", drop=0.5)
    stage.advance(training, 0.0)
    network, images = training.network.train(), resources("residual").calibration
    norms = list(network.batch_norms().values())
    torch.manual_seed(0)
    network(images)
    first = [norms[i].gate(True).detach().clone() for i in (1, 2)]  # the first layer alone draws anew
    again = [norms[i].gate(True).detach() for i in (1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    network(images)
    assert not torch.equal(norms[2].gate(True).detach(), first[1])
    shared = channel_groups(network.graph()).classes
    assert (shared["stem.0"] == shared["left.1"]).all()
    assert torch.equal(norms[0].gate(False), norms[2].gate(False))


def test_gates_learn_and_the_penalty_closes_them():
    parent, given = dense("plain"), resources("plain")
    opened, closed = (
        run_stage(parent, Gates(budget=replace(SHORT, epochs=6), weight=weight, rate=100.0), given).network
        for weight in (0.0, 1.0)
    )
    width = {
        key: sum(layer.weight.shape[0] for layer in weighted_layers(net).values()) for key, net in (("o", opened), ("c", closed))
    }
    assert width["c"] < width["o"]
    assert min(layer.weight.shape[0] for layer in weighted_layers(closed).values()) >= 1


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_given_share_is_removed_exactly(share):
    stage, training = begun("residual", sparsity=share)
    training.extra[GATES].log_alpha.data.normal_(0, 3)
    total = sum(map(len, channel_groups(training.network.graph()).sets))
    worst = np.argsort(training.extra[GATES].log_alpha.detach().numpy())
    assert len(worst) >= total
    stage.advance(training, 1.0)
    assert sum(map(len, channel_groups(training.network.graph()).sets)) == total - round(share * total)


def test_without_training_nothing_changes():
    assert same(state(run_stage(dense("residual"), Gates(budget=NONE), resources("residual"))), state(dense("residual")))


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    stage = Gates(budget=replace(SHORT, epochs=3), sparsity=0.3, drop=0.3)
    assert_killed_goes_on_to_the_same_bits(stage, tmp_path, epoch=2)


def test_gates_beside_a_teacher_and_with_rounded_counts():
    stage = Together(parts=(Gates(sparsity=0.3, multiple_of=4), Distill()), budget=SHORT)
    found = run_stage(dense("plain"), stage, resources("plain")).network
    assert [layer.weight.shape[0] % 4 for layer in weighted_layers(found).values()] == [0, 0, 0]


def test_gates_on_channels_that_another_part_has_changed_are_left_alone():
    stage, training = begun("plain")
    training.extra[GATES] = HardConcrete(1, drop=0.5)
    before = state(training.network)
    stage.advance(training, 1.0)
    assert same(before, state(training.network))


def test_refusals():
    with pytest.raises(InvalidRecipe, match="gates: a channel sparsity of 1 leaves no network; stay below 1"):
        Gates(sparsity=1.0)
    with pytest.raises(
        InvalidRecipe, match="gates: gates are attached to BatchNorm, and no channel has one behind every layer that makes it"
    ):
        begun("without_norm")


def test_a_copy_of_a_gated_network_is_gated_too():
    stage, training = begun("plain")
    training.extra[GATES].log_alpha.data.fill_(-9.0)
    stage.advance(training, 0.0)
    other = copy.deepcopy(training.network).eval()
    with torch.no_grad():
        torch.testing.assert_close(other(resources("plain").calibration), training.network.eval()(resources("plain").calibration))
