"""Grids and channel scores of the user's own, named by recipes."""

import sys

import pytest
import torch
from script_files import script
from tiny import NONE, dense, resources, same, start, state
from torch import nn

from paretrim.errors import CorruptFile, InvalidRecipe
from paretrim.network import formats
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.grids import WeightSettings
from paretrim.network.rounding import straight_through
from paretrim.network.ternary import TernaryWeights
from paretrim.run.candidate import load_candidate, save_candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage
from paretrim.stages.prune.score_table import channel_scores_of
from paretrim.stages.prune.scores import channel_l2
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize

THIS = "test_own_grids"
sys.modules[THIS] = sys.modules[__name__]


class OwnTernary(TernaryWeights):
    def facts(self):
        return {"grid": f"{THIS}:OwnTernary"}


def a_weight():
    """Dense channels, a sparse one, and one of zeros."""
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0)) ** 3  # of sizes whose sums round
    weight[1, :3] = 0
    weight[2] = 0
    return weight


class Slipping(OwnTernary):
    """The usual way to write a straight-through gradient, whose sum rounds."""

    def forward(self, weight):
        return weight + (super().forward(weight) - weight).detach()


class Raising(OwnTernary):
    def integers(self, weight):
        integers, scale = super().integers(weight)
        return torch.where(weight == 0, 1, integers).to(torch.int8), scale

    def forward(self, weight):
        integers, scale = self.integers(weight)
        return straight_through(weight, integers * scale.reshape(-1, *[1] * (weight.dim() - 1)))


class Wide(OwnTernary):
    def integers(self, weight):
        integers, scale = super().integers(weight)
        return integers.int(), scale


class Unfinished(nn.Module):
    widths = range(2, 3)

    @classmethod
    def fitted(cls, _weight, _settings):
        return cls()


class Bare(Unfinished):
    """Has its class members, and none of those that an object may have of its own."""

    integers = rows = facts = lambda self, *_: None

    @classmethod
    def restored(cls, _facts, _weight, _tensors):
        return cls()


def of_channels(network, _resources):
    return {name: torch.arange(len(layer.weight), dtype=torch.float64) for name, layer in weighted_layers(network).items()}


def of_weights(network, _resources):
    return {name: layer.weight.detach().abs() for name, layer in weighted_layers(network).items()}


def of_too_few_channels(network, _resources):
    return {name: torch.ones(1) for name in weighted_layers(network)}


def test_a_recipe_names_an_own_grid_that_candidates_and_files_hold(tmp_path):
    table = {"stage": "quantize", "budget": {"epochs": 0}, "formats": {"*": {"grid": f"{THIS}:OwnTernary"}}}
    found = run_stage(dense("plain"), parse_stage(table, "stage"), resources("plain"))
    known = run_stage(dense("plain"), Quantize(budget=NONE, formats={"*": Format(grid="ternary")}), resources("plain"))
    assert (
        freeze(found.network).nodes[1].tensors["weight"].tobytes() == freeze(known.network).nodes[1].tensors["weight"].tobytes()
    )
    save_candidate(found, tmp_path / "candidate.safetensors")
    assert same(state(load_candidate(tmp_path / "candidate.safetensors")), state(found))


def test_a_file_does_not_import_the_code_that_it_names(tmp_path, monkeypatch):
    found = run_stage(dense("plain"), Quantize(budget=NONE, formats={"*": Format(grid=f"{THIS}:OwnTernary")}), resources("plain"))
    save_candidate(found, tmp_path / "candidate.safetensors")
    monkeypatch.setattr(formats, "_OWN", {})
    with pytest.raises(CorruptFile, match="its grid is 'test_own_grids:OwnTernary'; this version knows uniform, ternary"):
        load_candidate(tmp_path / "candidate.safetensors")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("octal", r"formats: grid is 'octal'; known grids are uniform, .*; for your own write 'package\.module:Class'"),
        (
            f"{THIS}:of_weights",
            r"formats: grid 'test_own_grids:of_weights' is an object of type .*; it must be a class of nn\.Module",
        ),
    ],
)
def test_a_class_that_is_no_grid_is_refused_early(name, match):
    with pytest.raises(InvalidRecipe, match=match):
        Format(grid=name)


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (Slipping, r"a call gives other values than its integers times their scales for \d+ of 270 weights, .*straight_through"),
        (Raising, "it moves weights that are 0, as pruned ones are; give them the integer 0"),
        (Wide, r"integers returns torch\.int32 \[6, 5, 3, 3\] and scales \[6\] .*; return torch\.int8"),
        (Bare, r"has no bits, incremental, priced, trained_scale; add what paretrim\.WeightGrid asks for"),
    ],
)
def test_a_grid_that_would_not_ship_what_it_trains_is_refused(kind, match):
    settings = WeightSettings(2, "learned")
    with pytest.raises(InvalidRecipe, match=match):
        formats.new_weight_grid(f"{THIS}:{kind.__name__}", a_weight(), settings)
    assert isinstance(formats.new_weight_grid(f"{THIS}:OwnTernary", a_weight(), settings), OwnTernary)


def test_a_class_without_members_of_a_grid_is_refused_early():
    with pytest.raises(InvalidRecipe, match=r"has no facts, integers, restored, rows; add what paretrim\.WeightGrid asks for"):
        Format(grid=f"{THIS}:Unfinished")
    with pytest.raises(InvalidRecipe, match=r"has no facts, grid, restored; add what paretrim\.ActivationGrid asks for"):
        Quantize(budget=NONE, activations=f"{THIS}:Unfinished")


def test_the_grid_of_the_examples_keeps_pruned_weights_and_trains_what_ships():
    grid = script("examples/own_grid.py").BinaryWeights()
    weight = a_weight().requires_grad_()
    moved, (integers, scale) = grid(weight), grid.integers(weight)
    assert torch.equal(moved, integers * scale[:, None, None, None])
    assert torch.equal(integers == 0, weight == 0)
    assert scale[1].item() == pytest.approx(weight[1][weight[1] != 0].abs().mean().item())
    moved.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_an_own_score_is_of_channels_or_of_weights():
    network = start("plain").network
    direct = channel_scores_of(f"{THIS}:of_channels", network, resources("plain"))
    norms = channel_scores_of(f"{THIS}:of_weights", network, resources("plain"))
    for name, layer in weighted_layers(network).items():
        assert direct[name].tolist() == list(range(len(layer.weight)))
        assert torch.equal(norms[name], channel_l2(layer.weight.detach().abs()))
    with pytest.raises(InvalidRecipe, match=r"has shape \(1,\); return one number per channel, \(8,\)"):
        channel_scores_of(f"{THIS}:of_too_few_channels", network, resources("plain"))
