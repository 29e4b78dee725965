"""The native check of a graph agrees with paretrim.graph.checks: both reject damaged graphs, with the same kind of error."""

from dataclasses import replace

import numpy as np
import pytest
from checked_nodes import BYTE, OUT, SAME, WEIGHT, one
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.errors import CorruptFile, ParetrimError, UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

NUMBERS = st.one_of(st.integers(-1, 9), st.sampled_from([255, 256, 2**31 - 1, 2**31, 2**62, -(2**31)]))
SCALES = st.sampled_from(
    [0.0, -1.0, 0.1, 0.5, 1.0, float("nan"), float("inf"), 1e-45, 1.1754943508222875e-38, 3.4028234663852886e38]
)


def verdict(check, graph):
    try:
        check(graph)
    except ParetrimError as error:
        return type(error)
    return None


@st.composite
def damaged(draw):
    """A random integer graph with one thing changed in one node."""
    graph = random_graph(draw(st.integers(0, 400)), quantized=True, blocks=2, pixels=draw(st.booleans()))[0]
    index = draw(st.integers(0, len(graph.nodes) - 1))
    node = graph.nodes[index]
    what = draw(st.sampled_from(["attribute", "scale", "zero_point", "shape", "dtype", "tensor", "values", "less", "nothing"]))
    if what == "attribute" and node.attributes:
        name = draw(st.sampled_from(sorted(node.attributes)))
        value = node.attributes[name]
        if isinstance(value, tuple):
            place = draw(st.integers(0, len(value) - 1))
            value = (*value[:place], draw(NUMBERS), *value[place + 1 :])
        elif not isinstance(value, str):
            value = draw(st.one_of(NUMBERS, st.booleans(), st.just(0.5)))
        node = replace(node, attributes={**node.attributes, name: value})
    elif what == "less" and node.attributes:
        name = draw(st.sampled_from(sorted(node.attributes)))
        node = replace(node, attributes={key: value for key, value in node.attributes.items() if key != name})
    elif what == "scale":
        node = replace(node, type=replace(node.type, scale=draw(SCALES)))
    elif what == "zero_point":
        node = replace(node, type=replace(node.type, zero_point=draw(st.integers(-2, 258))))
    elif what == "shape":
        node = replace(node, type=replace(node.type, shape=(*node.type.shape[1:], draw(NUMBERS))))
    elif what == "dtype":
        node = replace(node, type=replace(node.type, dtype=draw(st.sampled_from(["uint8", "float32"]))))
    elif node.tensors:
        node = replace(node, tensors={**node.tensors, **_changed_tensor(draw, node, what)})
    return replace(graph, nodes=(*graph.nodes[:index], node, *graph.nodes[index + 1 :]))


def _changed_tensor(draw, node, what):
    name = draw(st.sampled_from(sorted(node.tensors)))
    tensor = node.tensors[name]
    if what == "tensor":
        changed = [
            tensor[..., None],
            tensor.reshape(-1),
            tensor[:0],
            tensor[:-1],
            tensor.astype(np.int32),
            tensor.astype(np.uint8),
        ]
        return {name: draw(st.sampled_from(changed))}
    values = (
        [np.nan, np.inf, 0.0, -1.0, 1e-40, 3e38]
        if tensor.dtype == np.float32
        else [np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max]
    )
    tensor = tensor.copy()
    # A table may be a step from its function: the native runtime takes any table of the right size.
    if name != "table":
        tensor.flat[draw(st.integers(0, tensor.size - 1))] = draw(st.sampled_from(values))
    return {name: tensor}


def test_valid_graphs_pass():
    for seed in range(30):
        for pixels in (True, False):
            native.check(random_graph(seed, quantized=True, pixels=pixels)[0])


@settings(max_examples=600)
@given(damaged())
def test_damaged_graphs_get_the_same_verdict(graph):
    expected = verdict(validate, graph)
    found = verdict(native.check, graph)
    if expected is CorruptFile and found is None:
        with pytest.raises(CorruptFile, match="its table differs from its function"):
            validate(graph)
    elif expected is not found:
        # What is wrong in two ways may be named by either.
        assert expected is not None
        assert found is not None


@pytest.mark.parametrize(
    ("graph", "kind", "message"),
    [
        (
            one(kind=replace(OUT, shape=(3, 4, 4))),
            CorruptFile,
            r"node 'n' \(layer 'layers.0', conv2d\): its type has shape \(3, 4, 4\)",
        ),
        (one(kind=replace(OUT, scale=0.1)), CorruptFile, r"node 'n': its scale is 0\.1"),
        (one(kind=replace(OUT, scale=0.0)), CorruptFile, r"its scale is 0; it must be a positive normal float32"),
        (
            one(kind=replace(OUT, scale=2.0**-130)),
            CorruptFile,
            r"its scale is 7\.34683969e-40; it must be a positive normal float32",
        ),
        (one(kind=replace(OUT, zero_point=256)), CorruptFile, r"its zero point is 256; it must lie in 0\.\.255"),
        (one(attributes={"lo": 9, "hi": 8}), CorruptFile, r"it clamps to 9\.\.8"),
        (one(attributes={"hi": 300}), CorruptFile, r"it clamps to 0\.\.300"),
        (
            one(attributes={"slope": 1}),
            UnsupportedOperation,
            "conv2d has the unknown attribute 'slope'; it takes stride, padding",
        ),
        (one(attributes={"stride": (0, 1)}), UnsupportedOperation, "conv2d has a wrong stride; it must be 2 integers from 1"),
        (
            one(attributes={"stride": (2**70, 1)}),
            CorruptFile,
            "attribute 'stride' is 1180591620717411303424; it must be 64-bit integers",
        ),
        (one(attributes={"padding": (2**20,) * 4}), UnsupportedOperation, "conv2d pads its input to"),
        (one(kind=ValueType((3, 2, 2)), attributes={"lo": 1}), UnsupportedOperation, "lo and hi clamp quantized values"),
        (one(name="a\nb"), CorruptFile, "a node name must be 1 to 500 printable characters"),
        (one(name=INPUT + "\x85"), CorruptFile, "a node name must be 1 to 500 printable characters"),
        (one(tensors=WEIGHT | {"weight": np.full((3, 2, 3, 3), -128, np.int8)}), CorruptFile, "its weight holds -128"),
        (one(tensors=WEIGHT | {"weight_scale": np.zeros(3, np.float32)}), CorruptFile, "its weight_scale is 0 in output"),
        (
            one(tensors=WEIGHT | {"weight_scale": np.full(3, 2.0**-140, np.float32)}),
            CorruptFile,
            "its weight_scale is 7.17464814e-43 in output channel 0; scales and their products",
        ),
        (
            one(tensors=WEIGHT | {"weight_scale": np.full(3, np.nan, np.float32)}),
            CorruptFile,
            "weight_scale holds NaN or infinity",
        ),
        (
            one(tensors=WEIGHT | {"bias": np.zeros(2, np.int32)}),
            CorruptFile,
            r"its bias is int32 \(2,\); it must be int32 \(3,\)",
        ),
        (
            one(tensors=WEIGHT | {"bias": np.full(3, 2**31 - 1, np.int32)}),
            CorruptFile,
            "its accumulator can reach 2147488183, beyond",
        ),
        (one(tensors={"weight": WEIGHT["weight"]}), CorruptFile, "it lacks the tensor 'weight_scale'"),
        (one(tensors=WEIGHT | {"table": WEIGHT["bias"]}), CorruptFile, "it has 4 tensors; it must have 3"),
        (one("relu", replace(SAME, zero_point=4), {}, {}), CorruptFile, "it keeps that of its input, scale 0.5"),
        (one("add", SAME, tensors={}, inputs=("x", INPUT)), UnsupportedOperation, "it reads float32 and uint8; quantize or"),
        (
            one("dropout", SAME, {"probability": 0.1}, {}),
            UnsupportedOperation,
            "dropout is only for training; fold the graph first",
        ),
        (
            one("dequantize", ValueType((2, 4, 4)), {}, {}, source=ValueType((2, 4, 4))),
            UnsupportedOperation,
            "it converts float32 to float32; insert a quantize",
        ),
        (one("clamp", SAME, {"minimum": 0.0}, {}), UnsupportedOperation, "clamp is only for float values; use lo and hi of"),
        (
            one("quantize", SAME, {}, {"table": np.zeros((2, 256), np.uint8)}),
            UnsupportedOperation,
            "it converts uint8 to uint8; use a pointwise 'requantize'",
        ),
        (one("normalize", SAME, {}, {}), UnsupportedOperation, "only normalize and quantize read pixels, and normalize reads"),
        (
            one("pointwise", SAME, {"function": "tanh"}, {"table": np.zeros((2, 256), np.uint8)}),
            CorruptFile,
            r"its table is uint8 \(2, 256\)",
        ),
        (Graph(InputSpec((1, 2)), (), (INPUT,)), CorruptFile, r"the input has shape \(1, 2\); it must be \(C, H, W\)"),
        (
            Graph(InputSpec((1, 2, 2), (0.5,), ()), (), (INPUT,)),
            CorruptFile,
            "1 means and 0 stds; give one number per channel or neither",
        ),
        (Graph(InputSpec((1, 2, 2), (0.5,), (0.0,)), (), (INPUT,)), CorruptFile, "must be finite and std above 0"),
        (
            Graph(InputSpec((1, 2, 2)), (), (INPUT,)),
            CorruptFile,
            r"the output is float32 \(1, 2, 2\); outputs are float32 values of nodes",
        ),
    ],
)
def test_the_native_check_names_what_is_wrong(graph, kind, message):
    with pytest.raises(kind, match=message):
        native.check(graph)


def test_classes_fit_the_logits():
    graph = random_graph(1, quantized=True)[0]
    with pytest.raises(CorruptFile, match="1 class names were given for 5 logits; leave them out or give one each"):
        native.check(replace(graph, classes=("cat",)))


def test_floats_may_stand_between_integers():
    nodes = (
        Node("x", "quantize", (INPUT,), BYTE),
        Node("real", "dequantize", ("x",), ValueType((2, 4, 4))),
        Node("again", "quantize", ("real",), BYTE),
        Node("last", "dequantize", ("again",), ValueType((2, 4, 4))),
        Node("flat", "flatten", ("last",), ValueType((32,))),
    )
    graph = Graph(InputSpec((2, 4, 4)), nodes, ("flat",))
    validate(graph)
    native.check(graph)


def test_an_object_that_is_no_graph_is_refused():
    with pytest.raises(AttributeError):
        native.check(3)
