"""The same function in another unit: the same integers and the same classes, from 1e-30 to 1e30."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import NETWORKS, NONE, SHORT, dense, network, resources

from paretrim.errors import TrainingFailed, UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.units import units_of

POWERS = (-100, -67, -30, -10, 10, 30, 67, 100)
"""Units as powers of two, which change no digit of a float: 1e-30 to 1e30."""

DECADES = (-30, -20, -9, 9, 20, 30)

PLACES = ("images", "first layer", "logits")

SETTINGS = {
    "mse": {},
    "minmax": {"calibrator": "minmax", "weight_bits": 4},
    "percentile": {"calibrator": "percentile", "scales": "observed"},
}


def in_unit(unit, place, start=None):
    """A network of the same classes whose images, first values or logits are ``unit`` times as large, and its images' unit."""
    network = copy.deepcopy(start or dense("without_norm").network)
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
    return graph, done.history[-1].value_after


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
def test_a_price_outside_float32_is_refused(power):
    match = "layer '[03]': its largest weight is .*, so the price of a bit is outside the range of float32; rescale the weights"
    with pytest.raises(TrainingFailed, match=match):
        quantized(2.0**power, "first layer", Quantize(budget=NONE, rate=0.02))


@pytest.mark.parametrize(
    ("unit", "place", "match"),
    [
        (1e-38, "images", r"the value 'images' \(layer 'images'\) ranges over .*, too small for steps in float32; rescale"),
        (1e38, "first layer", r"the value '.*' is not finite on calibration images; check the weights and the normalisation"),
        (1e-37, "first layer", r"the value '1.relu' \(layer '1'\) ranges over .*, too small for steps in float32; rescale"),
        (
            1e-40,
            "logits",
            r"layer '8': its largest weight is .*, too small for steps in float32; rescale its weights to at least",
        ),
    ],
)
def test_units_outside_float32_are_refused_by_name(unit, place, match):
    with pytest.raises(TrainingFailed, match=match):
        quantized(unit, place, Quantize(budget=NONE))


TRAINED = {
    "sgd": Quantize(budget=SHORT),
    "adamw": Quantize(budget=replace(SHORT, optimizer="adamw", learning_rate=0.01, clip_norm=1.0), scales="observed"),
}
WHOLE = (-100, -12, 12, 100)
"""Multiples of the grain of units."""


def assert_same_integers(found, expected):
    for one, other in zip(found.nodes, expected.nodes, strict=True):
        for name in one.tensors.keys() - {"weight_scale"}:
            np.testing.assert_array_equal(one.tensors[name], other.tensors[name], err_msg=f"{one.name} {name}")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", TRAINED)
def test_training_gives_the_same_integers_in_every_unit(kind, place):
    expected, accuracy = quantized(1.0, place, TRAINED[kind])
    untrained, _ = quantized(1.0, place, replace(TRAINED[kind], budget=NONE))
    assert any((one.tensors["weight"] != other.tensors["weight"]).any() for one, other in weighted_nodes(expected, untrained))
    for power in WHOLE:
        found, same_accuracy = quantized(2.0**power, place, TRAINED[kind])
        assert same_accuracy == accuracy
        assert_same_integers(found, expected)


def weighted_nodes(*graphs):
    return [nodes for nodes in zip(*(graph.nodes for graph in graphs), strict=True) if "weight" in nodes[0].tensors]


@pytest.mark.parametrize("place", ["images", "first layer"])
@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1e-5, 1e-3, 1e-2, 0.05, 6.0, 11.3, 20.0, 1e2, 1e3, 1e5, 1e9, 1e30])
def test_training_keeps_the_accuracy_in_units_that_are_no_powers_of_two(unit, place):
    _, accuracy = quantized(1.0, place, TRAINED["sgd"])
    assert quantized(unit, place, TRAINED["sgd"])[1] >= accuracy - 0.02


@pytest.mark.parametrize("power", [-12, 12])
def test_training_with_a_price_of_bits_follows_the_unit(power):
    stage = Quantize(budget=SHORT, rate=0.02)
    assert_same_integers(quantized(2.0**power, "first layer", stage)[0], quantized(1.0, "first layer", stage)[0])


def with_norm_in_unit(unit):
    """The network ``plain`` with what its first convolution gives, and then its first BatchNorm, ``unit`` times as large."""
    graph = dense("plain").network.graph()
    nodes = list(graph.nodes)
    first, second, *_ = (index for index, node in enumerate(nodes) if node.op == "conv2d")
    assert nodes[first + 1].op == "batch_norm"
    norm = nodes[first + 1]
    factors = {"gamma": unit, "beta": unit, "mean": unit, "variance": unit**2}
    tensors = {name: tensor * np.float32(factors[name]) for name, tensor in norm.tensors.items()}
    nodes[first] = replace(nodes[first], tensors={"weight": nodes[first].tensors["weight"] * np.float32(unit)})
    attributes = {**norm.attributes, "epsilon": norm.attributes["epsilon"] * unit**2}
    nodes[first + 1] = replace(norm, tensors=tensors, attributes=attributes)
    nodes[second] = replace(nodes[second], tensors={"weight": nodes[second].tensors["weight"] / np.float32(unit)})
    return Network(replace(graph, nodes=tuple(nodes)))


@pytest.mark.parametrize("power", [-40, -12, 12, 40])
def test_training_follows_the_unit_of_a_batch_norm(power):
    def trained(unit):
        return freeze(run_stage(Candidate(with_norm_in_unit(unit)), TRAINED["sgd"], resources("plain")).network)

    assert_same_integers(trained(2.0**power), trained(1.0))


FLOAT = {
    "finetune": FineTune(budget=replace(SHORT, epochs=8, batch_size=24)),
    "prune": Prune(budget=SHORT, sparsity=0.5, allocation="uniform"),
    "distill": Distill(budget=replace(SHORT, learning_rate=0.005)),
}


@pytest.mark.parametrize("power", [-100, 100])
@pytest.mark.parametrize("kind", FLOAT)
def test_a_network_learns_the_same_in_every_unit(kind, power):
    begin = network("without_norm") if kind == "finetune" else dense("without_norm").network
    unit, data = 2.0**power, resources("without_norm")
    expected = run_stage(Candidate(begin), FLOAT[kind], data)
    found = run_stage(Candidate(in_unit(unit, "first layer", begin)[0]), FLOAT[kind], data)
    assert found.history[-1].value_after == expected.history[-1].value_after > 0.9
    wanted = in_unit(unit, "first layer", expected.network)[0].state_dict()
    for name, tensor in found.network.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_usual_network_trains_as_it_is(name):
    for usual in (network(name), dense(name).network):
        units = units_of(usual, resources(name).calibration)
        assert not units.parameters
        assert units.outputs == (0,)


def test_sizes_at_the_ends_of_what_is_usual():
    images = torch.ones(1, 3, 8, 8)
    for exponent, parameters in ((-7, True), (-6, False), (4, False), (5, True)):
        assert bool(units_of(network("without_norm"), images * 2.0**exponent).parameters) == parameters, exponent


def test_products_of_scales_that_leave_float32_are_refused_before_training():
    begin, _ = in_unit(2.0**-60, "logits")
    first, *others = weighted_layers(begin).values()
    with torch.no_grad():
        for layer in others:
            layer.bias.zero_()
        first.weight *= 2.0**-70
        first.bias *= 2.0**-70
    match = (
        "layer '8': steps of its weights are .* a product or ratio of them leaves float32, so rescale the weights or the images"
    )
    with pytest.raises(UnsupportedOperation, match=match):
        Quantize(budget=SHORT).begin(begin, resources("without_norm"))
