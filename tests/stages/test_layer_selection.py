"""Pruning only named layers, or all but named ones."""

import dataclasses

import pytest
from tiny import NONE, STAGES, dense, resources

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import Prune

OF_MASKS = sorted(name for name, stage in STAGES.items() if isinstance(stage, Selection) and stage.pattern != "channel")


def zeros(network):
    """Share of pruned weights in every layer that has a mask with zeros."""
    masks = {name: layer.mask for name, layer in weighted_layers(network).items() if layer.mask is not None}
    return {name: float((~mask).float().mean()) for name, mask in masks.items() if not mask.all()}


def pruned(network="residual", **settings):
    return Prune(**{"budget": NONE, "sparsity": 0.5, **settings}).begin(dense(network).network, resources(network)).network


def outputs(network):
    return {name: layer.weight.shape[0] for name, layer in weighted_layers(network).items()}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"left.0.0", "left.1", "down.0"}),
        ({"layers": ("left.*",)}, {"left.0.0", "left.1"}),
        ({"layers": ("left.1", "down.0")}, {"left.1", "down.0"}),
        ({"ignore": ("left.*",)}, {"down.0"}),
        ({"layers": ("left.*",), "ignore": ("*.1",)}, {"left.0.0"}),
        ({"layers": ("head", "down.0"), "last": True}, {"head", "down.0"}),
        ({"ignore": ("down.0",), "first": True}, {"stem.0", "left.0.0", "left.1"}),
    ],
)
def test_only_selected_layers_are_pruned_and_the_sparsity_is_theirs(settings, expected):
    network = pruned(allocation="uniform", **settings)
    assert zeros(network) == dict.fromkeys(expected, 0.5)


def test_stages_in_a_row_give_every_layer_its_own_sparsity():
    first = Prune(sparsity=0.25, layers=("left.*",), allocation="uniform", budget=NONE)
    second = Prune(sparsity=0.75, ignore=("left.*",), allocation="uniform", budget=NONE)
    candidate = run_stage(run_stage(dense("residual"), first, resources("residual")), second, resources("residual"))
    assert zeros(candidate.network) == {"left.0.0": 0.25, "left.1": 0.25, "down.0": 0.75}


@pytest.mark.parametrize("name", OF_MASKS)
def test_every_stage_that_makes_masks_leaves_ignored_layers_alone(name):
    stage = dataclasses.replace(STAGES[name], ignore=("down.*",), budget=dataclasses.replace(STAGES[name].budget, epochs=2))
    found = zeros(run_stage(dense("residual"), stage, resources("residual")).network)
    assert found
    assert "down.0" not in found


@pytest.mark.parametrize(
    ("settings", "fewer"),
    [
        ({}, {"stem.0", "left.0.0", "left.1", "down.0"}),
        ({"layers": ("left.0.0",)}, {"left.0.0"}),
        ({"ignore": ("stem.0",)}, {"left.0.0", "down.0"}),
        ({"layers": ("down.*",), "allocation": "sensitivity"}, {"down.0"}),
        ({"ignore": ("stem.0",), "schedule": "cubic"}, {"left.0.0", "down.0"}),
    ],
)
def test_channels_go_only_where_all_layers_that_share_them_are_selected(settings, fewer):
    before = outputs(dense("residual").network)
    stage = Prune(**{"budget": NONE, "sparsity": 0.5, "pattern": "channel", **settings})
    after = outputs(run_stage(dense("residual"), stage, resources("residual")).network)
    assert {name for name in before if after[name] < before[name]} == fewer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": ("lef",)}, "prune: layers names 'lef', but there is no such layer; layers are stem.0, left.0.0"),
        ({"ignore": ("x*",), "pattern": "channel"}, r"prune: ignore names 'x\*', but there is no such layer"),
        ({"ignore": ("*",)}, "prune: layers and ignore select no layer; ignore fewer"),
        ({"layers": ("head",)}, "select only head, which is not pruned by default; select others, or set first, last"),
        ({"layers": ("stem.0",), "pattern": "channel"}, "no channels that can be removed; select left.1 too, which shares"),
        ({"ignore": ("*",), "pattern": "channel"}, "no channels that can be removed; select other layers"),
    ],
)
def test_a_selection_of_nothing_is_refused_before_training(settings, message):
    with pytest.raises(InvalidRecipe, match=message):
        pruned(**settings)


def test_a_recipe_lists_them():
    stage = parse_stage({"stage": "prune", "layers": ["layer3.*"], "ignore": ["layer3.0.*"]}, "stages[0]")
    assert (stage.layers, stage.ignore) == (("layer3.*",), ("layer3.0.*",))
    with pytest.raises(InvalidRecipe, match=r"stages\[0\].layers is 'layer3'"):
        parse_stage({"stage": "prune", "layers": "layer3"}, "stages[0]")
