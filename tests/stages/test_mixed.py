"""Mixed precision: the solver against brute force, the curvature against the whole Hessian, and assignments down to the file."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import NONE, SHORT, dense, layer_bits_of, resources

from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.graph.interpreter import run
from paretrim.network.constraints import layer_bits, weighted_layers
from paretrim.network.freeze import freeze
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage, stage_settings
from paretrim.runtime import plan
from paretrim.stages.gradients import hessian_traces
from paretrim.stages.quantize.knapsack import least_loss
from paretrim.stages.quantize.latency import layer_times_ns
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import DIVERGENCE_IMAGES, Mixture, Question, divergences, output_variances
from paretrim.stages.quantize.stage import Quantize

THREE = (Format(bits=2), Format(bits=4), Format(bits=8))


def by_brute_force(losses, costs, budget):
    """The least loss within the budget, by brute force; None if nothing fits."""
    found = None
    for choice in itertools.product(*(range(len(some)) for some in losses)):
        if sum(cost[number] for cost, number in zip(costs, choice, strict=True)) <= budget:
            lost = sum(loss[number] for loss, number in zip(losses, choice, strict=True))
            found = lost if found is None else min(found, lost)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_the_solver_finds_what_brute_force_finds(seed):
    random = np.random.default_rng(seed)
    items = int(random.integers(1, 7))
    losses = [random.random(int(random.integers(1, 5))).tolist() for _ in range(items)]
    if seed % 3 == 0:
        losses = [[float(round(4 * loss)) for loss in some] for some in losses]  # ties
    costs = [[int(cost) for cost in random.integers(0, 30, len(some))] for some in losses]
    for budget in random.integers(0, 20 * items + 1, 6):
        best, found = by_brute_force(losses, costs, int(budget)), least_loss(losses, costs, int(budget))
        assert (found is None) == (best is None)
        if found is not None:
            assert sum(cost[number] for cost, number in zip(costs, found, strict=True)) <= budget
            assert sum(loss[number] for loss, number in zip(losses, found, strict=True)) == pytest.approx(best, abs=1e-12)


def test_the_solver_is_exact_for_many_layers():
    """Against dynamic programming over every budget, with 55 different layers."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 90, 55)
    losses = [(random.random() * size * np.array([4.0**-bits for bits in (2, 4, 6, 8)])).tolist() for size in sizes]
    costs = [[int(size) * bits for bits in (2, 4, 6, 8)] for size in sizes]
    budget = int(sizes.sum() * 4.3)
    table = np.full(budget + 1, 0.0)
    for loss, cost in zip(losses, costs, strict=True):
        options = [
            np.concatenate([np.full(c, np.inf), table[: budget + 1 - c]]) + lost for lost, c in zip(loss, cost, strict=True)
        ]
        table = np.min(options, axis=0)
    found = least_loss(losses, costs, budget)
    assert sum(loss[number] for loss, number in zip(losses, found, strict=True)) == pytest.approx(table[budget], rel=1e-12)


def test_no_layers_cost_nothing():
    assert least_loss([], [], 0) == []
    assert least_loss([], [], -1) is None


@pytest.mark.parametrize("budget", [2**63 - 1, 2**63, 10**40])
def test_a_budget_beyond_64_bits_allows_every_choice(budget):
    assert least_loss([[2.0, 1.0], [3.0, 3.0]], [[1, 7], [5, 2]], budget) == [1, 1]


def test_the_variance_is_that_of_all_outputs():
    tiny, images = dense("residual").network, resources("residual").calibration
    names = tuple(weighted_layers(tiny))
    found = output_variances(tiny, names, images)
    with torch.no_grad():
        values = tiny.features(images, names)
    assert found == pytest.approx({name: float(values[name].double().var(correction=0)) for name in names}, rel=1e-6)


def test_low_variance_gets_few_bits_and_high_variance_many():
    found = layer_bits_of(Quantize(mixed=Mixture(by="variance", choices=THREE, percentiles=(30.0, 70.0))))
    variances = output_variances(dense("residual").network, tuple(found), resources("residual").calibration)
    ordered = [found[name] for name in sorted(found, key=variances.get)]
    assert ordered == [2, 2, 4, 8, 8]
    assert sorted(found.values()) == ordered


def question_of(tiny, given, settings):
    """The question of a stage that quantizes every layer of ``tiny``."""
    stage = Quantize(mixed=settings)

    def fit(weight, form):
        return stage._weight_grid(weight, form, None)

    return Question(tiny, given, settings, named={}, usual=8, fit=fit, frozen=lambda formats: None, on_grids=True)


def test_a_divergence_is_that_of_the_network_with_one_layer_quantized():
    tiny, given = copy.deepcopy(dense("residual").network).eval(), resources("residual")
    before = {key: tensor.clone() for key, tensor in tiny.state_dict().items()}
    found = divergences(question_of(tiny, given, Mixture(by="divergence", choices=THREE, bits=4.0)))
    assert all(torch.equal(tiny.state_dict()[key], tensor) for key, tensor in before.items())
    images = given.calibration[:DIVERGENCE_IMAGES]
    with torch.no_grad():
        right = tiny(images).log_softmax(1)
        for name, moved in zip(weighted_layers(tiny), found, strict=True):
            for form, one in zip(THREE, moved, strict=True):
                other = copy.deepcopy(tiny)
                layer = weighted_layers(other)[name]
                layer.weight.copy_(Quantize()._weight_grid(layer.weight, form, None)(layer.weight))
                expected = (right.exp() * (right - other(images).log_softmax(1))).sum(1).mean()
                assert one == pytest.approx(float(expected), rel=1e-3, abs=1e-7)
    assert [max(moved) for moved in found] == [moved[0] for moved in found]  # of 2, 4 and 8 bits, 2 do most


@pytest.mark.parametrize("bits", [2.0, 3.1, 5.0, 8.0])
def test_by_divergence_is_the_least_of_all_assignments_within_the_bits(bits):
    stage = Quantize(mixed=Mixture(by="divergence", choices=THREE, bits=bits))
    found = layer_bits_of(stage)
    tiny = copy.deepcopy(dense("residual").network)
    losses = divergences(question_of(tiny, resources("residual"), stage.mixed))
    layers = weighted_layers(tiny)
    costs = [[layer.weight.numel() * form.bits for form in THREE] for layer in layers.values()]
    budget = int(bits * sum(layer.weight.numel() for layer in layers.values()))
    chosen = [(2, 4, 8).index(found[name]) for name in layers]
    lost = sum(loss[number] for loss, number in zip(losses, chosen, strict=True))
    assert lost == pytest.approx(by_brute_force(losses, costs, budget), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("bits", [2.0, 3.1, 5.0, 8.0])
def test_by_hessian_is_the_least_of_all_assignments_within_the_bits(bits):
    torch.manual_seed(1)
    stage = Quantize(mixed=Mixture(choices=THREE, bits=bits, samples=5))
    found = layer_bits_of(stage)
    torch.manual_seed(1)
    tiny = dense("residual").network
    traces = hessian_traces(tiny, resources("residual"), samples=5)
    layers = weighted_layers(tiny)
    losses, costs = [], []
    for name, layer in layers.items():
        weight = layer.weight.detach()
        grids = [stage._weight_grid(weight, form, None) for form in THREE]
        losses.append([traces[name] * float((grid(weight).detach() - weight).square().sum()) for grid in grids])
        costs.append([weight.numel() * form.bits for form in THREE])
    budget = int(bits * sum(layer.weight.numel() for layer in layers.values()))
    chosen = [(2, 4, 8).index(found[name]) for name in layers]
    lost = sum(loss[number] for loss, number in zip(losses, chosen, strict=True))
    assert lost == pytest.approx(by_brute_force(losses, costs, budget), rel=1e-5)


def test_a_budget_of_bytes_is_kept_and_named_layers_count():
    tiny = dense("residual").network
    sizes = {name: layer.weight.numel() for name, layer in weighted_layers(tiny).items()}
    limit = sum(sizes.values()) // 2  # 4 bits a weight
    found = layer_bits_of(Quantize(formats={"head": Format(bits=7)}, mixed=Mixture(choices=THREE, bytes=limit, samples=2)))
    assert found["head"] == 7
    assert sum(sizes[name] * bits for name, bits in found.items()) <= 8 * limit
    same = layer_bits_of(Quantize(formats={"head": Format(bits=7)}, mixed=Mixture(choices=THREE, bits=4.0, samples=2)))
    assert sum(sizes[name] * bits for name, bits in same.items()) <= 8 * limit


def test_by_latency_is_the_least_loss_within_the_microseconds():
    random = np.random.default_rng(3)
    names = list(weighted_layers(dense("residual").network))
    times = {name: tuple(sorted(map(float, random.integers(1, 20, 3)))) for name in names}
    budget = sum((some[1] + some[2]) / 2 for some in times.values())
    stage = Quantize(mixed=Mixture(by="latency", choices=THREE, microseconds=budget, times=times, samples=3))
    torch.manual_seed(1)
    found = layer_bits_of(stage)
    torch.manual_seed(1)
    traces = hessian_traces(dense("residual").network, resources("residual"), samples=3)
    losses = []
    for name, layer in weighted_layers(dense("residual").network).items():
        weight = layer.weight.detach()
        grids = [stage._weight_grid(weight, form, None) for form in THREE]
        losses.append([traces[name] * float((grid(weight).detach() - weight).square().sum()) for grid in grids])
    costs = [[round(1000 * time) for time in times[name]] for name in names]
    chosen = [(2, 4, 8).index(found[name]) for name in names]
    lost = sum(loss[number] for loss, number in zip(losses, chosen, strict=True))
    assert lost == pytest.approx(by_brute_force(losses, costs, round(1000 * budget)), rel=1e-5)
    assert len(set(found.values())) > 1
    assert parse_stage(stage_settings(stage), "stage") == stage


def test_times_are_measured_where_none_are_given():
    stage = Quantize(formats={"head": Format(bits=3)}, mixed=Mixture(by="latency", microseconds=1e6, choices=THREE, samples=20))
    found = layer_bits_of(stage)
    assert found == {name: 3 if name == "head" else 8 for name in found}
    graph = freeze(stage.begin(dense("residual").network, resources("residual")).network)
    times = layer_times_ns(graph)
    assert set(times) == set(found)
    assert all(0 < time < 10**9 for time in times.values())
    with pytest.raises(InvalidRecipe, match=r"the budget is 0.001 microseconds, but the fastest choices take [\d.]+; raise it"):
        layer_bits_of(Quantize(mixed=Mixture(by="latency", microseconds=0.001, choices=THREE, samples=1)))


def test_times_of_every_layer_in_every_choice_are_needed():
    table = dict.fromkeys(weighted_layers(dense("residual").network), (1.0, 2.0))
    with pytest.raises(
        InvalidRecipe, match=r"times has 2 numbers for layer 'stem\.0'; for every layer, give one per choice \(here 3\)"
    ):
        layer_bits_of(Quantize(mixed=Mixture(by="latency", microseconds=9.0, times=table)))


def test_all_layers_may_be_named():
    assert set(layer_bits_of(Quantize(formats={"*": Format(bits=3)}, mixed=Mixture(bits=4.0))).values()) == {3}


def test_a_mixture_ships_as_trained():
    stage = Quantize(budget=SHORT, mixed=Mixture(choices=THREE, bits=5.0, samples=4))
    found = run_stage(dense("residual"), stage, resources("residual"))
    graph, images = freeze(found.network), resources("residual").calibration[:10].numpy()
    assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()
    assert found.history[-1].layer_bits == layer_bits(found.network)
    assert len(set(layer_bits(found.network).values())) > 1
    assert parse_stage(stage_settings(stage), "stage") == stage
    assert "mixed" not in stage_settings(Quantize())


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"by": "magic", "bits": 4.0}, "mixed: by is 'magic'; choose one of hessian, divergence, variance, latency"),
        ({"bits": 4.0, "choices": [{"bits": 4}]}, "there are 1 choices; give at least two formats"),
        ({"bits": 4.0, "choices": [{"bit": 4}, {"bits": 2}]}, "there is no such key; did you mean 'bits'"),
        ({}, "by 'hessian' needs one budget, but 0 are given; give either bits or bytes"),
        ({"bits": 4.0, "bytes": 1000}, "by 'hessian' needs one budget, but 2 are given"),
        (
            {"by": "divergence", "bits": 4.0, "percentiles": [20.0, 80.0]},
            r"percentiles is \(20\.0, 80\.0\), but by 'divergence' compares no variances, .*; set by to variance, or leave",
        ),
        ({"by": "divergence"}, "by 'divergence' needs one budget, but 0 are given; give either bits or bytes"),
        (
            {"by": "variance", "bits": 4.0},
            "by 'variance' has no budget of bits; leave bits and bytes out, or set by to hessian or divergence",
        ),
        (
            {"by": "variance", "percentiles": [50.0]},
            r"percentiles are \[50.0\] for 3 choices; give them in ascending order, one fewer",
        ),
        ({"by": "latency"}, "by is 'latency', microseconds is None and times are not given; by 'latency' needs microseconds"),
        ({"by": "hessian", "bits": 4.0, "microseconds": 9.0}, "by is 'hessian', microseconds is 9.0 and times are not given"),
        ({"by": "hessian", "bits": 4.0, "times": {"a": [1.0]}}, "by is 'hessian', microseconds is None and times are given"),
        ({"by": "latency", "microseconds": 9.0, "bits": 4.0}, "by 'latency' has no budget of bits; leave bits and bytes out"),
        ({"by": "variance", "percentiles": [70.0, 30.0]}, r"percentiles are \[70.0, 30.0\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused(table, match):
    with pytest.raises(InvalidRecipe, match=match):
        parse_stage({"stage": "quantize", "mixed": table}, "stage")


def test_an_unreachable_budget_is_refused():
    with pytest.raises(
        InvalidRecipe, match=r"the budget is \d+ bytes of weights, but the smallest choices take \d+ \(2 bits per weight"
    ):
        layer_bits_of(Quantize(mixed=Mixture(choices=THREE, bits=1.5, samples=1)))


def test_curvature_needs_labels():
    given = replace(resources("residual"), calibration_labels=None)
    with pytest.raises(DataUnavailable, match="calibration images have no labels here"):
        Quantize(mixed=Mixture(bits=4.0), budget=NONE).begin(dense("residual").network, given)
    for settings in (Mixture(by="variance"), Mixture(by="divergence", bits=4.0)):
        assert isinstance(run_stage(dense("residual"), Quantize(mixed=settings, budget=NONE), given), Candidate)
