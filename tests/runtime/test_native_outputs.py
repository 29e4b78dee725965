"""Networks with several outputs in the native runtime: bit for bit the interpreter's, and the error messages."""

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_graphs import Builder, random_graph
from same_bits import assert_same_bits_in_every_set

from paretrim import trimfile
from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.interpreter import run_outputs
from paretrim.graph.operations.table import OPERATIONS, TRAINING_ONLY
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime import load, plan
from paretrim.runtime.compiled import native

GRAPH, IMAGES = random_graph(11, quantized=True, heads=3)


def assert_same_bits(found, expected):
    assert [output.shape for output in found] == [output.shape for output in expected]
    for output, other in zip(found, expected, strict=True):
        assert output.dtype == np.float32
        np.testing.assert_array_equal(output.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_every_output_has_the_bits_of_the_interpreter(seed, pixels, threads):
    graph, images = random_graph(seed, quantized=True, pixels=pixels, heads=2 + seed % 3)
    session = plan(graph, threads=threads, measure=False)
    assert session.output_shapes == graph.output_shapes
    for count in (0, 1, 3, 6):
        batch = np.concatenate([images, images])[:count]
        assert_same_bits(session.outputs(batch), run_outputs(graph, batch))


def test_a_file_of_several_outputs_runs(tmp_path):
    trimfile.write(GRAPH, tmp_path / "three.trim")
    session = load(tmp_path / "three.trim", remember=False)
    assert_same_bits(session.outputs(IMAGES), run_outputs(GRAPH, IMAGES))
    assert session.classes == GRAPH.output_shapes[0][0]
    assert session.class_names == ()
    assert len(session.profile(IMAGES[0], calls=1)) == len(session.network.layers)
    with pytest.raises(
        UnsupportedOperation, match=r"the network has 3 outputs; call outputs\(images\), which returns all of them"
    ):
        session(IMAGES)


def test_the_order_of_outputs_is_the_graphs():
    turned = replace(GRAPH, outputs=GRAPH.outputs[::-1])
    assert_same_bits(plan(turned, measure=False).outputs(IMAGES), run_outputs(GRAPH, IMAGES)[::-1])


def vectors(*nodes, outputs):
    """Two numbers on a grid, and what is made of them."""
    kind = ValueType((2, 1, 1), "uint8", 0.5, 10)
    flat = Node("flat", "flatten", ("q",), replace(kind, shape=(2,)))
    return Graph(InputSpec((2, 1, 1)), (Node("q", "quantize", ("images",), kind), flat, *nodes), outputs)


FIRST = Node("first", "dequantize", ("q",), ValueType((2, 1, 1)))
SECOND = Node("second", "flatten", ("first",), ValueType((2,)))
THIRD = Node("third", "dequantize", ("flat",), ValueType((2,)))


def test_one_value_may_be_dequantized_twice():
    graph = vectors(FIRST, THIRD, outputs=("third", "first"))
    images = np.array([[1, -2], [3, 4.25]], np.float32).reshape(2, 2, 1, 1)
    third, first = plan(graph, measure=False).outputs(images)
    np.testing.assert_array_equal(third, [[1, -2], [3, 4]])  # 4.25 is half-way between two steps of 0.5, and 8 is even
    np.testing.assert_array_equal(first, third[:, :, None, None])


def test_what_cannot_be_an_output_is_refused():
    for outputs, error, words in (
        (
            ("first", "second"),
            UnsupportedOperation,
            r"node 'second' .* cannot be planned: it has the same values as another output",
        ),
        (("second", "second"), CorruptFile, "the output 'second' is named twice; name it once"),
        (("second", "flat"), CorruptFile, r"the output is uint8 \(2,\); outputs are float32 values of nodes"),
        (("second", "images"), CorruptFile, r"the output is float32 \(2, 1, 1\); outputs are float32 values of nodes"),
        (("q",), CorruptFile, r"the output is uint8 \(2, 1, 1\); outputs are float32 values of nodes"),
    ):
        with pytest.raises(error, match=words):
            native.plan_graph(vectors(FIRST, SECOND, outputs=outputs), threads=1, instruction_set="", measure=False, choices="")
    with pytest.raises(CorruptFile, match="class names were given for 2 outputs; leave them out"):
        native.check(replace(vectors(FIRST, THIRD, outputs=("first", "third")), classes=("cat", "dog")))


def test_float_maps_are_outputs_too():
    kind = ValueType((2, 2, 2), "uint8", 0.5, 10)
    quantized, real = Node("q", "quantize", ("images",), kind), Node("map", "dequantize", ("q",), ValueType((2, 2, 2)))
    pooled = Node("pooled", "adaptive_avg_pool", ("q",), replace(kind, shape=(2, 1, 1)), {"output_size": (1, 1)})
    vector = Node("vector", "dequantize", ("pooled",), ValueType((2, 1, 1)))
    images = np.arange(-8, 8, dtype=np.float32).reshape(2, 2, 2, 2)
    for outputs in (("vector", "map"), ("map",)):
        graph = Graph(InputSpec((2, 2, 2)), (quantized, real, pooled, vector), outputs)
        for found, expected in zip(plan(graph, measure=False).outputs(images), run_outputs(graph, images), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_an_integer_layer_that_gives_a_float_map_is_refused():
    kind = ValueType((2, 2, 2), "uint8", 0.5, 10)
    tensors = {"weight": np.ones((1, 2, 1, 1), np.int8), "weight_scale": np.ones(1, np.float32), "bias": np.zeros(1, np.int32)}
    layer = Node("layer", "conv2d", ("q",), ValueType((1, 2, 2)), {}, tensors)
    flat = Node("flat", "flatten", ("layer",), ValueType((4,)))
    graph = Graph(InputSpec((2, 2, 2)), (Node("q", "quantize", ("images",), kind), layer, flat), ("flat",))
    with pytest.raises(UnsupportedOperation, match=r"node 'layer' .*: an integer layer with a float result must return a vector"):
        plan(graph)


def cut(b, x, axis, start, stop, step=1):
    return b.simple("slice", [x], {"axis": axis, "start": start, "stop": stop, "step": step})


def pixel(b, x):
    return b.simple("max_pool", [x], {"window": (3, 2), "stride": (3, 2)})


def product(b, x):
    return b.simple("matmul", [cut(b, x, 1, 0, 1), cut(b, cut(b, x, 1, 1, 2), 2, 0, 2)], {"transposed": 1})


LAST = {
    "normalize": lambda b, _: b.add("normalize", [INPUT], ValueType(b.input.shape)),
    "conv2d": lambda b, x: b.weighted("conv2d", x, (5, 6, 3, 2), {"groups": 1}),
    "linear": lambda b, x: b.linear(b.simple("flatten", [pixel(b, x)]), 5),
    "batch_norm": lambda b, x: b.batch_norm(pixel(b, x)),
    "relu": lambda b, x: b.simple("relu", [pixel(b, x)]),
    "clamp": lambda b, x: b.simple("clamp", [pixel(b, x)], {"minimum": -0.1, "maximum": 0.1}),
    "pointwise": lambda b, x: b.pointwise(pixel(b, x), "abs"),
    "add": lambda b, x: b.simple("add", [pixel(b, x), cut(b, cut(b, x, 1, 1, 2), 2, 1, 2)]),
    "mul": lambda b, x: b.simple("mul", [pixel(b, x), cut(b, cut(b, x, 1, 1, 2), 2, 1, 2)]),
    "concat": lambda b, x: b.simple("concat", [pixel(b, x), b.batch_norm(pixel(b, x))]),
    "slice": lambda b, x: cut(b, pixel(b, x), 0, 1, 6, 2),
    "pad": lambda b, x: b.simple("pad", [pixel(b, x)], {"before": (1, 0, 0), "after": (2, 0, 0)}),
    "channel_shuffle": lambda b, x: b.simple("channel_shuffle", [pixel(b, x)], {"groups": 2}),
    "flatten": lambda b, x: b.simple("flatten", [pixel(b, x)]),
    "unflatten": lambda b, x: b.simple("unflatten", [b.simple("flatten", [pixel(b, x)])]),
    "max_pool": pixel,
    "avg_pool": lambda b, x: b.simple("avg_pool", [x], {"window": (3, 2), "stride": (3, 2)}),
    "adaptive_avg_pool": lambda b, x: b.simple("adaptive_avg_pool", [x], {"output_size": (1, 1)}),
    "matmul": product,
    "pixel_shuffle": lambda b, x: b.simple("pixel_shuffle", [pixel(b, x)], {"factor": (1, 1)}),
    "pixel_unshuffle": lambda b, x: b.simple("pixel_unshuffle", [x], {"factor": (3, 2)}),
    "a vector in parts": lambda b, x: b.simple("concat", [b.simple("flatten", [pixel(b, x)])] * 2),
    "part of a vector": lambda b, x: cut(b, b.simple("flatten", [pixel(b, x)]), 0, 2, 5),
    "one row and one column": lambda b, x: cut(b, cut(b, x, 1, 0, 3, 3), 2, 0, 2, 2),
    "moves that are joined": lambda b, x: cut(b, b.simple("channel_shuffle", [pixel(b, x)], {"groups": 3}), 0, 1, 4),
}
"""Of six channels of 3 x 2 pixels, the network's last operation, with a result of one pixel or none."""


@pytest.mark.parametrize("last", LAST)
def test_whatever_is_last_writes_where_the_caller_reads(last):
    assert set(OPERATIONS) - set(LAST) == {"quantize", "dequantize"} | TRAINING_ONLY
    b = Builder(np.random.default_rng(3), quantized=False, shape=(3, 1, 1) if last == "normalize" else (3, 3, 2))
    value = LAST[last](b, b.conv(b.start(), 6))
    for outputs in ((value,), (value, b.linear(b.simple("flatten", [b.conv(b.start(), 4)]), 3))):
        assert_same_bits_in_every_set(b.graph(*outputs), b.images)


class Output(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("dimensions", ctypes.c_int64),
        ("size", ctypes.c_int64),
    )


@pytest.fixture(scope="module")
def library():
    found = ctypes.CDLL(str(Path(native.__file__).parent / "libparetrim.so"))
    found.paretrim_load_bytes.restype = ctypes.c_void_p
    found.paretrim_load_bytes.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32]
    found.paretrim_last_error.restype = ctypes.c_char_p
    found.paretrim_output_count.restype = ctypes.c_int64
    found.paretrim_output_count.argtypes = [ctypes.c_void_p]
    found.paretrim_describe_output.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(Output)]
    found.paretrim_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    found.paretrim_run_outputs.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.POINTER(ctypes.c_void_p),
    ]
    found.paretrim_free.argtypes = [ctypes.c_void_p]
    return found


def test_the_c_interface_describes_and_computes_every_output(library):
    content = trimfile.to_bytes(GRAPH)
    network = library.paretrim_load_bytes(content, len(content), 2)
    assert network, library.paretrim_last_error()
    assert (library.paretrim_output_count(network), library.paretrim_output_count(None)) == (3, 0)
    arrays = []
    for index, (name, shape) in enumerate(zip(GRAPH.outputs, GRAPH.output_shapes, strict=True)):
        output = Output()
        assert library.paretrim_describe_output(network, index, ctypes.byref(output)) == 0
        assert (output.name.decode(), tuple(output.shape[: output.dimensions])) == (name, shape)
        assert output.size == int(np.prod(shape))
        arrays.append(np.full((len(IMAGES), *shape), np.nan, np.float32))
    pointers = (ctypes.c_void_p * 3)(*(array.ctypes.data for array in arrays))
    assert library.paretrim_run_outputs(network, IMAGES.ctypes.data, len(IMAGES), pointers) == 0
    assert_same_bits(arrays, run_outputs(GRAPH, IMAGES))

    for call, words in (
        (lambda: library.paretrim_describe_output(network, 3, ctypes.byref(Output())), "index is 3; the network has 3 outputs"),
        (lambda: library.paretrim_describe_output(network, -1, ctypes.byref(Output())), "index is -1"),
        (lambda: library.paretrim_describe_output(network, 0, None), "network or output is NULL; give both"),
        (lambda: library.paretrim_run(network, IMAGES.ctypes.data, 1, arrays[0].ctypes.data), "call paretrim_run_outputs"),
        (lambda: library.paretrim_run_outputs(network, None, 1, pointers), "images or outputs is NULL; give both"),
        (lambda: library.paretrim_run_outputs(network, IMAGES.ctypes.data, -1, pointers), "count is -1; it must be 0 or more"),
        (lambda: library.paretrim_run_outputs(None, None, 0, None), "network is NULL; load a file first"),
        (
            lambda: library.paretrim_run_outputs(network, IMAGES.ctypes.data, 1, (ctypes.c_void_p * 3)(pointers[0], None, None)),
            "outputs[1] is NULL; give room for every output",
        ),
    ):
        assert call() == 3
        assert words in library.paretrim_last_error().decode()
    assert library.paretrim_run_outputs(network, None, 0, None) == 0
    library.paretrim_free(network)
