"""Channels in another order before blocks are pruned: more is kept, and the network computes what it did."""

import numpy as np
import pytest
import torch
from tiny import NETWORKS, NONE, dense, prune, resources

from paretrim.graph.interpreter import run
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.patterns import BLOCK_1X4, block_alive
from paretrim.stages.prune.regroup import _in_blocks, arranged, kept_share
from paretrim.stages.quantize.stage import Quantize


def prunable(network):
    return dict(list(weighted_layers(network).items())[1:-1])


def regrouped_by(stage, network):
    return stage._regrouped(network)


def share(stage, network):
    weights = {name: layer.weight.detach() for name, layer in prunable(network).items()}
    return kept_share(weights, stage._chosen(network, weights, stage.sparsity))


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


@pytest.mark.parametrize(
    ("places", "columns", "whole"),
    [
        (range(8), 8, True),
        (range(4, 12), 16, True),
        ([0, 1, 2, 3, 12, 13, 14, 15], 16, True),  # the zero channels before and after a shortcut
        ([12, 13, 14, 15, 0, 1, 2, 3], 16, True),
        (range(2, 10), 16, False),
        ([0, 2, 4, 6, 1, 3, 5, 7], 8, False),
        (range(6), 6, True),
        (range(6), 8, False),  # its last two share a block with others
    ],
)
def test_only_layers_that_read_whole_blocks_have_a_say(places, columns, whole):
    assert _in_blocks(np.array(list(places)), columns, 4) == whole
