"""CLIP-Q: intervals and means against the definition, the stage, and the search for rates."""

import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import NONE, SHORT, dense, resources

from paretrim.errors import InvalidRecipe, MissingDependency
from paretrim.network.clipped_means import ClippedMeans, intervals
from paretrim.network.constraints import weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize import clipq
from paretrim.stages.quantize.clipq import ClipQ, Rate, optimised, saved_bits


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.integers(2, 5), st.floats(0, 0.95))
def test_the_share_of_each_sign_is_exact_and_values_are_means_of_even_intervals(seed, bits, share):
    torch.manual_seed(seed)
    weight = torch.randn(7, 9)
    weight[0] = 0
    edges, values = intervals(weight, bits=bits, share=share)
    assert (len(edges), len(values)) == (2**bits - 1, 2**bits)
    assert (edges.diff() > 0).all()
    places = torch.bucketize(weight, edges)
    around = int(torch.bucketize(torch.zeros(1), edges))
    assert values[around] == 0
    for side in (weight < 0, weight > 0):
        assert int((places[side] == around).sum()) == int(share * int(side.sum()))
        sizes = weight[side].abs()
        zero = places[side] == around
        assert not zero.any() or zero.all() or sizes[zero].max() < sizes[~zero].min()
    for place in places.unique().tolist():
        if place != around:
            assert values[place] == pytest.approx(float(weight[places == place].double().mean()), rel=1e-5)
    for side in (edges[:around], edges[around:]):  # even on each side of 0
        if len(side) > 2:
            torch.testing.assert_close(side.diff(), side.diff().mean().expand(len(side) - 1), rtol=1e-3, atol=1e-5)


def test_by_hand():
    weight = torch.tensor([-4.0, -3.0, -1.0, -0.5, 0.25, 0.5, 2.0, 4.0])
    edges, values = intervals(weight, bits=2, share=0.5)  # clips at -2 and 1.25; sides of 2 and 2.75: one and two intervals
    assert edges.tolist() == [-2.0, 1.25, 2.625]
    assert values.tolist() == [-3.5, 0.0, 2.0, 4.0]


def test_weights_of_one_sign_and_none():
    edges, values = intervals(torch.tensor([1.0, 2.0, 3.0, 4.0]), bits=2, share=0.25)
    assert values[0] == 0
    assert edges[0] == 1.5
    assert values[1:].tolist() == [2.0, 3.0, 4.0]
    _, nothing = intervals(torch.zeros(5), bits=2, share=0.5)
    assert not nothing.any()
    assert intervals(torch.tensor([-1.0, 1.0]), bits=2, share=0.0)[1].tolist() == [-1.0, -0.625, 0.0, 1.0]  # a middle


def test_the_gradient_passes_to_all_weights_and_zeros_come_back():
    weight = torch.tensor([-4.0, -3.0, -1.0, -0.5, 0.25, 0.5, 2.0, 4.0]).reshape(2, 4).requires_grad_()
    grid = ClippedMeans.with_share(weight, bits=2, share=0.5)
    grid(weight).sum().backward()
    assert weight.grad.tolist() == [[1.0] * 4] * 2
    assert grid(weight)[1, 0] == 0
    with torch.no_grad():
        weight[1, 0], weight[1, 2] = 3.0, 0.1
    assert grid.eval()(weight)[1, 0] != 0  # 3.0 is in another interval now
    assert grid(weight)[1, 2] == 0


def test_the_stage_trains_and_ends_with_fixed_zeros():
    stage = ClipQ(share=0.5, bits=4, rates={"0.0": Rate(share=0.25, bits=8)}, budget=SHORT)
    found = run_stage(dense("plain"), stage, resources("plain"))
    layers = weighted_layers(found.network)
    assert {name: layer.quantizer.bits for name, layer in layers.items()} == {"0.0": 8, "1.0": 4, "4": 4}
    for name, layer in layers.items():
        share = float((layer.effective_weight() == 0).double().mean())
        assert share == pytest.approx(0.25 if name == "0.0" else 0.5, abs=0.06)
        assert len(layer.effective_weight().unique()) <= 2**layer.quantizer.bits
    zeros = {name: layer.effective_weight() == 0 for name, layer in layers.items()}
    after = run_stage(found, FineTune(budget=SHORT), resources("plain")).network
    for name, layer in weighted_layers(after).items():
        assert not layer.effective_weight()[zeros[name]].any()


def test_saved_bits_are_counted(monkeypatch):
    monkeypatch.setattr("paretrim.stages.quantize.clipq.find_spec", lambda name: name)
    network = dense("plain").network
    sizes = {name: layer.weight.numel() for name, layer in weighted_layers(network).items()}
    rates = {"0.0": Rate(0.5, 8), "1.0": Rate(0.75, 4)}
    used = sizes["0.0"] * 0.5 * 8 + sizes["1.0"] * 0.25 * 4
    assert saved_bits(network, rates) == pytest.approx(1 - used / (32 * (sizes["0.0"] + sizes["1.0"])))
    assert ClipQ(weight=2.0, trials=1).cost(0.75, 0.5) == -1.75


def fake_optuna(seen):
    """The used part of Optuna, with fixed trials in place of a Gaussian process."""

    class Trial:
        def __init__(self, number):
            self.number, self.params = number, {}

        def suggest_float(self, name, low, high):
            self.params[name] = low + (high - low) * self.number / 4

        def suggest_int(self, name, low, high):
            self.params[name] = low + self.number

    class Study:
        def optimize(self, objective, *, n_trials):
            trials = [Trial(number) for number in range(n_trials)]
            costs = [objective(trial) for trial in trials]
            seen["costs"] = costs
            self.best_params = trials[costs.index(min(costs))].params

    def sampler(*, seed):
        seen["seed"] = seed
        return "sampler"

    def create_study(*, direction, sampler):
        seen.update(direction=direction, sampler=sampler)
        return Study()

    return types.SimpleNamespace(
        __spec__=None,
        logging=types.SimpleNamespace(set_verbosity=lambda level: None, WARNING=30),
        samplers=types.SimpleNamespace(GPSampler=sampler),
        create_study=create_study,
    )


def test_the_rates_of_lowest_cost_are_chosen(monkeypatch):
    seen = {}
    monkeypatch.setitem(sys.modules, "optuna", fake_optuna(seen))
    found = optimised(lambda rates: abs(rates["a"].share - 0.475) + rates["b"].bits / 100, ["a", "b"], trials=4, seed=3)
    assert found == {"a": Rate(0.475, 4), "b": Rate(0.475, 4)}
    assert (seen["direction"], seen["sampler"], seen["seed"], len(seen["costs"])) == ("minimize", "sampler", 3, 4)


def test_the_stage_searches_for_layers_that_have_no_rates(monkeypatch):
    seen = {}
    monkeypatch.setitem(sys.modules, "optuna", fake_optuna(seen))
    monkeypatch.setattr(clipq, "find_spec", lambda name: object())
    stage = ClipQ(trials=3, weight=0.0, rates={"4": Rate(0.5, 8)}, budget=NONE)
    found = run_stage(dense("plain"), stage, resources("plain")).network
    grids = {name: (layer.quantizer.share, layer.quantizer.bits) for name, layer in weighted_layers(found).items()}
    best = seen["costs"].index(min(seen["costs"]))
    assert grids == {"0.0": (0.95 * best / 4, 2 + best), "1.0": (0.95 * best / 4, 2 + best), "4": (0.5, 8)}


def test_a_search_without_optuna_and_unknown_layers_are_refused(monkeypatch):
    monkeypatch.setattr(clipq, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDependency, match=r"30 trials of Bayesian optimisation need Optuna, which is not installed; run pip"
    ):
        ClipQ(trials=30)
    with pytest.raises(InvalidRecipe, match=r"clipq: rates names layer 'fc', which does not exist; layers are 0\.0, 1\.0, 4"):
        ClipQ(rates={"fc": Rate()}).begin(dense("plain").network, resources("plain"))
