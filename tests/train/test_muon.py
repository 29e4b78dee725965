"""Muon by its laws: what an update is, what it leaves alone, and that the rest trains as with sgd."""

from dataclasses import replace

import pytest
import torch
from tiny import FLOAT32, SHORT, network, resources

import paretrim.train.fit
from paretrim.network.constraints import weighted_layers
from paretrim.train.budget import Budget
from paretrim.train.fit import Plan, fit
from paretrim.train.muon import orthogonalised
from paretrim.train.optimizer import hidden_weights, make_optimizer, step_within_
from paretrim.train.training import Training

MUON = Budget(optimizer="muon", learning_rate=0.1, momentum=0.5, muon_rate=0.2, weight_decay=0.0)
SHAPES = [(32, 64), (64, 32), (16, 16), (5, 1)]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_orthogonalised_matrix_keeps_singular_vectors_and_has_values_near_one(shape):
    left, _, right = torch.linalg.svd(drawn(*shape), full_matrices=False)
    matrix = left @ torch.diag(torch.linspace(3.0, 0.3, min(shape))) @ right  # all above 0.01 of the norm
    inside = left.T @ orthogonalised(matrix) @ right.T
    assert 0.5 < inside.diagonal().min() <= inside.diagonal().max() < 1.5
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), atol=1e-4, rtol=0)
    torch.testing.assert_close(orthogonalised(1e6 * matrix), orthogonalised(matrix))


def test_zeros_stay_zeros():
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_bfloat16_products_are_enough():
    matrix = drawn(64, 200)
    with torch.autocast("cpu", torch.bfloat16):
        found = orthogonalised(matrix)
    assert found.dtype == torch.float32
    assert torch.linalg.matrix_norm(found - orthogonalised(matrix)) < 0.05 * torch.linalg.matrix_norm(found)


def stepped(weight, gradients, budget=MUON):
    """The weight after steps with these gradients."""
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = make_optimizer([parameter], budget, hidden=[parameter])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * group["unit"] * group["rate"]
        step_within_(optimizer, [])
    return parameter.detach()


def test_a_weight_turns_by_its_rate_and_keeps_its_norm():
    weight, first, second = drawn(8, 4, 3, 3), drawn(8, 4, 3, 3, seed=1), drawn(8, 4, 3, 3, seed=2)
    expected, momentum = weight, torch.zeros_like(weight)
    for gradient in (first, second):
        momentum = 0.5 * momentum + gradient
        direction = orthogonalised((gradient + 0.5 * momentum).flatten(1)).view_as(weight)
        moved = expected - 0.2 * weight.norm() * direction / direction.norm()
        expected = moved * weight.norm() / moved.norm()
    found = stepped(weight, [first, second])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.norm(), weight.norm())


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_neither_the_size_of_gradients_nor_that_of_weights_matters(factor):
    weight, gradient = drawn(8, 4, 3, 3), drawn(8, 4, 3, 3, seed=1)
    expected = stepped(weight, [gradient])
    torch.testing.assert_close(stepped(weight, [factor * gradient]), expected)
    torch.testing.assert_close(stepped(factor * weight, [gradient]) / factor, expected)


def test_weights_without_gradients_and_layers_of_zeros_stay():
    weight, gradient = drawn(8, 6), drawn(8, 6, seed=1)
    weight[:, 3], gradient[:, 3] = 0, 0
    found = stepped(weight, [gradient, gradient])
    assert not found[:, 3].any()
    assert (found != weight)[:, :3].all()
    assert torch.equal(stepped(weight, [torch.zeros_like(weight)]), weight)
    assert torch.equal(stepped(torch.zeros(8, 6), [gradient]), torch.zeros(8, 6))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", ["1.0"]),
        ("residual", ["left.0.0", "left.1", "down.0"]),
        ("depthwise", ["1.0", "2.0"]),
        ("without_norm", ["3", "6"]),
    ],
)
def test_hidden_weights_are_those_between_the_first_and_the_last_layer(name, expected):
    layers = weighted_layers(network(name))
    names = {id(layer.weight): name for name, layer in layers.items()}
    assert [names[id(weight)] for weight in hidden_weights(layers)] == expected


def test_the_rest_trains_as_with_sgd():
    """One step, bit for bit: momentum, weight decay and rates are those of sgd; only hidden weights differ."""
    after = {}
    for optimizer in ("sgd", "muon"):
        given, module = resources("residual"), network("residual")
        budget = replace(SHORT, optimizer=optimizer, batchnorm_bias_rate=8.0, epochs=1, batch_size=120)
        fit(Training(module, given), Plan("finetune", budget, (), lambda _: None))
        after[optimizer] = module
    names = {name for name, parameter in network("residual").named_parameters()}
    hidden = {id(weight) for weight in hidden_weights(weighted_layers(after["muon"]))}
    own = {name for name, parameter in after["muon"].named_parameters() if id(parameter) in hidden}
    theirs = dict(after["sgd"].named_parameters())
    differ = {name for name, parameter in after["muon"].named_parameters() if not torch.equal(parameter, theirs[name])}
    assert differ == own < names


def test_training_with_muon_computes_in_the_precision_asked_for(monkeypatch):
    seen = []

    def looking(*given):
        seen.append(torch.is_autocast_enabled("cpu"))
        return step_within_(*given)

    monkeypatch.setattr(paretrim.train.fit, "step_within_", looking)
    for precision in ("float32", "bfloat16"):
        given = resources("plain", execution=replace(FLOAT32, precision=precision))
        budget = replace(SHORT, optimizer="muon", epochs=1, batch_size=120)
        fit(Training(network("plain"), given), Plan("finetune", budget, (), lambda _: None))
    assert seen == [False, True]
