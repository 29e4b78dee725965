"""Float networks in the native runtime: the reference interpreter's numbers, bit for bit, in every instruction set."""

import ctypes
import platform
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Builder, random_graph
from same_bits import assert_same_bits_in_every_set, images_for, odd_conv

from paretrim import trimfile
from paretrim.graph import functions, interpreter, windows
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.graph.windows import Windows
from paretrim.runtime import instruction_sets, plan
from paretrim.runtime.compiled import native

SETS = instruction_sets()
TRANSCENDENTAL = {*functions.PLAIN, *functions.WITH_CONSTANT} - functions.EXACT
"""Functions that another mathematics library may round to the neighbouring float32."""


def assert_same_bits(session, graph, images):
    for found, expected in zip(session.outputs(images), interpreter.run_outputs(graph, images), strict=True):
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def exact_graph(seed, *, pixels=True, heads=1):
    """A float graph without functions whose last bit is a mathematics library's."""
    while True:
        graph, images = random_graph(seed, quantized=False, blocks=4, pixels=pixels, heads=heads)
        if TRANSCENDENTAL.isdisjoint(node.attributes.get("function") for node in graph.nodes):
            return graph, images
        seed += 2**31


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.booleans(), st.integers(1, 3))
def test_random_float_graphs(seed, pixels, heads):
    graph, images = exact_graph(seed, pixels=pixels, heads=heads)
    assert_same_bits_in_every_set(graph, np.concatenate([images, images_for(graph, seed, 3)]), measure=False)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 3), st.booleans())
def test_odd_convolutions_on_several_threads(seed, threads, measure):
    rng = np.random.default_rng(seed)
    shape = tuple(int(extent) for extent in rng.integers(1, 20, 3))
    b = Builder(rng, quantized=False, shape=shape, pixels=bool(rng.random() < 0.5), count=2)
    x = b.conv(b.start(), int(rng.integers(1, 70)), kernel=int(rng.choice([1, 3])))
    for _ in range(3):
        x = odd_conv(b, x)
    x = b.simple("add", [x, b.conv(x, b.types[x].shape[0])])
    flat = b.simple("flatten", [b.simple("clamp", [x], {"minimum": -1.5, "maximum": 2.0})])
    logits = b.linear(b.linear(flat, int(rng.integers(1, 200)), relu=True), 7)
    graph = b.graph(logits, x)
    images, measured = images_for(graph, seed, 5), measure and seed % 8 == 0
    assert_same_bits_in_every_set(graph, images, counts=(1, threads, 5), threads=threads, measure=measured)


@pytest.mark.parametrize("function", sorted(TRANSCENDENTAL))
def test_functions_of_a_mathematics_library_differ_by_a_last_bit_at_most(function):
    b = Builder(np.random.default_rng(5), quantized=False, pixels=False, shape=(2, 30, 30), count=2)
    graph = b.graph(b.pointwise(INPUT, function), b.simple("relu", [INPUT]))
    found, _ = plan(graph, measure=False).outputs(b.images)
    expected, _ = interpreter.run_outputs(graph, b.images)
    np.testing.assert_array_max_ulp(found, expected, maxulp=1)
    assert (found == expected).mean() > 0.999


def one_sum(values, weights, total=0.5):
    total = np.float32(total)
    for value, weight in zip(values, weights, strict=True):
        total = nearest(Fraction(float(total)) + Fraction(float(value)) * Fraction(float(weight)))
    return total


def nearest(exact):
    """The float32 nearest to a fraction, an even one of two."""
    near = np.float32(float(exact))
    around = (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf)))
    return min(around, key=lambda one: (abs(Fraction(float(one)) - exact), int(one.view(np.uint32)) & 1))


def test_product_and_sum_are_rounded_once():
    """Where rounding to float64 in between would end half-way between two float32, and where float32 is subnormal."""
    rng = np.random.default_rng(0)
    bias = np.float32([1 + 2**-23, 1, -1 - 2**-23, 2**-130, 3 * 2**-149, *(2.0**-140 * rng.normal(0, 1, 400))])
    weight = np.float32([1 + 2**-23, 1 + 2**-23, -1 - 2**-23, 2**-80, 2**-75, *(2.0**-70 * rng.normal(0, 1, 400))])
    images = np.float32([2**-24 * (1 - 2**-23), 2**-70 * (1 + 2**-20), 2**-74]).reshape(3, 1, 1, 1)
    flat = Node("flat", "flatten", (INPUT,), ValueType((1,)))
    tensors = {"weight": weight[:, None], "bias": bias}
    layer = Node("y", "linear", ("flat",), ValueType((len(bias),)), {}, tensors)
    graph = Graph(InputSpec((1, 1, 1)), (flat, layer), ("y",))
    expected = [[one_sum([image], [w], b) for w, b in zip(weight, bias, strict=True)] for image in images.ravel()]
    np.testing.assert_array_equal(interpreter.run(graph, images), expected)
    assert (np.float32(images.ravel()[:, None].astype(float) * weight + bias) != expected).any()  # what two roundings give
    for instruction_set in SETS:
        assert_same_bits(plan(graph, instruction_set=instruction_set, measure=False), graph, images)


@pytest.mark.parametrize(("gathered", "summed"), [(2**18, 2**14), (1, 2**14), (2 * 2 * 6 * 16, 2**14), (1, 1)])
def test_a_sum_is_formed_by_channels_then_rows_then_columns(gathered, summed, monkeypatch):
    """However many inputs are gathered, and sums formed, at once: all, those of one input channel, or of two of three."""
    monkeypatch.setattr(windows, "SEEN_AT_ONCE", gathered)
    monkeypatch.setattr(windows, "SUMMED_AT_ONCE", summed)
    rng = np.random.default_rng(3)
    images = rng.normal(0, 1, (2, 6, 5, 4)).astype(np.float32)
    weight = rng.normal(0, 1, (4, 3, 2, 3)).astype(np.float32)
    sliding = Windows((2, 3), (1, 1), (0, 0, 0, 0))
    found = windows.sum_in_order(images, weight, np.full(4, 0.5, np.float32), sliding, groups=2)
    assert found.shape == (2, 4, 4, 2)
    for image, output, y, x in np.ndindex(found.shape):
        seen = images[image, output // 2 * 3 :][:3, y : y + 2, x : x + 3]
        assert found[image, output, y, x] == one_sum(seen.ravel(), weight[output].ravel())
    backwards = [one_sum(images[i, :3, :2, :3].ravel()[::-1], weight[o].ravel()[::-1]) for i in (0, 1) for o in (0, 1)]
    assert backwards != found[:, :2, 0, 0].ravel().tolist()  # another order gives other numbers


@pytest.mark.parametrize("unit", [1.0, 2.0**-60, 2.0**-64])
def test_every_step_of_a_long_sum_is_rounded_once(unit):
    """Many sums lie so near half-way between two float32 that float64 sees no difference; with the last unit, subnormal ones."""
    rng = np.random.default_rng(1)
    near = np.float64([1 + 2**-23, 1 - 2**-23])
    images = np.float32(unit * 2.0 ** rng.integers(-12, -8, (1, 40, 2, 2)) * rng.choice(near, (1, 40, 2, 2)))
    weight = np.float32(unit * 2.0**-12 * rng.choice([*near, *-near], (3, 40, 1, 1)))
    start = np.float32(unit * unit * rng.uniform(1, 1.5, 3))
    found = windows.sum_in_order(images, weight, start, Windows((1, 1), (1, 1), (0, 0, 0, 0)), groups=1)
    twice = np.empty_like(found)
    for output, y, x in np.ndindex(found.shape[1:]):
        numbers, factors = images[0, :, y, x], weight[output].ravel()
        assert found[0, output, y, x] == one_sum(numbers, factors, start[output])
        total = start[output]
        for number, factor in zip(numbers, factors, strict=True):
            total = np.float32(float(total) + float(number) * float(factor))
        twice[0, output, y, x] = total
    assert (twice != found).any()  # what two roundings give


def test_a_subnormal_sum_is_rounded_once():
    """Alone, so that no sum of another size gives a reason for care: just below half-way, which float64 takes for half-way."""
    image, weight, start = np.float32([2.0**-75 * (1 - 2**-23), 2.0**-75 * (1 + 2**-23), 2.0**-127 + 2.0**-149]).reshape(3, 1)
    one = Windows((1, 1), (1, 1), (0, 0, 0, 0))
    found = windows.sum_in_order(image.reshape(1, 1, 1, 1), weight.reshape(1, 1, 1, 1), start, one, groups=1)
    assert found.item() == one_sum(image, weight, start[0]) == start[0]
    assert np.float32(float(start[0]) + float(image[0]) * float(weight[0])) != start[0]  # what two roundings give


def test_a_sum_that_ends_in_zero_has_no_sign():
    tensors = {"weight": np.array([[1.0], [-1.0], [0.0]], np.float32), "bias": np.array([-0.0, -0.0, -0.0], np.float32)}
    flat = Node("flat", "flatten", (INPUT,), ValueType((1,)))
    graph = Graph(InputSpec((1, 1, 1)), (flat, Node("y", "linear", ("flat",), ValueType((3,)), {}, tensors)), ("y",))
    images = np.array([-0.0, 0.0, 1e-40, -1e-40], np.float32).reshape(4, 1, 1, 1)
    for instruction_set in SETS:
        session = plan(graph, instruction_set=instruction_set, measure=False)
        assert_same_bits(session, graph, images)
        assert not np.signbit(session(images)[:2]).any()


def test_zeros_of_weights_are_skipped():
    rng = np.random.default_rng(0)
    b = Builder(rng, quantized=False, pixels=False, shape=(16, 12, 12), count=2)
    x = b.conv(b.start(), 32)
    dense = b.graph(b.linear(b.simple("flatten", [x]), 5), b.simple("relu", [x]))
    weight = dense.nodes[0].tensors["weight"]
    weight[rng.random(weight.shape) < 0.9] = 0
    session = plan(dense, measure=False)
    report = next(layer for layer in session.network.layers if layer.weights)
    assert report.zeros == (weight == 0).sum() >= 0.85 * weight.size
    assert report.issued_multiply_adds < 0.7 * report.multiply_adds
    assert_same_bits(session, dense, b.images)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("extent", "stride", "read"), [(1, 1, 1), (2, 2, 4), (2, 1, 9)])
def test_weights_that_only_meet_padding_are_not_multiplied(quantized, extent, stride, read):
    """A 3 x 3 window on small maps, with one pixel of padding: so many of its nine positions ever see the map."""
    b = Builder(np.random.default_rng(0), quantized=quantized, shape=(64, extent, extent), count=2)
    attributes = {"stride": (stride, stride), "padding": (1, 1, 1, 1)}
    x = b.weighted("conv2d", b.start(), (64, 64, 3, 3), attributes)
    graph = b.graph(b.linear(b.simple("flatten", [x]), 5, logits=True) if quantized else b.linear(b.simple("flatten", [x]), 5))
    session = plan(graph, measure=False)
    report = next(layer for layer in session.network.layers if layer.weights)
    assert report.useful_multiply_adds <= report.multiply_adds * read / 9
    if (extent, stride) != (2, 1):
        assert report.issued_multiply_adds == 64 * 64 * read
    assert_same_bits_in_every_set(graph, images_for(graph, 0, 5), measure=False)


def test_part_of_a_network_may_be_float():
    """Integers, then floats, then integers again."""
    kind = ValueType((2, 3, 3), "uint8", 0.5, 100)
    tensors = {"weight": np.float32(np.arange(8) - 3).reshape(4, 2, 1, 1)}
    nodes = (
        Node("q", "quantize", (INPUT,), kind),
        Node("real", "dequantize", ("q",), ValueType((2, 3, 3))),
        Node("layer", "conv2d", ("real",), ValueType((4, 3, 3)), {}, tensors),
        Node("again", "quantize", ("layer",), ValueType((4, 3, 3), "uint8", 0.75, 20)),
        Node("pooled", "max_pool", ("again",), ValueType((4, 1, 1), "uint8", 0.75, 20), {"window": (3, 3), "stride": (1, 1)}),
        Node("flat", "flatten", ("pooled",), ValueType((4,), "uint8", 0.75, 20)),
        Node("y", "dequantize", ("flat",), ValueType((4,))),
    )
    graph = Graph(InputSpec((2, 3, 3)), nodes, ("y", "layer"))
    images = np.random.default_rng(1).normal(0, 20, (3, 2, 3, 3)).astype(np.float32)
    for instruction_set in SETS:
        assert_same_bits(plan(graph, instruction_set=instruction_set, measure=False), graph, images)


UPWARDS = {"x86_64": 0x800, "aarch64": 0x400000}
"""The code of rounding upwards in the C library."""


@contextmanager
def rounding_upwards():
    library = ctypes.CDLL("libm.so.6")
    before = library.fegetround()
    assert library.fesetround(UPWARDS[platform.machine()]) == 0
    try:
        yield
    finally:
        library.fesetround(before)


@contextmanager
def subnormals_are_zero():
    assert torch.set_flush_denormal(True), "this CPU cannot"
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("arithmetic", [rounding_upwards, subnormals_are_zero])
@pytest.mark.parametrize("quantized", [False, True])
def test_the_arithmetic_of_the_program_changes_no_bit(arithmetic, quantized):
    """Neither of calls, with one thread or with workers that are started in it, nor of what is computed while planning."""
    b = Builder(np.random.default_rng(0), quantized=quantized, pixels=False, shape=(3, 6, 6), count=2)
    features = b.conv(b.start(), 5)
    outputs = [b.linear(b.simple("flatten", [features]), 4, logits=True)]
    images = b.images
    if not quantized:
        outputs += [features, b.simple("avg_pool", [INPUT], {"window": (2, 2), "stride": (1, 1), "padding": (0, 0, 0, 0)})]
        images = np.concatenate([images, images * np.float32(1e-38)])
    graph = b.graph(*outputs)
    content = trimfile.to_bytes(graph)
    expected = plan(graph, measure=False).outputs(images)
    with arithmetic():
        found = [
            native.plan_trim(content, threads=threads, instruction_set="", measure=False, choices="").run(images)
            for threads in (1, 3)
        ]
    for outputs in found:
        for one, other in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize(("least", "most"), [(2.0, -1.0), (0.5, 0.25)])
def test_where_the_bounds_of_a_clamp_cross_the_upper_one_holds(least, most):
    b = Builder(np.random.default_rng(0), quantized=False, pixels=False, shape=(3, 6, 6), count=2)
    bounds = {"minimum": least, "maximum": most}
    graph = b.graph(b.simple("clamp", [b.conv(b.start(), 5)], bounds), b.simple("clamp", [INPUT], bounds))
    assert all((output == np.float32(most)).all() for output in interpreter.run_outputs(graph, b.images))
    assert_same_bits_in_every_set(graph, b.images, measure=False)
