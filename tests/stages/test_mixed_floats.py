"""Mixed precision with float16, bfloat16 and float32 layers among the choices, beside layers of integers."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import NETWORKS, SHORT, dense, layer_bits_of, network, resources

from paretrim.errors import InvalidRecipe
from paretrim.graph.fusion import fuse
from paretrim.graph.interpreter import run
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage, stage_settings
from paretrim.runtime import plan
from paretrim.stages.gradients import hessian_traces
from paretrim.stages.quantize import latency, mixed
from paretrim.stages.quantize.latency import alternating, layer_times_ns
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture, Question, divergences, output_variances
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

CHOICES = (Format(bits=4), Format(bits=8), Format(grid="float16"), Format(grid="float32"))
WIDTHS = (4, 8, 16, 32)


def least(losses, costs, budget):
    """The least loss of all assignments within the budget."""
    choices = itertools.product(range(len(WIDTHS)), repeat=len(losses))

    def total(numbers, choice):
        return sum(some[number] for some, number in zip(numbers, choice, strict=True))

    return min(total(losses, choice) for choice in choices if total(costs, choice) <= budget)


def hessian_losses(samples):
    torch.manual_seed(1)
    traces = hessian_traces(dense("residual").network, resources("residual"), samples=samples)
    found = []
    for name, layer in weighted_layers(dense("residual").network).items():
        weight = layer.weight.detach()
        grids = [Quantize()._weight_grid(weight, form, None) for form in CHOICES]
        found.append([traces[name] * float((grid(weight).detach() - weight).double().square().sum()) for grid in grids])
    return found


def divergence_losses(settings):
    def fit(weight, form):
        return Quantize()._weight_grid(weight, form, None)

    tiny = copy.deepcopy(dense("residual").network).eval()
    return divergences(Question(tiny, resources("residual"), settings, {}, 8, fit, lambda formats: None, on_grids=True))


@pytest.mark.parametrize("bits", [4.0, 9.0, 13.0])
@pytest.mark.parametrize("by", ["hessian", "divergence"])
def test_the_choice_is_the_least_loss_of_all_assignments_within_the_bits(by, bits):
    settings = Mixture(by=by, choices=CHOICES, bits=bits, **({"samples": 5} if by == "hessian" else {}))
    torch.manual_seed(1)
    found = layer_bits_of(Quantize(mixed=settings))
    losses = hessian_losses(5) if by == "hessian" else divergence_losses(settings)
    assert all(some[-1] <= min(some) for some in losses)  # float32 loses nothing
    sizes = [layer.weight.numel() for layer in weighted_layers(dense("residual").network).values()]
    costs = [[size * width for width in WIDTHS] for size in sizes]
    lost = sum(loss[WIDTHS.index(width)] for loss, width in zip(losses, found.values(), strict=True))
    assert sum(size * width for size, width in zip(sizes, found.values(), strict=True)) <= bits * sum(sizes)
    assert lost == pytest.approx(least(losses, costs, int(bits * sum(sizes))), rel=1e-5, abs=1e-12)
    assert any(width >= 16 for width in found.values()) == (bits > 4)


def test_by_latency_is_the_least_loss_within_the_microseconds():
    random = np.random.default_rng(3)
    names = list(weighted_layers(dense("residual").network))
    times = {name: tuple(sorted(map(float, random.integers(1, 20, len(CHOICES))))) for name in names}
    budget = sum((some[1] + some[2]) / 2 for some in times.values())
    torch.manual_seed(1)
    found = layer_bits_of(Quantize(mixed=Mixture(by="latency", choices=CHOICES, microseconds=budget, times=times, samples=5)))
    losses, costs = hessian_losses(5), [[round(1000 * time) for time in times[name]] for name in names]
    lost = sum(loss[WIDTHS.index(found[name])] for loss, name in zip(losses, names, strict=True))
    assert lost == pytest.approx(least(losses, costs, round(1000 * budget)), rel=1e-5, abs=1e-12)
    assert max(found.values()) > 8


def test_by_variance_as_in_the_trade_offs_paper():
    """INT8 up to the 30th percentile of variance, 16 bits to the 70th, float32 above."""
    choices = (Format(bits=8), Format(grid="float16"), Format(grid="float32"))
    found = layer_bits_of(Quantize(mixed=Mixture(by="variance", choices=choices)))
    variances = output_variances(dense("residual").network, tuple(found), resources("residual").calibration)
    assert [found[name] for name in sorted(found, key=variances.get)] == [8, 8, 16, 32, 32]


@pytest.mark.parametrize("activations", ["uniform", "float32"])
def test_it_ships_as_it_trains(activations):
    mixture = Mixture(by="divergence", choices=CHOICES, bits=12.0)
    stage = Quantize(budget=SHORT, mixed=mixture, activations=activations)
    found = run_stage(dense("residual"), stage, resources("residual"))
    graph, images = freeze(found.network), resources("residual").calibration[:10].numpy()
    assert graph.quantized == (activations == "uniform")
    assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()
    assert {16, 32} & set(found.history[-1].layer_bits.values())
    assert parse_stage(stage_settings(stage), "stage") == stage


@pytest.mark.parametrize("name", NETWORKS)
def test_timed_halves_contain_no_adjacent_layers(name):
    graph = network(name).structure
    first, second = alternating(graph)
    assert first | second == set(weighted_layers(network(name)))
    assert not first & second
    ends = {run.end.name: run.head.name for run in fuse(graph)}
    for node in graph.nodes:
        if node.name in first | second and ends.get(node.inputs[0], "") in first | second:
            assert (node.name in first) != (ends[node.inputs[0]] in first)


def test_a_float_layer_is_charged_for_its_conversions(monkeypatch):
    """Every step takes 1 ns: an integer layer has one, a float layer those of its way from the grid and back, too."""

    class Session:
        def __init__(self, graph):
            self.real = plan(graph, measure=False)
            self.shape, self.takes_pixels = self.real.shape, self.real.takes_pixels

        def profile(self, image):
            return [replace(step, time_ns=1) for step in self.real.profile(image, calls=1)]

    monkeypatch.setattr(latency, "plan", Session)
    formats = {"left.0.0": Format(grid="float16"), "head": Format(grid="float32")}
    stage = Quantize(formats=formats, budget=Budget(epochs=0))
    graph = freeze(stage.begin(dense("residual").network, resources("residual")).network)
    assert layer_times_ns(graph) == {"stem.0": 1, "left.0.0": 3, "left.1": 1, "down.0": 1, "head": 2}


def test_times_of_float_choices_are_measured_between_grids(monkeypatch):
    seen = []

    def counted(graph):
        seen.append({node.name for node in graph.nodes if node.op == "dequantize"})
        return layer_times_ns(graph)

    monkeypatch.setattr(mixed, "layer_times_ns", counted)
    choices = (Format(bits=8), Format(grid="float32"))
    mixture = Mixture(by="latency", microseconds=1e6, choices=choices, samples=2)
    found = layer_bits_of(Quantize(formats={"head": Format(bits=8)}, mixed=mixture))
    assert found == {name: 8 if name == "head" else 32 for name in found}  # all that is worth anything fits
    assert len(seen) == 3  # integers once, floats in halves
    assert seen[0] == set()
    assert not seen[1] & seen[2]
    assert len(seen[1]) + len(seen[2]) == len(found) - 1


def test_floats_alone_are_refused():
    mixture = Mixture(by="divergence", choices=(Format(grid="float16"), Format(grid="float32")), bits=32.0)
    with pytest.raises(InvalidRecipe, match="formats and mixed make every layer float and activations is 'uniform'"):
        layer_bits_of(Quantize(mixed=mixture))
