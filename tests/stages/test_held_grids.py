"""Quantizing a network whose weights lie on their grids already."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import NONE, SHORT, dense, resources

from paretrim.network.constraints import weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize.held_grids import take_grids_
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize


def weights(network):
    """The weights that every layer computes with."""
    return {name: layer.effective_weight().detach() for name, layer in weighted_layers(network).items()}


def rounded(name="residual", **settings):
    """A network whose weights were rounded with compensation, and its resources."""
    given = resources(name)
    return Quantize(budget=NONE, adjust=("gptq",), **settings).begin(dense(name).network, given).network, given


@pytest.mark.parametrize("name", ["residual", "depthwise"])
@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_with_compensation_outlasts_quantizing_again(name, bits):
    network, given = rounded(name, weight_bits=bits)
    second = Quantize(budget=NONE, weight_bits=bits, calibrator="minmax")
    again = second.begin(network, given).network
    before, after = weights(network), weights(again)
    assert all(torch.equal(after[layer], before[layer]) for layer in before)
    forgotten = copy.deepcopy(network)  # the same weights, but nobody knows their steps
    take_grids_(forgotten)
    other = weights(replace(second, budget=replace(NONE, epochs=1)).begin(forgotten, given).network)
    assert any(not torch.equal(other[layer], before[layer]) for layer in before)


@pytest.mark.parametrize(("first", "second"), [("learned", "observed"), ("observed", "learned"), ("observed", "observed")])
def test_steps_are_kept_however_they_are_found_later(first, second):
    network, given = rounded(scales=first)
    again = Quantize(budget=NONE, scales=second).begin(network, given).network
    for name, layer in weighted_layers(again).items():
        assert layer.quantizer.scales == second
        torch.testing.assert_close(layer.effective_weight(), weights(network)[name], rtol=1e-5, atol=0)


def test_training_begins_on_the_steps_that_the_weights_lie_on():
    network, given = rounded(weight_bits=4)
    before, begun = weights(network), Quantize(budget=SHORT, weight_bits=4).begin(network, given).network
    assert all(torch.equal(weights(begun)[name], before[name]) for name in before)


@pytest.mark.parametrize(
    "settings", [{"weight_bits": 5}, {"formats": {"*": Format(grid="codebook", bits=4)}}, {"rate": 0.001}], ids=str
)
def test_other_widths_grids_and_bits_with_a_price_are_found_anew(settings):
    network, given = rounded(weight_bits=4)
    second = Quantize(budget=replace(NONE, epochs=1), **settings)
    float_weights = copy.deepcopy(network)
    take_grids_(float_weights)
    found, expected = (weights(second.begin(start, given).network) for start in (network, float_weights))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_that_moved_off_their_grid_do_not_keep_it():
    trained = run_stage(dense("residual"), FineTune(budget=SHORT), resources("residual")).network
    once = Quantize(budget=NONE).begin(trained, resources("residual")).network
    layer = weighted_layers(once)["conv1"] if "conv1" in weighted_layers(once) else next(iter(weighted_layers(once).values()))
    with torch.no_grad():
        layer.weight.view(-1)[layer.weight.abs().argmax()] *= 0.9
    assert not any(grid is layer.quantizer for grid in take_grids_(once).values())


def test_only_layers_that_lie_on_their_grid_are_held():
    network, _ = rounded()
    of_layers = {name: layer.quantizer for name, layer in weighted_layers(network).items()}
    held = take_grids_(network)
    assert held == of_layers
    assert all(layer.quantizer is None for layer in weighted_layers(network).values())
