"""Rows of few weights are rounded by the error of their outputs where nothing trains."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from tiny import NONE, dense, resources

from paretrim.graph.fusion import fuse
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.plain_steps import choose_plain_steps_
from paretrim.stages.layer_inputs import as_columns
from paretrim.stages.prune.surgeon import damped
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.rounding_errors import SHORT, correct_rounding_, typical_inputs
from paretrim.stages.quantize.stage import Quantize


def with_weight_grids(name, bits=4):
    """A network whose weights have their calibrated grids, the same in float, and its calibration images."""
    reference = copy.deepcopy(dense(name).network)
    quantized = Quantize(budget=replace(NONE, epochs=1), weight_bits=bits).begin(reference, resources(name)).network
    quantized.grids.clear()
    choose_plain_steps_(quantized)
    return quantized, reference, resources(name).calibration


def errors(network, reference, inputs):
    """By layer with short rows, the squared error of its outputs about their mean, damped as in the search, [Co]."""
    layers, exact = weighted_layers(network), weighted_layers(reference)
    found = {}
    for name, given in inputs.items():
        if given.squares is not None:
            change = layers[name].effective_weight() - exact[name].effective_weight()
            rows = as_columns(change.detach(), len(given.squares)).double()
            about = torch.stack([damped(square) for square in given.squares])
            found[name] = ((rows @ about) * rows).sum(2).flatten()
    return found


@pytest.mark.parametrize(("name", "short"), [("depthwise", 2), ("plain", 1), ("residual", 1), ("without_norm", 1)])
@pytest.mark.parametrize("bits", [4, 8])
def test_short_rows_have_a_smaller_error_of_their_outputs_than_rounded_to_nearest(name, short, bits):
    network, reference, images = with_weight_grids(name, bits)
    inputs = typical_inputs(reference, images)
    before = errors(network, reference, inputs)
    correct_rounding_(network, inputs)
    after = errors(network, reference, inputs)
    assert len(before) == short
    for layer, error in before.items():
        assert (after[layer] <= 1.0001 * error).all(), layer
        assert float(after[layer].sum()) < 0.9 * float(error.sum()), layer


def test_long_rows_keep_their_integers():
    network, reference, images = with_weight_grids("depthwise")
    before = {name: layer.effective_weight() for name, layer in weighted_layers(network).items()}
    correct_rounding_(network, typical_inputs(reference, images))
    changed = {
        name for name, layer in weighted_layers(network).items() if not torch.equal(layer.effective_weight(), before[name])
    }
    assert changed == {name for name, layer in weighted_layers(reference).items() if layer.weight[0].numel() <= SHORT}


def test_the_stage_without_training_rounds_short_rows_and_with_training_does_not():
    network, reference, images = with_weight_grids("depthwise")
    correct_rounding_(network, typical_inputs(reference, images))
    alone = Quantize(budget=NONE, weight_bits=4).begin(reference, resources("depthwise")).network
    trained = Quantize(budget=replace(NONE, epochs=1), weight_bits=4).begin(reference, resources("depthwise")).network
    for name, layer in weighted_layers(network).items():
        assert torch.equal(layer.effective_weight(), weighted_layers(alone)[name].effective_weight()), name
    assert any(
        not torch.equal(layer.effective_weight(), weighted_layers(trained)[name].effective_weight())
        for name, layer in weighted_layers(network).items()
    )


def test_second_moments_are_those_of_the_inputs():
    """Against a sum over positions of a depthwise layer, written out."""
    network, images = dense("depthwise").network, resources("depthwise").calibration[:20]
    name = next(name for name, layer in weighted_layers(network).items() if layer.weight.shape[1:] == (1, 3, 3))
    source = next(run.head.inputs[0] for run in fuse(network.structure) if run.head.name == name)
    with torch.no_grad():
        values = network.eval().features(images, (source,))[source]
    padded = torch.nn.functional.pad(values, (1, 1, 1, 1)).double()
    side = values.shape[2]
    columns = [padded[:, :, y : y + side, x : x + side] for y, x in itertools.product(range(3), range(3))]
    rows = torch.stack(columns).permute(2, 0, 1, 3, 4).flatten(2)
    about = rows - rows.mean(2, keepdim=True)
    expected = about @ about.transpose(1, 2) / rows.shape[2]
    found = typical_inputs(network, images)[name]
    assert found.squares is not None
    assert torch.allclose(found.squares, expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.mean, values.mean(0, keepdim=True), atol=1e-5)


def test_pruned_weights_of_short_rows_stay_zero():
    reference = copy.deepcopy(dense("depthwise").network)
    for layer in weighted_layers(reference).values():
        mask = torch.ones_like(layer.weight, dtype=torch.bool)
        mask.view(-1)[::3] = False
        set_mask_(layer, mask)
    network = Quantize(budget=NONE, weight_bits=4).begin(reference, resources("depthwise")).network
    for layer in weighted_layers(network).values():
        assert layer.mask is not None
        assert not layer.effective_weight()[~layer.mask].any()


@pytest.mark.parametrize("settings", [{"formats": {"*": Format(grid="codebook", bits=4)}}, {"rate": 0.001}])
def test_other_grids_and_bits_with_a_price_are_left_alone(settings):
    given = resources("depthwise")
    alone = Quantize(budget=NONE, **settings).begin(dense("depthwise").network, given).network
    kept = Quantize(budget=replace(NONE, epochs=1), **settings).begin(dense("depthwise").network, given).network
    for name, layer in weighted_layers(alone).items():
        grid = layer.quantizer
        assert type(grid) is type(weighted_layers(kept)[name].quantizer)
        assert torch.equal(layer.weight, weighted_layers(kept)[name].weight), name
