"""Stages that observe gradients: when, which ones, and the effect on masks and the optimizer."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import SHORT, dense, network, resources, same, state
from torch import nn
from training_stages import LONG, Grows, Moves, MovesMasks

import paretrim.train.fit
from paretrim.network.constraints import replace_mask_, set_mask_, sparsity, weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.checkpoint import Checkpoints, Moment, form_of
from paretrim.train.fit import Plan, fit
from paretrim.train.training import Training


def test_masks_that_move_keep_their_number_of_zeros_and_change():
    found = run_stage(dense("residual"), MovesMasks(budget=LONG), resources("residual")).network
    begun = MovesMasks(budget=LONG).begin(dense("residual").network, resources("residual")).network
    pairs = list(zip(weighted_layers(begun).values(), weighted_layers(found).values(), strict=True))
    assert sparsity(found) >= 0.45
    assert all(int(one.mask.sum()) == int(other.mask.sum()) for one, other in pairs)
    assert any(bool((other.mask & ~one.mask).any()) for one, other in pairs)
    assert any(bool((other.weight[~one.mask] != 0).any()) for one, other in pairs)  # what came back has been trained


def test_observing_comes_after_the_backward_pass_and_before_the_optimizer():
    seen = []
    private = copy.deepcopy(dense("plain").network)
    layer = next(iter(weighted_layers(private).values()))

    def observe(step):
        seen.append((step.number, step.epoch, step.progress, layer.weight.detach().clone(), layer.weight.grad.clone()))
        layer.weight.grad.zero_()

    plan = Plan("x", replace(SHORT, weight_decay=0.0, momentum=0.0), (), lambda _: None, observe=observe)
    fit(Training(private, resources("plain")), plan)
    steps = len(seen)
    assert [entry[0] for entry in seen] == list(range(steps))
    assert [entry[2] for entry in seen] == [number / steps for number in range(steps)]
    assert all(torch.equal(entry[3], seen[0][3]) for entry in seen)  # the optimizer used the gradients as they were left
    assert all(entry[4].any() for entry in seen)


@pytest.mark.parametrize("quantized", [False, True])
def test_dense_gradients_are_those_of_the_weights_that_compute_and_change_nothing_else(quantized):
    """The same layer without its mask has these gradients."""
    private = MovesMasks().begin(dense("residual").network, resources("residual")).network
    if quantized:
        private = Quantize(budget=Budget(epochs=0)).begin(private, resources("residual")).network
    once = replace(SHORT, epochs=1)
    seen = []

    def look(training):
        def observe(step):
            state_now = copy.deepcopy(training.network)
            gradients = {
                name: (layer.weight.grad.clone(), layer.mask) for name, layer in weighted_layers(training.network).items()
            }
            seen.append((step, state_now, gradients))

        return observe

    found = []
    for asked in (True, False):
        training = Training(copy.deepcopy(private), resources("residual"), dense_gradients=asked)
        fit(training, Plan("x", once, (), lambda _: None, observe=look(training)))
        found.append(state(training.network))
    assert same(*found)
    step, before, gradients = seen[0]
    assert seen[-1][0].dense_gradients == {}
    for layer in weighted_layers(before).values():
        layer.mask = None
    before.zero_grad()
    torch.nn.functional.cross_entropy(before(step.batch.inputs), step.batch.labels).backward()
    for name, layer in weighted_layers(before).items():
        masked, mask = gradients[name]
        torch.testing.assert_close(step.dense_gradients[name], layer.weight.grad, rtol=1e-4, atol=1e-7)
        assert torch.equal(masked, step.dense_gradients[name] * mask)
        assert step.dense_gradients[name][~mask].any()


def test_steepest_weights_grow():
    found = run_stage(dense("residual"), Grows(budget=LONG), resources("residual")).network
    begun = MovesMasks().begin(dense("residual").network, resources("residual")).network
    for one, other in zip(weighted_layers(begun).values(), weighted_layers(found).values(), strict=True):
        grown = other.mask & ~one.mask
        assert int(grown.sum()) == int((one.mask & ~other.mask).sum()) > 0
        assert other.weight[grown].any()


def test_movement_scores_are_trained_and_choose_the_masks():
    training = Moves().begin(dense("residual").network, resources("residual"))
    stage = Moves(budget=LONG)
    plan = Plan("x", LONG, (), lambda _: None, observe=lambda step: stage.observe(training, step))
    fit(training, plan)
    for number, layer in enumerate(weighted_layers(training.network).values()):
        scores = training.extra[str(number)][0]
        assert scores.any()
        assert 0.4 <= float(layer.mask.float().mean()) <= 0.6 + 1 / layer.mask.numel()


def test_units_of_layers_that_came_later_are_remembered(tmp_path):
    """A network in an odd unit is quantized on the way: the scales of its values train in their unit, after a kill too."""
    given, odd = resources("without_norm"), copy.deepcopy(dense("without_norm").network)
    with torch.no_grad():
        next(iter(weighted_layers(odd).values())).weight.mul_(2.0**40)

    def worker():
        training = Training(copy.deepcopy(odd), given)
        return paretrim.train.fit._Work(training, Plan("x", LONG, (), lambda _: None), torch.device("cpu"))

    work, other = worker(), worker()
    before = set(work.units)
    work.network.become_(Quantize(budget=Budget(epochs=0)).begin(work.network, given).network)
    work.follow_layers()
    assert any(unit for name, unit in work.units.items() if name not in before)
    checkpoints = Checkpoints(tmp_path, form_of(other.network))
    checkpoints.save(work.training, work.optimizer, Moment(1, 0.0, work.units))
    assert other.resume(checkpoints) == (1, 0.0)
    assert other.units == work.units
    groups = [[(group["unit"], len(group["params"])) for group in one.optimizer.param_groups] for one in (work, other)]
    assert sorted(groups[0]) == sorted(groups[1])


def test_momentum_of_layers_that_stay_is_kept_where_others_are_replaced():
    private = copy.deepcopy(dense("plain").network)
    layers = weighted_layers(private)
    first, last = next(iter(layers)), list(layers)[-1]
    kept = layers[first].weight
    work = paretrim.train.fit._Work(
        Training(private, resources("plain")), Plan("x", SHORT, (), lambda _: None), torch.device("cpu")
    )
    work.epoch(0, 0.0, None)
    momentum = work.optimizer.state[kept]["momentum_buffer"].clone()
    assert momentum.any()
    layers[last].weight = nn.Parameter(torch.zeros_like(layers[last].weight))
    work.follow_layers()
    assert torch.equal(work.optimizer.state[kept]["momentum_buffer"], momentum)
    trained = {parameter for group in work.optimizer.param_groups for parameter in group["params"]}
    assert trained == set(private.parameters())
    assert layers[last].weight not in work.optimizer.state


def test_a_new_mask_is_boolean_and_of_the_weights_shape():
    layer = next(iter(weighted_layers(network("plain")).values()))
    with pytest.raises(ValueError, match=r"a mask of torch.float32; a mask is torch.bool"):
        replace_mask_(layer, torch.ones_like(layer.weight))
    with pytest.raises(ValueError, match=r"a mask of shape \(3,\) for a weight of shape"):
        replace_mask_(layer, torch.ones(3, dtype=torch.bool))
    weight = layer.weight.detach().clone()
    half = torch.zeros(weight.shape, dtype=torch.bool)
    half[0] = True
    replace_mask_(layer, half)
    replace_mask_(layer, ~half)
    assert not layer.weight[0].any()
    assert not layer.weight.any()  # what comes back begins at 0
    set_mask_(layer, half & ~half)
    with pytest.raises(ValueError, match="the mask would bring a pruned weight back"):
        set_mask_(layer, half)
