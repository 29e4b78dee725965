"""Layers with number formats of their own: from the recipe to the file and back."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from tiny import SHORT, dense, resources, same, start, state

from paretrim import trimfile
from paretrim.errors import InvalidRecipe
from paretrim.graph.groups import SIZES
from paretrim.graph.interpreter import run
from paretrim.graph.operations.table import WEIGHTED
from paretrim.network.constraints import weighted_layers
from paretrim.network.formats import WEIGHT_GRIDS
from paretrim.network.freeze import freeze
from paretrim.network.grids import WeightSettings
from paretrim.network.thaw import thaw
from paretrim.run.candidate import load_candidate, save_candidate
from paretrim.run.pipeline import run_stage, run_stages
from paretrim.run.recipe import parse_stage, stage_settings
from paretrim.runtime import plan
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.layer_formats import Format, Group, formats_of
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

NAMES = ("stem", "layer1.0", "layer1.1", "layer2.0", "fc")
MIXED = {"left.*": Format(bits=4), "down.0": Format(grid="ternary"), "left.1": Format(bits=3)}


def largest(graph):
    return {node.name: int(np.abs(node.tensors["weight"].astype(int)).max()) for node in graph.nodes if node.op in WEIGHTED}


def test_names_precede_patterns_and_longer_patterns_shorter_ones():
    wanted = {"layer*": Format(bits=4), "layer1.*": Format(bits=3), "layer1.1": Format(grid="ternary")}
    found = formats_of(NAMES, wanted, Format())
    assert [found[name].width(7) for name in NAMES] == [7, 3, 2, 4, 7]
    assert found["layer1.1"].grid == "ternary"
    assert formats_of(NAMES, {"layer[1]*": Format(bits=2), "layer[12]*": Format(bits=3)}, Format())["layer1.0"].bits == 3


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"layer3.*": Format()}, r"formats names 'layer3\.\*', but there is no such layer; layers are stem, layer1.0, .*, fc$"),
        (
            {"*.0": Format(bits=3), "?*0": Format(bits=4)},
            r"layer 'layer1.0' matches '.*' and '.*' of formats, which differ",
        ),
    ],
)
def test_patterns_without_a_match_or_in_conflict_are_refused(wanted, match):
    with pytest.raises(InvalidRecipe, match=match):
        formats_of(NAMES, wanted, Format())


def test_the_most_similar_layer_names_are_listed():
    names = tuple(f"layer{number}" for number in range(1, 21))
    with pytest.raises(
        InvalidRecipe, match=r"there is no such layer; the network has 20 layers, among them layer20, layer\d+, layer\d+$"
    ):
        formats_of(names, {"laier20": Format()}, Format())


def test_mixed_formats_ship_as_trained_and_are_restored(tmp_path):
    stage = Quantize(formats=MIXED, budget=SHORT)
    found = run_stage(dense("residual"), stage, resources("residual"))
    graph = freeze(found.network)
    tops = largest(graph)
    layers = weighted_layers(found.network)
    assert {name: layer.quantizer.bits for name, layer in layers.items()} == {
        name: {"down.0": 2, "left.1": 3}.get(name, 4 if name.startswith("left") else 8) for name in layers
    }
    assert all(tops[name] <= 2 ** (layer.quantizer.bits - 1) - 1 for name, layer in layers.items())
    assert max(tops.values()) > 7
    images = resources("residual").calibration[:10].numpy()
    assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()
    assert found.history[-1].bits == 8
    assert found.history[-1].layer_bits == {name: layer.quantizer.bits for name, layer in layers.items()}
    save_candidate(found, tmp_path / "a")
    assert same(state(load_candidate(tmp_path / "a")), state(found))
    assert load_candidate(tmp_path / "a").history == found.history
    trimfile.write(graph, tmp_path / "a.trim", provenance=trimfile.Provenance(history=found.history))
    assert trimfile.open_file(tmp_path / "a.trim").provenance.history[-1].settings["formats"]["left.1"]["bits"] == 3
    assert largest(trimfile.read(tmp_path / "a.trim")) == tops
    assert largest(freeze(load_candidate(tmp_path / "a").network)) == tops
    again = thaw(graph)
    assert largest(freeze(again)) == tops
    assert weighted_layers(again)["down.0"].quantizer.bits == 2


@pytest.mark.parametrize("grid", WEIGHT_GRIDS)
def test_every_grid_ships_as_trained(grid):
    """In a network with a layer of every kind, at the grid's fewest and most bits."""
    widths = WEIGHT_GRIDS[grid].widths
    formats = {"*": Format(grid=grid, bits=widths[0]), "*0": Format(grid=grid, bits=widths[-1])}
    found = run_stage(dense("without_norm"), Quantize(formats=formats, budget=SHORT), resources("without_norm"))
    graph = freeze(found.network)
    layers = weighted_layers(found.network)
    for node in graph.nodes:
        if node.op in WEIGHTED:
            weight = layers[node.name].effective_weight().detach().numpy()
            scale = node.tensors["weight_scale"].reshape(-1, *[1] * (weight.ndim - 1))
            assert (node.tensors["weight"] * scale == weight).all()
    images = resources("without_norm").calibration[:10].numpy()
    assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()


def test_groups_stay_with_their_channels_when_others_are_cut_off():
    """And a group is of one layer's input channels, wherever their producer's channels go."""
    quantized = run_stage(
        dense("residual"), Quantize(formats={"*": Format(grid="grouped", bits=4, group=16)}), resources("residual")
    )
    before = weighted_layers(quantized.network)
    stage = parse_stage({"stage": "prune", "pattern": "channel", "sparsity": 0.4, "budget": {"epochs": 0}}, "stage")
    pruned = run_stage(quantized, stage, resources("residual"))
    after = weighted_layers(pruned.network)
    assert any(layer.quantizer.multiples.shape != before[name].quantizer.multiples.shape for name, layer in after.items())
    for layer in after.values():
        assert layer.quantizer.multiples.shape == layer.weight.shape[:2]
    graph, images = freeze(pruned.network), resources("residual").calibration[:10].numpy()
    assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()


def test_only_grouped_weights_have_a_group():
    with pytest.raises(
        InvalidRecipe,
        match="group is 16, but the grid 'uniform' has no groups, so it would have no effect; set grid to 'grouped', or",
    ):
        Format(group=16)
    with pytest.raises(InvalidRecipe, match="group"):
        parse_stage({"stage": "quantize", "formats": {"*": {"grid": "grouped", "bits": 4, "group": 24}}}, "stage")
    assert Format(grid="grouped", group=64).group == 64
    assert set(get_args(Group)) == set(SIZES)


def test_smaller_groups_round_weights_with_less_error():
    """Where input channels differ in size: the law that groups are there for."""
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, 128)
    errors = []
    for group in (16, 32, 64):
        grid = WEIGHT_GRIDS["grouped"].fitted(weight, WeightSettings(4, "learned", group=group))
        errors.append(float((grid(weight) - weight).detach().square().sum()))
    uniform, whole = (
        WEIGHT_GRIDS[name].fitted(weight, WeightSettings(4, "learned", group=128)) for name in ("uniform", "grouped")
    )
    assert torch.equal(whole(weight), uniform(weight))  # one group is no group
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] <= float((uniform(weight) - weight).detach().square().sum())


def test_powers_of_two_are_fixed_in_portions_and_kept_by_later_stages():
    stage = Quantize(formats={"*": Format(grid="powers", bits=5)}, budget=replace(SHORT, epochs=4), portions=(0.5, 1.0))
    given = resources("residual")
    training = stage.begin(dense("residual").network, given)
    layers = weighted_layers(training.network)
    for progress in (0.0, 0.99):
        stage.advance(training, progress)
        for layer in layers.values():
            assert int((layer.quantizer.fixed != -128).sum()) == round(0.5 * layer.weight.numel())
    stage.advance(training, 1.0)
    assert all(layer.quantizer.fixed is None for layer in layers.values())
    found = run_stage(dense("residual"), stage, given)
    later = run_stage(found, Distill(budget=SHORT), given)
    for name, layer in weighted_layers(found.network).items():
        assert torch.equal(layer.weight, layer.effective_weight())
        assert torch.equal(layer.weight, weighted_layers(later.network)[name].weight)
        assert not torch.equal(layer.weight, layers[name].weight)  # what was free has trained


@pytest.mark.parametrize("portions", [[0.5, 0.9], [0.9, 0.5, 1.0], []])
def test_portions_that_do_not_end_in_all_are_refused(portions):
    with pytest.raises(InvalidRecipe, match=r"portions are \[.*\]; give shares in ascending order, the last of them 1.0"):
        parse_stage({"stage": "quantize", "portions": portions}, "stage")


def test_fewer_bits_make_a_smaller_file(tmp_path):
    sizes = {}
    for bits in (8, 4, 2):
        network = Quantize(formats={"*": Format(bits=bits)}, budget=Budget(epochs=0)).begin(
            dense("residual").network, resources("residual")
        )
        trimfile.write(freeze(network.network), tmp_path / f"{bits}.trim")
        sizes[bits] = (tmp_path / f"{bits}.trim").stat().st_size
    assert sizes[8] > sizes[4] > sizes[2]


def test_formats_come_with_stages_before_and_after_and_survive_a_recipe(tmp_path):
    stage = Quantize(formats=MIXED, budget=SHORT)
    assert parse_stage(stage_settings(stage), "stage") == stage
    written = {"stage": "quantize", "formats": {"left.*": {"bits": 4}, "down.0": {"grid": "ternary"}}}
    assert parse_stage(written, "stage").formats["down.0"] == Format(grid="ternary")
    assert "formats" not in stage_settings(Quantize())
    chain = (
        Prune(sparsity=0.5, pattern="channel", budget=SHORT),
        stage,
        Prune(sparsity=0.6, budget=SHORT),
        Distill(budget=SHORT),
    )
    last = run_stages(start("residual"), chain, tmp_path)[-1]
    assert last.integers is not None
    assert weighted_layers(last.network)["down.0"].quantizer.bits == 2
    with pytest.raises(InvalidRecipe, match="bits"):
        parse_stage({"stage": "quantize", "formats": {"left.*": {"bits": 9}}}, "stage")


def test_a_price_of_bits_leaves_ternary_layers_alone():
    stage = Quantize(formats={"down.0": Format(grid="ternary")}, rate=0.01, budget=SHORT)
    found = run_stage(dense("residual"), stage, resources("residual"))
    layers = weighted_layers(found.network)
    assert layers["down.0"].quantizer.bits == 2
    assert layers["left.0.0"].quantizer.price is not None
    assert torch.isfinite(layers["left.0.0"].weight).all()


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (
            {"grid": "octal"},
            r"stage: formats: grid is 'octal'; known grids are uniform, ternary, dorefa, codebook, powers, clip-q, "
            r"trained-ternary, grouped, float16, bfloat16, float32; for your own write 'package.module:Class'",
        ),
        ({"grid": "ternary", "bits": 3}, r"formats: bits is 3; for the grid 'ternary' it must be 2"),
        ({"bits": 9}, r"stage.formats.fc.bits is 9"),
        ({"bit": 4}, r"stage.formats.fc.bit: there is no such key; did you mean 'bits'"),
    ],
)
def test_formats_that_do_not_exist_are_refused(table, match):
    with pytest.raises(InvalidRecipe, match=match):
        parse_stage({"stage": "quantize", "formats": {"fc": table}}, "stage")


def test_grids_of_activations_that_do_not_exist_are_refused():
    with pytest.raises(InvalidRecipe, match="activations is 'octal'; known grids are uniform, clipped, offset"):
        parse_stage({"stage": "quantize", "activations": "octal"}, "stage")


def test_the_width_of_a_grid_follows_the_stage_unless_it_is_given():
    assert [Format().width(7), Format(bits=8).width(7), Format(grid="ternary").width(7)] == [7, 8, 2]


def test_clipped_activations_ship_as_trained_and_are_restored(tmp_path):
    stage = Quantize(activations="clipped", budget=SHORT)
    begun = stage.begin(dense("residual").network, resources("residual")).network
    found = run_stage(dense("residual"), stage, resources("residual"))
    before = {name: grid.grid().scale for name, grid in begun.quantizers().items()}
    after = {name: grid.grid().scale for name, grid in found.network.quantizers().items()}
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    graph, images = freeze(found.network), resources("residual").calibration[:10].numpy()
    assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()
    save_candidate(found, tmp_path / "a")
    assert same(state(load_candidate(tmp_path / "a")), state(found))
    assert "activations" not in stage_settings(Quantize())
    assert parse_stage(stage_settings(stage), "stage") == stage


def test_layers_that_have_all_the_same_bits_are_not_listed():
    found = run_stage(dense("residual"), Quantize(weight_bits=4, budget=Budget(epochs=0)), resources("residual"))
    assert (found.history[-1].bits, found.history[-1].layer_bits) == (4, None)
    assert "layer_bits" not in found.history[-1].facts()
