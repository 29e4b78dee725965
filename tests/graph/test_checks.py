from dataclasses import replace

import numpy as np
import pytest
from checked_nodes import BYTE, OUT, SAME, WEIGHT, f32, one
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph import functions
from paretrim.graph.checks import infer_shape, validate
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

FLOAT_WEIGHT = {"weight": np.ones((3, 2, 3, 3), f32), "bias": np.zeros(3, f32)}


def shape(op, attributes, *inputs, **tensors):
    return infer_shape(op, attributes, inputs, tensors)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_random_graphs_pass(seed, quantized, pixels):
    validate(random_graph(seed, quantized=quantized, pixels=pixels)[0])


def test_every_operation_has_rules():
    assert [operation.number for operation in OPERATIONS.values()] == list(range(len(OPERATIONS)))
    for name, operation in OPERATIONS.items():
        assert operation.name == name
        assert operation.real or operation.integer
        assert (operation.integer is None) <= (operation.grid == "float_only")
        assert operation.ships or operation.integer is None
        assert operation.clamps <= (operation.grid == "requantizes")
        assert (operation.rescaling != "none") <= (operation.grid == "requantizes")


def test_shapes():
    weight = np.zeros((6, 2, 3, 3))
    assert shape("conv2d", {"groups": 2}, (4, 9, 7), weight=weight) == (6, 7, 5)
    assert shape("conv2d", {"stride": (2, 1), "padding": (1, 0, 2, 3), "groups": 2}, (4, 9, 7), weight=weight) == (6, 5, 8)
    assert shape("conv2d", {"dilation": (3, 1), "groups": 2}, (4, 9, 7), weight=weight) == (6, 3, 5)
    assert shape("mul", {}, (3, 1, 1), (3, 4, 5)) == (3, 4, 5)
    assert shape("concat", {}, (3, 4, 5), (2, 4, 5)) == (5, 4, 5)
    assert shape("slice", {"axis": 2, "start": 1, "stop": 5, "step": 3}, (3, 4, 5)) == (3, 4, 2)
    assert shape("pad", {"before": (1, 2, 3), "after": (0, 0, 1)}, (3, 4, 5)) == (4, 6, 9)
    assert shape("pixel_shuffle", {"factor": (2, 3)}, (12, 4, 5)) == (2, 8, 15)
    assert shape("pixel_unshuffle", {"factor": (2, 3)}, (2, 8, 15)) == (12, 4, 5)
    assert shape("flatten", {}, (3, 4, 5)) == (60,)
    assert shape("unflatten", {}, (3,)) == (3, 1, 1)
    assert shape("matmul", {}, (3, 4, 5), (3, 5, 2)) == (3, 4, 2)
    assert shape("matmul", {"transposed": 1}, (3, 4, 5), (3, 2, 5)) == (3, 4, 2)
    assert shape("adaptive_avg_pool", {"output_size": (7, 1)}, (3, 4, 5)) == (3, 7, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shape("relu", {"slope": 1}, (3,)), r"relu has unknown attributes \['slope'\]; it takes none"),
        (lambda: shape("max_pool", {"window": (2, 2)}, (3, 4, 4)), "max_pool lacks the attribute 'stride'"),
        (lambda: shape("conv2d", {"stride": (0, 1)}, (3, 4, 4)), r"stride = \(0, 1\); it must be 2 integers from 1"),
        (lambda: shape("conv2d", {"groups": True}, (3, 4, 4)), "groups = True; it must be an integer from 1"),
        (lambda: shape("clamp", {"minimum": float("nan")}, (3,)), "minimum = nan; it must be a finite number"),
        (lambda: shape("pointwise", {"function": 3}, (3,)), "function = 3; it must be a string"),
        (lambda: shape("add", {}, (3,)), "add takes 2 inputs and was given 1"),
        (lambda: shape("concat", {}), "concat needs at least one input"),
        (
            lambda: shape("conv2d", {}, (3,), weight=np.zeros((1, 3, 1, 1))),
            r"conv2d needs an input \[C, H, W\] and was given \(3,\)",
        ),
        (lambda: shape("conv2d", {}, (3, 4, 4)), "conv2d lacks the tensor 'weight'"),
        (lambda: shape("linear", {}, (3,), weight=np.zeros(3)), r"linear has a weight of shape \(3,\); it must have 2 dim"),
        (
            lambda: shape("conv2d", {}, (3, 4, 4), weight=np.zeros((1, 2, 1, 1))),
            r"weight \(1, 2, 1, 1\) in 1 groups does not fit 3",
        ),
        (lambda: shape("conv2d", {}, (3, 4, 4), weight=np.zeros((0, 3, 1, 1))), "conv2d has an empty weight"),
        (
            lambda: shape("conv2d", {}, (3, 4, 4), weight=np.zeros((1, 3, 5, 1))),
            "a window that reaches 5 does not fit an extent of 4",
        ),
        (lambda: shape("conv2d", {"padding": (2**20,) * 4}, (3, 4, 4), weight=np.zeros((1, 3, 1, 1))), "pads its input to"),
        (lambda: shape("linear", {}, (3, 4), weight=np.zeros((2, 3))), r"does not fit the input \(3, 4\); flatten it first"),
        (lambda: shape("add", {}, (3,), (4,)), "add needs two equal shapes"),
        (lambda: shape("mul", {}, (3, 2, 1), (3, 2, 2)), r"mul needs equal shapes, or \[C, 1, 1\]"),
        (lambda: shape("concat", {}, (3, 2, 2), (3, 2, 1)), "concat joins channels of equal maps"),
        (lambda: shape("slice", {"axis": 1, "start": 0, "stop": 9}, (3, 4, 4)), "slice 0:9:1 of axis 1 leaves the input"),
        (lambda: shape("unflatten", {}, (3, 4, 4)), r"unflatten needs an input \[C\] and was given \(3, 4, 4\)"),
        (
            lambda: shape("matmul", {}, (3, 4, 5), (3, 2, 5)),
            r"matmul needs \[C, H, K\] and \[C, K, W\], or \[C, W, K\] if transposed, and was given \(3, 4, 5\) and \(3, 2, 5\)",
        ),
        (lambda: shape("matmul", {"transposed": 2}, (3, 4, 5), (3, 2, 5)), "matmul has transposed = 2; it must be 0 or 1"),
        (lambda: shape("matmul", {}, (1, 1, 33026), (1, 33026, 1)), "matmul sums 33026 products; an int32 holds 33025 at most"),
        (lambda: shape("channel_shuffle", {"groups": 2}, (3, 4, 4)), "channel_shuffle in 2 groups does not divide 3"),
        (lambda: shape("pixel_shuffle", {"factor": (2, 3)}, (9, 4, 4)), "pixel_shuffle by 2 x 3 does not divide 9 channels"),
        (
            lambda: shape("pixel_unshuffle", {"factor": (2, 3)}, (1, 4, 4)),
            "pixel_unshuffle by 2 x 3 does not divide 4 x 4 pixels",
        ),
        (lambda: shape("max_pool", {"window": (2, 2), "stride": (1, 1), "padding": (2, 0, 0, 0)}, (3, 4, 4)), "see padding only"),
        (
            lambda: shape("avg_pool", {"window": (2, 2), "stride": (1, 1), "count_padding": (1, 0, 0, 0)}, (3, 4, 4)),
            r"counts \(1, 0, 0, 0\) of the padding \(0, 0, 0, 0\)",
        ),
        (
            lambda: shape("pad", {"before": (2**20, 2**20, 0), "after": (0, 0, 0)}, (3, 4, 4)),
            "extents must be 1 or more and fit int32",
        ),
    ],
)
def test_shape_rules_are_named(call, message):
    with pytest.raises(UnsupportedOperation, match=message):
        call()


FLOAT = ValueType((2, 4, 4))
TABLE = functions.pointwise_table("tanh", None, BYTE, SAME)
AFFINE = {"multiplier": np.ones(2, f32), "offset": np.zeros(2, f32)}
STATISTICS = {name: np.ones(2, f32) for name in ("gamma", "beta", "mean", "variance")}


HUGE = ValueType((2, 4, 4), "uint8", 2.0**100, 3)


def tiny(shape):
    """The finest possible grid."""
    return ValueType(shape, "uint8", 2.0**-126, 0)


def test_one_node_graphs_pass():
    validate(one())
    validate(one(kind=ValueType((3, 2, 2)), tensors=FLOAT_WEIGHT, source=FLOAT))
    validate(one(kind=ValueType((3, 2, 2)), tensors={"weight": FLOAT_WEIGHT["weight"]}, source=FLOAT))
    validate(one(kind=ValueType((3, 2, 2))))
    validate(one("pointwise", SAME, {"function": "tanh"}, {"table": TABLE}))
    validate(one("batch_norm", SAME, {}, AFFINE))
    validate(one("dropout", FLOAT, {"probability": 0.1}, {}, source=FLOAT))


@pytest.mark.parametrize(
    ("graph", "kind", "message"),
    [
        (
            one(kind=replace(OUT, shape=(3, 4, 4))),
            CorruptFile,
            r"node 'n' \(layer 'layers.0', conv2d\): its type has shape \(3, 4, 4\)",
        ),
        (one(kind=replace(OUT, dtype="int4")), CorruptFile, "its dtype is 'int4'; a value is float32 or uint8"),
        (one(kind=replace(OUT, scale=0.1)), CorruptFile, "its scale is 0.1; it must be a positive normal float32"),
        (one(kind=replace(OUT, scale=0.0)), CorruptFile, "its scale is 0.0"),
        (one(kind=replace(OUT, scale=float("inf"))), CorruptFile, "its scale is inf"),
        (one(kind=replace(OUT, zero_point=256)), CorruptFile, "its zero point is 256; it must lie in 0..255"),
        (one(attributes={"lo": 9, "hi": 8}), CorruptFile, r"it clamps to 9\.\.8"),
        (one(attributes={"hi": 300}), CorruptFile, r"it clamps to 0\.\.300"),
        (one(kind=ValueType((3, 2, 2)), attributes={"lo": 1}), UnsupportedOperation, "lo and hi clamp quantized values"),
        (one(name="a\nb"), CorruptFile, "a node name must be 1 to 500 printable characters"),
        (one(tensors=WEIGHT | {"weight": np.full((3, 2, 3, 3), -128, np.int8)}), CorruptFile, "its weight holds -128"),
        (one(tensors=WEIGHT | {"weight_scale": np.zeros(3, f32)}), CorruptFile, r"its weight_scale lies in 0\.0\.\.0\.0"),
        (one(tensors=WEIGHT | {"weight_scale": np.full(3, np.nan, f32)}), CorruptFile, "its weight_scale holds NaN or infinity"),
        (
            one(tensors=WEIGHT | {"bias": np.zeros(2, np.int32)}),
            CorruptFile,
            r"its bias is int32 \(2,\); it must be int32 \(3,\)",
        ),
        (
            one(tensors=WEIGHT | {"bias": np.full(3, 2**31 - 1, np.int32)}),
            CorruptFile,
            "its accumulator can reach 2147488183, beyond int32",
        ),
        (one(tensors={"weight": WEIGHT["weight"]}), CorruptFile, r"it has the tensors \['weight'\]; it must have"),
        (one(tensors=FLOAT_WEIGHT | {"table": TABLE}, kind=FLOAT, source=FLOAT, op="relu"), CorruptFile, "it has the tensors"),
        (one("add", SAME, tensors={}, inputs=("x", INPUT)), UnsupportedOperation, r"its inputs are \['uint8', 'float32'\]"),
        *(
            (one(op, tiny(shape), {}, {}, source=HUGE, inputs=inputs), CorruptFile, "overflow float32 on its grid of scale 1.17")
            for op, shape, inputs in (
                ("add", (2, 4, 4), ("x", "x")),
                ("concat", (4, 4, 4), ("x", "x")),
                ("mul", (2, 4, 4), ("x", "x")),
            )
        ),
        (
            one("adaptive_avg_pool", tiny((2, 1, 1)), {"output_size": (1, 1)}, {}, source=HUGE),
            CorruptFile,
            "overflow float32 on its grid",
        ),
        (one("clamp", SAME, {"minimum": 0.0}, {}), UnsupportedOperation, "clamp is only for float values"),
        (
            one("dropout", SAME, {"probability": 0.1}, {}),
            UnsupportedOperation,
            "dropout is only for training; fold the float graph",
        ),
        (one("relu", FLOAT, {}, {}), UnsupportedOperation, "it converts uint8 to float32; insert a quantize or dequantize"),
        (one("relu", replace(SAME, zero_point=4), {}, {}), CorruptFile, "it keeps that of its input, scale 0.5, zero point 3"),
        (one("normalize", FLOAT, {}, {}, source=FLOAT), UnsupportedOperation, "only normalize and quantize read pixels"),
        (
            one("pointwise", SAME, {"function": "tanh"}, {"table": TABLE[::-1]}),
            CorruptFile,
            "its table differs from its function",
        ),
        (
            one("pointwise", SAME, {"function": "cosine"}, {"table": TABLE}),
            UnsupportedOperation,
            "function 'cosine' is unknown; known are",
        ),
        (
            one("pointwise", SAME, {"function": "leaky_relu"}, {}),
            UnsupportedOperation,
            "'leaky_relu' lacks its attribute 'constant'",
        ),
        (one("pointwise", SAME, {"function": "tanh", "constant": 1.0}, {}), UnsupportedOperation, "'tanh' takes no constant"),
        (one("batch_norm", FLOAT, {}, STATISTICS, source=FLOAT), CorruptFile, r"variance \+ epsilon must be above 0"),
    ],
)
def test_invalid_nodes_are_named(graph, kind, message):
    with pytest.raises(kind, match=message):
        validate(graph)


def whole(spec=None, output="f", classes=(), kind=None):
    spec = spec or InputSpec((1, 2, 2))
    nodes = (Node("r", "relu", (INPUT,), ValueType((1, 2, 2))), Node("f", "flatten", ("r",), kind or ValueType((4,))))
    return Graph(spec, nodes, (output,), classes)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (whole(InputSpec((2, 2))), r"the input has shape \(2, 2\); it must be \(C, H, W\)"),
        (whole(InputSpec((1, 2, 2), (0.5,), ())), "give one number per channel or neither"),
        (whole(InputSpec((1, 2, 2), (0.5,), (0.0,))), "they must be finite and std above 0"),
        (whole(output=INPUT), r"the output 'images' is float32 \(1, 2, 2\); outputs are float32 values of nodes"),
        (
            whole(output="r", classes=("cat", "dog")),
            "2 class names were given for 1 channels of a map; leave them out or give one",
        ),
        (whole(classes=("cat",)), "1 class names were given for 4 logits"),
    ],
)
def test_invalid_graphs_are_named(graph, message):
    with pytest.raises(CorruptFile, match=message):
        validate(graph)


def test_only_normalize_and_quantize_read_pixels():
    spec = InputSpec((1, 2, 2), (0.5,), (0.5,))
    flat = Node("f", "flatten", ("n",), ValueType((4,)))
    with pytest.raises(UnsupportedOperation, match="only normalize and quantize read pixels"):
        validate(Graph(spec, (Node("n", "relu", (INPUT,), ValueType((1, 2, 2), "uint8")), flat), ("f",)))
    with pytest.raises(CorruptFile, match="normalize cannot give uint8"):
        validate(Graph(spec, (Node("n", "normalize", (INPUT,), ValueType((1, 2, 2), "uint8")), flat), ("f",)))
