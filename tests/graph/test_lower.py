"""The integer graph against float arithmetic on the same integers, at the limits of their ranges."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paretrim.errors import UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run, values
from paretrim.graph.lower import WeightCodes, lower
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

f32 = np.float32
SHAPE = (4, 5, 5)


def grid(scale, zero_point=0):
    return ValueType((), "uint8", float(f32(scale)), zero_point)


def layer(weight_shape, *, gamma, beta, bias=None, activation=None):
    """conv -> BatchNorm -> activation -> flatten; the weight is given as integers."""
    rows = weight_shape[0]
    one, zero = np.ones(rows, f32), np.zeros(rows, f32)
    kind = ValueType((rows, SHAPE[1] - 2, SHAPE[2] - 2))
    tensors = {"weight": np.zeros(weight_shape, f32)} | ({} if bias is None else {"bias": bias.astype(f32)})
    norm = {"gamma": gamma.astype(f32), "beta": beta.astype(f32), "mean": zero, "variance": one}
    nodes = [
        Node("conv", "conv2d", (INPUT,), kind, {}, tensors, "conv"),
        Node("norm", "batch_norm", ("conv",), kind, {"epsilon": 0.0}, norm),
    ]
    if activation == "relu":
        nodes.append(Node("act", "relu", ("norm",), kind))
    elif activation:
        nodes.append(Node("act", "clamp", ("norm",), kind, {"minimum": activation[0], "maximum": activation[1]}))
    nodes.append(Node("flat", "flatten", (nodes[-1].name,), ValueType((kind.size,))))
    return Graph(InputSpec(SHAPE), tuple(nodes), ("flat",))


extremes = st.sampled_from([0.0, 1.0, -1.0, 1e-30, -1e-12, 1e-6, -0.03, 50.0, 1e-38])
offsets = st.sampled_from([0.0, 0.3, -0.2, 100.0, -5000.0, 1e-9, 3e-41])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    gamma=st.lists(extremes, min_size=6, max_size=6),
    beta=st.lists(offsets, min_size=6, max_size=6),
    scale=st.sampled_from([1e-8, 1e-3, 0.02, 1.0]),
    scale_in=st.sampled_from([1e-8, 0.004, 0.1]),
    scale_out=st.sampled_from([1e-8, 1e-4, 0.05, 3.0]),
    activation=st.sampled_from([None, "relu", (-0.5, 6.0)]),
)
@example(0, [1e-38] * 6, [3e-41] * 6, 1e-8, 1e-8, 3.0, None)
@example(0, [1.0] * 6, [5000.0] * 6, 1e-8, 1e-8, 3.0, "relu")
def test_integers_are_within_a_step_of_the_float_network(seed, gamma, beta, scale, scale_in, scale_out, activation):
    rng = np.random.default_rng(seed)
    integers = rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8)
    integers[0] = 0
    weight_scale = (scale * rng.uniform(0.5, 1, 6)).astype(f32)
    gamma, beta, bias = np.array(gamma), np.array(beta), rng.normal(0, scale, 6)
    graph = layer(integers.shape, gamma=gamma, beta=beta, bias=bias, activation=activation)
    zero_in, zero_out = (int(rng.integers(0, 200)) for _ in range(2))
    grids = {INPUT: grid(scale_in, zero_in), ("act" if activation else "norm"): grid(scale_out, zero_out)}
    lowered = lower(graph, grids, {"conv": WeightCodes(integers, weight_scale)})
    validate(lowered)
    images = (scale_in * rng.uniform(-zero_in, 255 - zero_in, (2, *SHAPE))).astype(f32)
    known = values(lowered, images)
    source, kind = grids[INPUT], lowered.types["conv"]
    real = source.scale * (known["quantized_images"].astype(float) - zero_in)
    windows = np.lib.stride_tricks.sliding_window_view(real, (3, 3), axis=(2, 3))
    weight = integers * weight_scale.astype(float)[:, None, None, None]
    column = (slice(None), None, None)
    found = np.einsum("nchwij,ocij->nohw", windows, weight) + bias.astype(f32).astype(float)[column]
    found = found * gamma.astype(f32).astype(float)[column] + beta.astype(f32).astype(float)[column]
    if activation == "relu":
        found = np.maximum(found, 0)
    elif activation:
        found = np.clip(found, *activation)
    expected = np.clip(np.rint(found / kind.scale) + zero_out, 0, 255)
    # The bias is stored in steps of the accumulator, so it may be half of one off.
    coarse = 0.5 * lowered.nodes[1].tensors["weight_scale"].astype(float) * source.scale / kind.scale
    assert (np.abs(known["conv"] - expected) <= 1 + np.ceil(coarse)[column]).all()
    tensors = lowered.nodes[1].tensors
    assert (tensors["weight"][0] == 0).all()
    assert (tensors["weight"][integers == 0] == 0).all()


def test_activations_that_become_clamps():
    graph = layer((6, 4, 3, 3), gamma=np.ones(6), beta=np.zeros(6), activation=(-0.5, 6.0))
    codes = {"conv": WeightCodes(np.ones((6, 4, 3, 3), np.int8), np.ones(6, f32))}
    node = lower(graph, {INPUT: grid(1.0), "act": grid(0.05, 20)}, codes).nodes[1]
    assert (node.attributes["lo"], node.attributes["hi"]) == (10, 140)
    relu = layer((6, 4, 3, 3), gamma=np.ones(6), beta=np.zeros(6), activation="relu")
    node = lower(relu, {INPUT: grid(1.0), "act": grid(0.05, 20)}, codes).nodes[1]
    assert (node.attributes["lo"], node.attributes["hi"]) == (20, 255)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(0, 3), st.floats(0.001, 0.05), st.integers(0, 255))
def test_a_separate_clamp_becomes_two_tables(low, span, scale, zero_point):
    bounds = {"minimum": low, "maximum": low + span}
    nodes = (Node("clip", "clamp", (INPUT,), ValueType(SHAPE), bounds), Node("flat", "flatten", ("clip",), ValueType((100,))))
    graph = Graph(InputSpec(SHAPE), nodes, ("flat",))
    lowered = lower(graph, {INPUT: grid(0.03, 128), "clip": grid(scale, zero_point)}, {})
    validate(lowered)
    images = np.random.default_rng(0).uniform(-4, 4, (1, *SHAPE)).astype(f32)
    kind = lowered.types["clip"]
    expected = np.clip(0.03 * np.clip(np.rint(images / f32(0.03)), -128, 127), low, low + span)
    reach = kind.scale * np.array([-zero_point, 255 - zero_point])
    expected = np.clip(expected, *reach).reshape(1, -1)
    assert np.abs(run(lowered, images) - expected).max() <= 1.01 * kind.scale


def test_pixels_are_looked_up():
    graph = Graph(InputSpec((1, 2, 2), (0.5,), (0.25,)), (Node("flat", "flatten", (INPUT,), ValueType((4,))),), ("flat",))
    lowered = lower(graph, {INPUT: grid(4 / 255, 128)}, {})
    assert [node.op for node in lowered.nodes] == ["quantize", "flatten", "dequantize"]
    assert lowered.nodes[0].tensors["table"].shape == (1, 256)


def test_missing_grids_and_integers_are_named():
    graph = layer((6, 4, 3, 3), gamma=np.ones(6), beta=np.zeros(6))
    codes = {"conv": WeightCodes(np.ones((6, 4, 3, 3), np.int8), np.ones(6, f32))}
    with pytest.raises(UnsupportedOperation, match="the input: the value 'images' has no grid; quantize the network before"):
        lower(graph, {}, codes)
    with pytest.raises(UnsupportedOperation, match="layer 'conv': the value 'norm' has no grid"):
        lower(graph, {INPUT: grid(1.0)}, codes)
    with pytest.raises(UnsupportedOperation, match="layer 'conv': the weight of 'conv' has no integers; quantize it first"):
        lower(graph, {INPUT: grid(1.0), "norm": grid(1.0)}, {})


def test_sums_beyond_int32_are_refused():
    columns = 70_000
    node = Node("head", "linear", (INPUT,), ValueType((2,)), {}, {"weight": np.zeros((2, columns), f32)}, "head")
    graph = Graph(InputSpec((columns,)), (node,), ("head",))
    codes = {"head": WeightCodes(np.full((2, columns), 127, np.int8), np.ones(2, f32))}
    message = (
        r"layer 'head': the sum of output channel 0 may reach 2,266,950,000, beyond int32; it has 70,000 weights per channel"
    )
    with pytest.raises(UnsupportedOperation, match=message):
        lower(graph, {INPUT: grid(1.0)}, codes)


def test_scales_whose_product_overflows_float32_are_refused():
    graph = layer((6, 4, 3, 3), gamma=np.ones(6), beta=np.zeros(6))
    codes = {"conv": WeightCodes(np.ones((6, 4, 3, 3), np.int8), np.full(6, 1e-20, f32))}
    message = (
        "layer 'conv': steps of its weights are 8.7e-19 to 8.7e-19, those of its input 1e-30 and of its result 1e-30; a product"
    )
    with pytest.raises(UnsupportedOperation, match=message):
        lower(graph, {INPUT: grid(float(f32(1e-30))), "norm": grid(float(f32(1e-30)))}, codes)


def test_small_logits_keep_their_weights():
    node = Node("head", "linear", (INPUT,), ValueType((2,)), {}, {"weight": np.zeros((2, 3), f32)}, "head")
    weight = np.arange(6, dtype=np.int8).reshape(2, 3)
    lowered = lower(
        Graph(InputSpec((3,)), (node,), ("head",)), {INPUT: grid(1.0)}, {"head": WeightCodes(weight, np.full(2, 1e-30, f32))}
    )
    np.testing.assert_array_equal(lowered.nodes[-1].tensors["weight"], weight)
    np.testing.assert_array_equal(lowered.nodes[-1].tensors["weight_scale"], np.full(2, 1e-30, f32))
