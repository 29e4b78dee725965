"""The same function in another unit: the same integers and the same classes, from 1e-30 to 1e30."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import NONE, dense, resources

from paretrim.candidate import Candidate
from paretrim.constraints import weighted_layers
from paretrim.errors import TrainingFailed
from paretrim.freeze import freeze
from paretrim.graph.checks import validate
from paretrim.pipeline import run_stage
from paretrim.quantize.stage import Quantize

POWERS = (-100, -67, -30, -10, 10, 30, 67, 100)
"""Units as powers of two, which change no digit of a float: 1e-30 to 1e30."""

DECADES = (-30, -20, -9, 9, 20, 30)

PLACES = ("images", "first layer", "logits")

SETTINGS = {
    "mse": {},
    "minmax": {"calibrator": "minmax", "weight_bits": 4},
    "percentile": {"calibrator": "percentile", "scales": "observed"},
}


def in_unit(unit, place):
    """A network of the same classes whose images, first values or logits are ``unit`` times as large, and its images' unit."""
    network = copy.deepcopy(dense("without_norm").network)
    first, *_, last = weighted_layers(network).values()
    second = list(weighted_layers(network).values())[1]
    with torch.no_grad():
        if place == "images":
            first.weight.div_(unit)
        elif place == "first layer":
            first.weight.mul_(unit)
            first.bias.mul_(unit)
            second.weight.div_(unit)
        else:
            last.weight.mul_(unit)
            last.bias.mul_(unit)
    return network, unit if place == "images" else 1.0


def data_in_unit(unit):
    """What stages get, with images ``unit`` times as large."""
    usual = resources("without_norm")

    def larger(batches):
        return replace(batches, std=tuple(deviation / unit for deviation in batches.std))

    return replace(
        usual,
        train=lambda size: larger(usual.train(size)),
        validation=larger(usual.validation),
        calibration=usual.calibration * unit,
        teacher=None,
    )


def quantized(unit, place, stage):
    network, images = in_unit(unit, place)
    done = run_stage(Candidate(network), stage, data_in_unit(images))
    graph = freeze(done.network)
    validate(graph)
    return graph, done.history[-1].accuracy_after


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", SETTINGS)
def test_post_training_quantization_gives_the_same_integers_in_every_unit(kind, place):
    stage = Quantize(budget=NONE, **SETTINGS[kind])
    expected, accuracy = quantized(1.0, place, stage)
    for power in POWERS:
        found, same_accuracy = quantized(2.0**power, place, stage)
        assert same_accuracy == accuracy
        for one, other in zip(found.nodes, expected.nodes, strict=True):
            for name in one.tensors.keys() - {"weight_scale"}:
                np.testing.assert_array_equal(one.tensors[name], other.tensors[name], err_msg=f"2**{power} {one.name} {name}")
            # Plain grids of everything else: what is in another unit is so by that power of two, and nothing else moved.
            ratio = one.type.scale / other.type.scale
            assert np.frexp(ratio)[0] == 0.5
            assert one.type.zero_point == other.type.zero_point


@pytest.mark.parametrize("place", PLACES)
def test_units_that_are_no_powers_of_two_give_the_same_accuracy(place):
    stage = Quantize(budget=NONE)
    _, accuracy = quantized(1.0, place, stage)
    assert {quantized(10.0**decade, place, stage)[1] for decade in DECADES} == {accuracy}


@pytest.mark.parametrize("power", [-30, -10, 10, 30])
def test_the_price_of_bits_follows_the_unit(power):
    stage = Quantize(budget=NONE, rate=0.02)
    expected, _ = quantized(1.0, "first layer", stage)
    found, _ = quantized(2.0**power, "first layer", stage)
    for one, other in zip(found.nodes, expected.nodes, strict=True):
        if "weight" in one.tensors:
            np.testing.assert_array_equal(one.tensors["weight"], other.tensors["weight"])


@pytest.mark.parametrize("power", [-100, 100])
def test_a_price_that_float32_does_not_hold_is_refused(power):
    match = "layer '[03]': its weights reach .*, and what a bit is worth in squares of them leaves float32; rescale the weights"
    with pytest.raises(TrainingFailed, match=match):
        quantized(2.0**power, "first layer", Quantize(budget=NONE, rate=0.02))


@pytest.mark.parametrize(
    ("unit", "place", "match"),
    [
        (1e-38, "images", r"the value 'images' \(layer 'images'\) lies in .*, where float32 has no room for steps; rescale"),
        (1e38, "first layer", r"the value '.*' is not finite on calibration images; check the weights and the normalisation"),
        (1e-37, "first layer", r"the value '1.relu' \(layer '1'\) lies in .*, where float32 has no room for steps; rescale"),
        (1e-40, "logits", r"layer '8': its weights reach .*, where float32 has no room for steps; rescale them so that they"),
    ],
)
def test_units_that_float32_does_not_hold_are_refused_by_name(unit, place, match):
    with pytest.raises(TrainingFailed, match=match):
        quantized(unit, place, Quantize(budget=NONE))
