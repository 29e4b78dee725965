"""Masks that may still move, and channels in another order: what the prune stage does before its zeros are final."""

import itertools

import numpy as np
import pytest
import torch
from tiny import NETWORKS, NONE, dense, prune, resources, state

import paretrim.train.fit
from paretrim.constraints import Weighted, free_mask_, hold_masks_, narrow_, set_mask_, settle_, weighted_layers
from paretrim.freeze import freeze
from paretrim.graph.interpreter import run
from paretrim.pipeline import run_stage
from paretrim.prune.patterns import BLOCK_1X4, block_alive
from paretrim.prune.regroup import arranged, kept_share, regrouped
from paretrim.prune.stage import Prune
from paretrim.quantize.stage import Quantize
from paretrim.together import Together

HALF = torch.tensor([[True, True, False, False], [False, False, True, True]])


def prunable(network):
    return dict(list(weighted_layers(network).items())[1:-1])


def test_a_moving_mask_hides_and_the_hidden_go_on_learning():
    layer = Weighted(torch.arange(1.0, 9.0).reshape(2, 4), None)
    free_mask_(layer)
    set_mask_(layer, HALF)
    assert torch.equal(layer.effective_weight(), layer.weight * HALF)
    (layer.effective_weight() * torch.arange(8.0).reshape(2, 4)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.arange(8.0).reshape(2, 4))
    hold_masks_([layer])
    assert torch.equal(layer.weight, torch.arange(1.0, 9.0).reshape(2, 4))
    set_mask_(layer, ~HALF)  # what was hidden comes back as it was
    assert torch.equal(layer.effective_weight(), layer.weight * ~HALF)
    narrow_(layer)
    assert not layer.weight[HALF].any()
    with pytest.raises(ValueError, match="the mask would bring a pruned weight back"):
        set_mask_(layer, HALF)
    settle_(layer)
    assert layer.reach is None
    with pytest.raises(ValueError, match="the mask would bring a pruned weight back"):
        set_mask_(layer, HALF)


def test_a_moving_mask_cannot_reach_zeros_of_earlier_stages():
    layer = Weighted(torch.ones(2, 4), None)
    set_mask_(layer, HALF)
    free_mask_(layer)
    layer.effective_weight().sum().backward()
    assert torch.equal(layer.weight.grad, HALF.float())
    with torch.no_grad():
        layer.weight += 1  # an optimizer that moves what it should not
    hold_masks_([layer])
    assert torch.equal(layer.weight, 2.0 * HALF)
    with pytest.raises(ValueError, match="the mask would bring a pruned weight back"):
        set_mask_(layer, torch.ones(2, 4, dtype=torch.bool))


@pytest.fixture
def watched(monkeypatch):
    """The masks of the prunable layers at every optimizer step."""
    dense("residual")  # trained once for all tests, and not to be watched
    seen = []
    step = paretrim.train.fit._Work.step

    def looking(work, batch, epoch, progress):
        seen.append({name: layer.mask.clone() for name, layer in prunable(work.network).items()})
        return step(work, batch, epoch, progress)

    monkeypatch.setattr(paretrim.train.fit._Work, "step", looking)
    return seen


def revived(earlier, later):
    return sum(int((later[name] & ~earlier[name]).sum()) for name in later)


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_weights_return_until_masks_settle_and_never_after(pattern, watched):
    stage = prune(pattern=pattern, sparsity=0.6, revive_until=0.5)
    found = run_stage(dense("residual"), stage, resources("residual"))
    steps = [revived(one, other) for one, other in itertools.pairwise(watched)]
    assert len(steps) == 5
    assert sum(steps[:3]) > 0  # steps 1 to 3, the last at progress 1/2
    assert sum(steps[3:]) == 0
    for name, layer in prunable(found.network).items():
        assert layer.reach is None
        assert torch.equal(layer.mask, watched[-1][name])
        assert not layer.weight[~layer.mask].any()


def test_with_no_time_to_move_it_is_the_plain_stage():
    plain = run_stage(dense("residual"), prune(pattern="1x4", budget=NONE), resources("residual"))
    moving = run_stage(dense("residual"), prune(pattern="1x4", budget=NONE, revive_until=1.0), resources("residual"))
    for key, tensor in state(plain).items():
        torch.testing.assert_close(state(moving)[key], tensor, rtol=0, atol=0)


def test_channels_may_go_while_masks_move():
    parts = (Prune(pattern="1x4", sparsity=0.5, revive_until=0.9), Prune(pattern="channel", sparsity=0.25, schedule="cubic"))
    found = run_stage(dense("residual"), Together(parts=parts, budget=prune().budget), resources("residual")).network
    for layer in prunable(found).values():
        assert layer.reach is None or not bool(layer.reach[~layer.mask].any())
        assert not layer.weight[~layer.mask].any()
    assert {len(layer.weight) for layer in prunable(found).values()} != {8, 12}


def regrouped_by(stage, network):
    return regrouped(network, tuple(prunable(network)), BLOCK_1X4, stage._chosen)


def share(stage, network):
    weights = {name: layer.weight.detach() for name, layer in prunable(network).items()}
    return kept_share(weights, stage._chosen(weights))


@pytest.mark.parametrize("name", NETWORKS)
def test_another_order_of_channels_computes_the_same(name):
    network = dense(name).network
    found = regrouped_by(prune(pattern="1x4", sparsity=0.6), network)
    images = resources(name).calibration
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(images), network.eval()(images), rtol=1e-4, atol=1e-5)


def test_another_order_keeps_more_and_the_integers_are_the_same_up_to_their_order():
    stage = prune(pattern="1x4", sparsity=0.6)
    quantized = run_stage(dense("residual"), Quantize(budget=NONE), resources("residual")).network
    found = regrouped_by(stage, quantized)
    assert share(stage, found) > share(stage, quantized) + 0.005
    before, after = freeze(quantized), freeze(found)
    moved = 0
    for old, new in zip(before.nodes, after.nodes, strict=True):
        assert (old.name, old.op, old.type) == (new.name, new.op, new.type)
        for key, tensor in old.tensors.items():
            np.testing.assert_array_equal(np.sort(tensor, axis=None), np.sort(new.tensors[key], axis=None))
            moved += not np.array_equal(tensor, new.tensors[key])
    assert moved
    images = resources("residual").calibration[:20].numpy()
    np.testing.assert_array_equal(run(before, images), run(after, images))


def test_an_order_is_chosen_once():
    first = run_stage(dense("residual"), prune(pattern="1x4", sparsity=0.5, budget=NONE), resources("residual"))
    again = run_stage(first, prune(pattern="1x4", sparsity=0.6, regroup=True, budget=NONE), resources("residual"))
    for one, other in zip(prunable(first.network).values(), prunable(again.network).values(), strict=True):
        assert not bool((other.mask & ~one.mask).any())
        assert int((~block_alive(other.mask, BLOCK_1X4)).sum()) > 0


def test_swaps_find_the_blocks_that_were_mixed():
    strong = torch.tensor([1, 0, 1, 0, 0, 1, 0, 1], dtype=torch.float64)
    energies = strong[:, None] * torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    order = arranged(energies, torch.tensor([2.5, 2.5, 2.5], dtype=torch.float64), 4)
    assert sorted(order.tolist()) == list(range(8))
    assert {frozenset(order[:4].tolist()), frozenset(order[4:].tolist())} == {frozenset({0, 2, 5, 7}), frozenset({1, 3, 4, 6})}


def test_a_last_block_of_fewer_channels_takes_part():
    energies = torch.tensor([[5.0], [1.0], [1.0], [1.0], [5.0], [1.0]], dtype=torch.float64)
    order = arranged(energies, torch.tensor([6.0], dtype=torch.float64), 4)
    halves = {frozenset(order[:4].tolist()), frozenset(order[4:].tolist())}
    assert any({0, 4} <= half for half in halves)
    assert sorted(order.tolist()) == list(range(6))
