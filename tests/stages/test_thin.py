"""The plain smaller network, and channel counts that are fast on this CPU."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import NONE, SHORT, dense, prune, resources, state

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import weighted_layers
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune import measured
from paretrim.stages.prune.thin import Thin
from paretrim.stages.quantize.stage import Quantize


def widths(network):
    return [layer.weight.shape[:2] for layer in weighted_layers(network).values()]


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "without_norm"])
@pytest.mark.parametrize("multiple", [1, 4])
def test_a_thin_network_is_as_wide_as_one_pruned_uniformly(name, multiple):
    thin = run_stage(dense(name), Thin(budget=NONE, multiple_of=multiple), resources(name)).network
    pruned = prune(pattern="channel", allocation="uniform", multiple_of=multiple, budget=NONE)
    assert widths(thin) == widths(run_stage(dense(name), pruned, resources(name)).network)


def test_all_weights_are_new_and_the_seed_decides_them():
    parent = dense("residual")
    first, again = (run_stage(parent, Thin(budget=NONE, sparsity=0.0), resources("residual")).network for _ in range(2))
    other = run_stage(parent, Thin(budget=NONE, sparsity=0.0), resources("residual", seed=1)).network
    for name, layer in weighted_layers(first).items():
        assert torch.equal(layer.weight, weighted_layers(again)[name].weight)
        assert not torch.equal(layer.weight, weighted_layers(other)[name].weight)
        old = weighted_layers(parent.network)[name].weight
        assert abs(float(torch.corrcoef(torch.stack([layer.weight.flatten(), old.flatten()]).detach())[0, 1])) < 0.5
    for norm in first.batch_norms().values():
        assert (norm.gamma.unique().tolist(), norm.variance.unique().tolist(), norm.mean.abs().sum().item()) == (
            [1.0],
            [1.0],
            0.0,
        )


def test_fresh_weights_have_the_variance_of_their_fan_out():
    weight = weighted_layers(run_stage(dense("plain"), Thin(budget=NONE, sparsity=0.0), resources("plain")).network)["1.0"].weight
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / (16 * 9)), rel=0.1)


def test_it_learns_from_scratch():
    before, after = (
        run_stage(dense("plain"), Thin(budget=budget, sparsity=0.25), resources("plain")).history[-1].value_after
        for budget in (NONE, replace(SHORT, epochs=8, batch_size=24))
    )
    assert after > before


def test_masks_hold():
    network = run_stage(dense("plain"), prune(budget=NONE, first=True, last=True), resources("plain")).network
    found = run_stage(Candidate(network), Thin(budget=NONE, sparsity=0.0), resources("plain")).network
    for layer in weighted_layers(found).values():
        assert not layer.weight[~layer.mask].any()


def test_a_sparsity_of_one_is_refused():
    with pytest.raises(InvalidRecipe, match="thin: a channel sparsity of 1 leaves no network; stay below 1"):
        Thin(sparsity=1.0)


@pytest.mark.parametrize(
    ("times", "multiple"),
    [
        ({1: 100, 4: 90, 8: 91, 16: 120}, 8),
        ({1: 100, 4: 100, 8: 100, 16: 100}, 16),
        ({1: 10, 4: 20, 8: 30, 16: 40}, 1),
        ({1: 100, 4: 90, 8: 95, 16: 91}, 16),
    ],
)
def test_the_most_channels_that_cost_no_time_are_taken(times, multiple):
    assert measured.chosen(times) == multiple


@pytest.mark.parametrize("fast", [1, 4, 8])
def test_counts_follow_the_clock(fast, monkeypatch):
    seen = []

    def clock(network, _resources):
        seen.append([shape[0] for shape in widths(network)][:-1])
        return 1000 if fast == 1 or all(count % fast == 0 for count in seen[-1]) else 2000

    monkeypatch.setattr(measured, "time_ns", clock)
    monkeypatch.setattr(measured, "MULTIPLES", (1, 4) if fast == 4 else (1,) if fast == 1 else (1, 4, 8))
    pruned = prune(pattern="channel", allocation="uniform", sparsity=0.6, multiple_of="measured", budget=NONE)
    found = run_stage(dense("plain"), pruned, resources("plain")).network
    assert [shape[0] for shape in widths(found)][:-1] == {1: [3, 6], 4: [4, 8], 8: [8, 8]}[fast]
    assert seen[0] == [3, 6]


def test_time_is_that_of_integers_and_the_network_stays():
    network, given = dense("plain").network, resources("plain")
    before = state(network)
    assert measured.time_ns(network, given) > 0
    quantized = Quantize(budget=NONE).begin(network, given).network
    assert measured.time_ns(quantized, given) > 0
    assert all(torch.equal(tensor, state(network)[name]) for name, tensor in before.items())
