"""Grids and channel scores of the user's own, named by recipes."""

import sys

import pytest
import torch
from tiny import NONE, dense, resources, same, start, state

from paretrim.errors import CorruptFile, InvalidRecipe
from paretrim.network import formats
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.ternary import TernaryWeights
from paretrim.run.candidate import load_candidate, save_candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage
from paretrim.stages.prune.criteria import channel_scores_of
from paretrim.stages.prune.scores import channel_l2
from paretrim.stages.quantize.formats import Format
from paretrim.stages.quantize.stage import Quantize

THIS = "test_own_grids"
sys.modules[THIS] = sys.modules[__name__]


class OwnTernary(TernaryWeights):
    def facts(self):
        return {"grid": f"{THIS}:OwnTernary"}


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


def test_an_own_score_is_of_channels_or_of_weights():
    network = start("plain").network
    direct = channel_scores_of(f"{THIS}:of_channels", network, resources("plain"))
    norms = channel_scores_of(f"{THIS}:of_weights", network, resources("plain"))
    for name, layer in weighted_layers(network).items():
        assert direct[name].tolist() == list(range(len(layer.weight)))
        assert torch.equal(norms[name], channel_l2(layer.weight.detach().abs()))
    with pytest.raises(InvalidRecipe, match=r"has shape \(1,\); return one number per channel, \(8,\)"):
        channel_scores_of(f"{THIS}:of_too_few_channels", network, resources("plain"))
