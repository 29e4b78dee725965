import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import BLOCKS, FUNCTIONS, Builder, finish, random_graph

from paretrim.errors import CorruptFile, DataUnavailable
from paretrim.graph import functions, interpreter, windows
from paretrim.graph.interpreter import compute, run, values
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network import float_forms

SPEC = InputSpec((1, 1, 1))
f32 = np.float32


def half_even(x):
    """Round half to even, one number, by hand."""
    below = math.floor(x)
    if x - below != 0.5:
        return below if x - below < 0.5 else below + 1
    return below if below % 2 == 0 else below + 1


def slow_requant(accumulator, multiplier, zero_point, low=0, high=255):
    return min(max(half_even(float(f32(f32(accumulator) * multiplier))) + zero_point, low), high)


def byte_type(shape, scale, zero_point):
    return ValueType(shape, "uint8", float(f32(scale)), zero_point)


scales = st.floats(2**-10, 0.25, width=32)
zero_points = st.integers(0, 255)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), scales, zero_points, scales, zero_points, st.sampled_from([(1, 1), (2, 1), (1, 2)]), st.booleans())
def test_integer_convolution_equals_loops(seed, scale, zero, scale_out, zero_out, stride, grouped):
    rng = np.random.default_rng(seed)
    groups = 2 if grouped else 1
    x = rng.integers(0, 256, (2, 4, 5, 4)).astype(np.uint8)
    weight = rng.integers(-127, 128, (4, 4 // groups, 2, 3)).astype(np.int8)
    weight_scale = rng.uniform(1e-3, 1e-2, 4).astype(f32)
    bias = rng.integers(-5000, 5000, 4).astype(np.int32)
    padding = (1, 0, 2, 1)
    down, across = (5 + 3 - 2) // stride[0] + 1, (4 + 1 - 3) // stride[1] + 1
    source, kind = byte_type((4, 5, 4), scale, zero), byte_type((4, down, across), scale_out, zero_out)
    attributes = {"stride": stride, "padding": padding, "groups": groups, "lo": 3, "hi": 250}
    node = Node("c", "conv2d", ("x",), kind, attributes, {"weight": weight, "weight_scale": weight_scale, "bias": bias})
    found = compute(node, (x,), (source,), SPEC)
    depth = 4 // groups
    for n, o, i, j in product(range(2), range(4), range(down), range(across)):
        accumulator = int(bias[o])
        for c, a, b in product(range(depth), range(2), range(3)):
            y, z = i * stride[0] + a - padding[0], j * stride[1] + b - padding[1]
            if 0 <= y < 5 and 0 <= z < 4:
                channel = (o // (4 // groups)) * depth + c
                accumulator += int(weight[o, c, a, b]) * (int(x[n, channel, y, z]) - zero)
        multiplier = f32(f32(source.scale) * weight_scale[o]) / f32(kind.scale)
        assert found[n, o, i, j] == slow_requant(accumulator, multiplier, zero_out, 3, 250)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), scales, zero_points, scales, zero_points, scales, zero_points)
def test_integer_add_and_mul_equal_loops(seed, scale_a, zero_a, scale_b, zero_b, scale, zero):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 1, 3, 2, 2)).astype(np.uint8)
    types = (byte_type((3, 2, 2), scale_a, zero_a), byte_type((3, 2, 2), scale_b, zero_b))
    kind = byte_type((3, 2, 2), scale, zero)
    total = compute(Node("n", "add", ("a", "b"), kind, {"lo": 2, "hi": 200}), (a, b), types, SPEC)
    product_ = compute(Node("n", "mul", ("a", "b"), kind), (a, b), types, SPEC)
    ratios = [f32(side.scale) / f32(kind.scale) for side in types]
    shift = f32(zero - (float(ratios[0]) * zero_a + float(ratios[1]) * zero_b))
    both = f32(types[0].scale) * f32(types[1].scale) / f32(kind.scale)
    for index in np.ndindex(a.shape):
        left, right = int(a[index]) - zero_a, int(b[index]) - zero_b
        summed = f32(f32(a[index]) * ratios[0]) + f32(f32(f32(b[index]) * ratios[1]) + shift)
        assert total[index] == min(max(half_even(float(summed)), 2), 200)
        assert product_[index] == slow_requant(left * right, both, zero)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), scales, zero_points, scales, zero_points, st.sampled_from([(0, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1)])
)
def test_integer_pools_equal_loops(seed, scale, zero, scale_out, zero_out, counted):
    x = np.random.default_rng(seed).integers(0, 256, (1, 2, 5, 4)).astype(np.uint8)
    source, kind = byte_type((2, 5, 4), scale, zero), byte_type((2, 3, 2), scale_out, zero_out)
    sliding = {"window": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    average = compute(Node("n", "avg_pool", ("x",), kind, sliding | {"count_padding": counted}), (x,), (source,), SPEC)
    largest = compute(Node("n", "max_pool", ("x",), byte_type((2, 3, 2), scale, zero), sliding), (x,), (source,), SPEC)
    for c, i, j in product(range(2), range(3), range(2)):
        seen, places = [], 0
        for y, z in product(range(2 * i - 1, 2 * i + 2), range(2 * j - 1, 2 * j + 2)):
            places += -counted[0] <= y < 5 + counted[2] and -counted[1] <= z < 4 + counted[3]
            if 0 <= y < 5 and 0 <= z < 4:
                seen.append(int(x[0, c, y, z]))
        total = sum(seen) - zero * len(seen)
        assert average[0, c, i, j] == slow_requant(total, f32(source.scale) / (f32(kind.scale) * f32(places)), zero_out)
        assert largest[0, c, i, j] == max(seen)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), scales, zero_points, scales, zero_points)
def test_integer_batch_norm_concat_and_adaptive_pool_equal_loops(seed, scale, zero, scale_out, zero_out):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (1, 2, 5, 3)).astype(np.uint8)
    source, kind = byte_type((2, 5, 3), scale, zero), byte_type((2, 5, 3), scale_out, zero_out)
    multiplier, offset = rng.normal(0, 1, 2).astype(f32), rng.normal(0, 9, 2).astype(f32)
    tensors = {"multiplier": multiplier, "offset": offset}
    affine = compute(Node("n", "batch_norm", ("x",), kind, {"lo": 1}, tensors), (x,), (source,), SPEC)
    joined = compute(Node("n", "concat", ("x", "y"), byte_type((4, 5, 3), scale_out, zero_out)), (x, x), (source, kind), SPEC)
    pooled_type = byte_type((2, 2, 2), scale_out, zero_out)
    pooled = compute(Node("n", "adaptive_avg_pool", ("x",), pooled_type, {"output_size": (2, 2)}), (x,), (source,), SPEC)
    for index in np.ndindex(x.shape):
        c, centered = index[1], f32(int(x[index]) - zero)
        value = f32(f32(centered * multiplier[c]) + offset[c])
        assert affine[index] == min(max(half_even(float(value)) + zero_out, 1), 255)
        moved = min(max(half_even(float(centered * (f32(source.scale) / f32(kind.scale)))) + zero_out, 0), 255)
        assert joined[index] == (int(x[index]) if (source.scale, zero) == (kind.scale, zero_out) else moved)
        assert joined[0, c + 2, *index[2:]] == x[index]
    for c, (i, rows), (j, columns) in product(range(2), enumerate([(0, 3), (2, 5)]), enumerate([(0, 2), (1, 3)])):
        places = [int(x[0, c, y, z]) - zero for y in range(*rows) for z in range(*columns)]
        assert pooled[0, c, i, j] == slow_requant(sum(places), f32(source.scale) / (f32(kind.scale) * f32(len(places))), zero_out)


@pytest.mark.parametrize("largest", [2**24 - 1, 2**24, 2**24 + 1, 2**30])
def test_accumulation_is_exact_on_both_sides_of_the_float32_bound(largest):
    """1040 x 127 x 127 passes 2**24 - something; the bias brings the accumulator to the number under test."""
    weight = np.full((1, 1000, 1, 1), 127, dtype=np.int8)
    x = np.full((1, 1000, 1, 1), 128, dtype=np.uint8)
    bias = np.array([largest - 1000 * 127 * 128], dtype=np.int32)
    expected = f32 if windows.largest_accumulator(weight, bias, 0) <= 2**24 else np.float64
    assert windows.accumulate_in(weight, bias, 0) is expected
    tensors = {"weight": weight, "weight_scale": np.ones(1, f32), "bias": bias}
    node = Node("c", "conv2d", ("x",), ValueType((1, 1, 1)), {}, tensors)
    assert compute(node, (x,), (byte_type((1000, 1, 1), 1.0, 0),), SPEC).item() == f32(largest)


def test_float32_is_chosen_only_where_it_is_exact():
    bias = np.zeros(1, np.int32)
    assert windows.accumulate_in(np.full((1, 517), 127, np.int8), bias, 0) is np.float32
    assert windows.accumulate_in(np.full((1, 519), 127, np.int8), bias, 0) is np.float64
    assert windows.accumulate_in(np.full((1, 1030), 127, np.int8), bias, 128) is np.float32
    assert windows.accumulate_in(np.full((1, 517), 127, np.int8), bias + 2**20, 0) is np.float64


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_functions_equal_torch(function):
    x = torch.linspace(-8, 8, 161, dtype=torch.float64)
    constant = FUNCTIONS[function]
    nn = torch.nn.functional
    oracle = (
        {
            "clamp_min": lambda v: v.clamp(min=constant),
            "clamp_max": lambda v: v.clamp(max=constant),
            "add_constant": lambda v: v + constant,
            "mul_constant": lambda v: v * constant,
            "leaky_relu": lambda v: nn.leaky_relu(v, constant),
            "requantize": lambda v: v,
            "gelu_tanh": lambda v: nn.gelu(v, approximate="tanh"),
            "log": lambda v: v.clamp(min=functions.SMALLEST).log(),
            "power": lambda v: v.clamp(min=0) ** constant,
            "elu_alpha": lambda v: nn.elu(v, constant),
            "celu": lambda v: nn.celu(v, constant),
            "softplus_beta": lambda v: nn.softplus(v, constant),
            "threshold": lambda v: nn.threshold(v, constant, 0),
            "hardshrink": lambda v: nn.hardshrink(v, constant),
            "softshrink": lambda v: nn.softshrink(v, constant),
        }.get(function)
        or getattr(nn, function, None)
        or getattr(torch, function)
    )
    np.testing.assert_allclose(functions.evaluate(function, x.numpy(), constant), oracle(x).numpy(), atol=1e-9)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, 1 / 3, -0.5, -1.0, -2.0, -3.0, -50.0])
def test_powers_are_numbers_everywhere(exponent):
    """Also at a pole and left of a root; and where torch gives a number it is this one."""
    x = np.array([-3.0, -1.0, -1e-3, 0.0, 1e-30, 1e-3, 0.5, 1.0, 2.0], np.float32)
    found = functions.evaluate("power", x, exponent).astype(np.float32)
    assert np.isfinite(found).all()
    expected = (torch.from_numpy(x).double() ** exponent).numpy()
    known = np.isfinite(expected) & (np.abs(expected) < 1e12)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-6, atol=1e-37)
    variable = torch.from_numpy(x).requires_grad_()
    trained = float_forms._power(variable, exponent)
    np.testing.assert_allclose(trained.detach().numpy(), found, rtol=1e-5)
    (trained * (trained.detach().abs() < 1e30)).sum().backward()
    assert not variable.grad.isnan().any()


@pytest.mark.parametrize(
    ("function", "constant", "expected"),
    [
        ("log", None, [0, 0, 0, 243, 255]),
        ("power", -1.0, [128, 123, 255, 133, 128]),
        ("power", -0.5, [255, 255, 255, 144, 129]),
        ("exp", None, [128, 128, 178, 255, 255]),
    ],
)
def test_tables_of_steep_functions_end_at_the_ends_of_the_grid(function, constant, expected):
    """At -1280, -10, 0, 10 and 1270: a pole inside the range of the input, or a result far beyond that of the output."""
    source, output = (ValueType((1,), "uint8", float(np.float32(scale)), 128) for scale in (10.0, 0.02))
    table = functions.pointwise_table(function, constant, source, output)
    assert table[[0, 127, 128, 129, 255]].tolist() == expected


def test_float_operations_equal_torch():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2, 4, 9, 7)).astype(f32)
    t, nn = torch.from_numpy(x), torch.nn.functional
    kind = ValueType((4, 9, 7))
    weight, bias = rng.normal(0, 1, (6, 2, 3, 3)).astype(f32), rng.normal(0, 1, 6).astype(f32)
    statistics = {name: rng.uniform(0.5, 1.5, 4).astype(f32) for name in ("gamma", "beta", "mean", "variance")}
    conv = {"stride": (2, 1), "padding": (2, 2, 2, 2), "dilation": (2, 2), "groups": 2}
    pool = {"window": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    torch_statistics = [torch.from_numpy(statistics[name]) for name in ("mean", "variance", "gamma", "beta")]
    cases = [
        ("conv2d", conv, {"weight": weight, "bias": bias},
         nn.conv2d(t, torch.from_numpy(weight), torch.from_numpy(bias), (2, 1), 2, 2, 2)),
        ("batch_norm", {"epsilon": 1e-5}, statistics, nn.batch_norm(t, *torch_statistics, eps=1e-5)),
        ("max_pool", pool, {}, nn.max_pool2d(t, 3, 2, 1)),
        ("avg_pool", pool, {}, nn.avg_pool2d(t, 3, 2, 1, count_include_pad=False)),
        ("avg_pool", pool | {"count_padding": (1, 1, 1, 1)}, {}, nn.avg_pool2d(t, 3, 2, 1)),
        ("adaptive_avg_pool", {"output_size": (4, 3)}, {}, nn.adaptive_avg_pool2d(t, (4, 3))),
        ("clamp", {"minimum": -0.5, "maximum": 0.5}, {}, t.clamp(-0.5, 0.5)),
        ("clamp", {"maximum": 0.5}, {}, t.clamp(max=0.5)),
        ("relu", {}, {}, t.relu()),
        ("channel_shuffle", {"groups": 2}, {}, torch.nn.ChannelShuffle(2)(t)),
        ("pixel_shuffle", {"factor": (2, 2)}, {}, nn.pixel_shuffle(t, 2)),
        ("pixel_shuffle", {"factor": (1, 4)}, {}, t.permute(0, 2, 3, 1).flatten(2)[:, None]),
        ("pixel_shuffle", {"factor": (4, 1)}, {}, t.transpose(1, 2).flatten(1, 2)[:, None]),
        ("pixel_unshuffle", {"factor": (3, 1)}, {}, t.reshape(2, 4, 3, 3, 7).transpose(2, 3).reshape(2, 12, 3, 7)),
        ("pad", {"before": (1, 0, 2), "after": (0, 1, 0)}, {}, nn.pad(t, (2, 0, 0, 1, 1, 0))),
        ("slice", {"axis": 1, "start": 1, "stop": 8, "step": 3}, {}, t[:, :, 1:8:3]),
        ("flatten", {}, {}, t.flatten(1)),
    ]  # fmt: skip
    for op, attributes, tensors, expected in cases:
        node = Node("n", op, ("x",), ValueType(tuple(expected.shape[1:])), attributes, tensors)
        found = compute(node, (x,), (kind,), SPEC)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5, err_msg=op)


def test_average_pool_in_ceil_mode_is_padding_that_does_not_count():
    x = np.random.default_rng(0).normal(0, 1, (1, 2, 6, 6)).astype(f32)
    attributes = {"window": (3, 3), "stride": (2, 2), "padding": (1, 1, 2, 2), "count_padding": (1, 1, 1, 1)}
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 3, 2, 1, ceil_mode=True).numpy()
    node = Node("n", "avg_pool", ("x",), ValueType(expected.shape[1:]), attributes)
    np.testing.assert_allclose(compute(node, (x,), (ValueType((2, 6, 6)),), SPEC), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_batches_and_threads_do_not_change_integers(seed):
    graph, images = random_graph(seed, quantized=True)
    images = np.concatenate([images, images[:2]])
    whole = run(graph, images)
    assert whole.dtype == np.float32
    for batch in (1, 3, 5):
        np.testing.assert_array_equal(run(graph, images, batch=batch), whole)
        np.testing.assert_array_equal(run(graph, images, batch=batch, threads=2), whole)
    np.testing.assert_array_equal(values(graph, images)[graph.output], whole)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_product_of_matrices_is_a_sum_over_k(transposed):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 4, 5)).astype(np.uint8), rng.integers(0, 256, (2, 3, 5, 2)).astype(np.uint8)
    kinds = (ValueType((3, 4, 5), "uint8", f32(0.02), 7), ValueType((3, 5, 2), "uint8", f32(0.03), 250))
    output = ValueType((3, 4, 2), "uint8", f32(1.5), 100)
    node = Node("y", "matmul", ("a", "b"), output, {"transposed": transposed, "lo": 60, "hi": 240})
    given = np.ascontiguousarray(b.swapaxes(2, 3)) if transposed else b
    expected = np.zeros((2, 3, 4, 2), np.uint8)
    for n, c, i, j in np.ndindex(expected.shape):
        total = sum((int(a[n, c, i, k]) - 7) * (int(b[n, c, k, j]) - 250) for k in range(5))
        expected[n, c, i, j] = np.clip(slow_requant(total, f32(0.02) * f32(0.03) / f32(1.5), 100), 60, 240)
    assert len(np.unique(expected)) > 20
    np.testing.assert_array_equal(compute(node, (a, given), kinds, SPEC), expected)
    real = compute(replace(node, type=ValueType((3, 4, 2)), attributes={"transposed": transposed}),
                   (a.astype(f32), given.astype(f32)), tuple(ValueType(k.shape) for k in kinds), SPEC)  # fmt: skip
    np.testing.assert_array_equal(real, a.astype(f32) @ b.astype(f32))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("pixels", [True, False])
def test_integer_graph_stays_near_the_real_numbers_of_its_inputs(block, pixels):
    """Every node against its float meaning on its own dequantized inputs: half a step, one more where bias or table round."""
    b = Builder(np.random.default_rng(7), quantized=True, pixels=pixels)
    graph = finish(b, block(b, b.conv(b.start(), 4)))
    known, types = values(graph, b.images), graph.types
    for node in graph.nodes:
        kind = types[node.inputs[0]]
        if not kind.quantized or node.inputs[0] == INPUT or node.op == "batch_norm":
            continue
        tensors = dict(node.tensors)
        if "weight" in tensors:
            tensors["bias"] = (tensors["bias"] * tensors["weight_scale"] * f32(kind.scale)).astype(f32)
        plain = {name: value for name, value in node.attributes.items() if name not in ("lo", "hi")}
        reals = tuple(((known[name] - f32(types[name].zero_point)) * f32(types[name].scale)).astype(f32) for name in node.inputs)
        float_types = tuple(ValueType(types[name].shape) for name in node.inputs)
        expected = compute(Node("f", node.op, node.inputs, ValueType(node.type.shape), plain, tensors), reals, float_types, SPEC)
        if not node.type.quantized:
            np.testing.assert_allclose(known[node.name], expected, rtol=1e-4, atol=1e-4)
            continue
        steps = np.clip(expected / f32(node.type.scale) + node.type.zero_point, node.attributes.get("lo", 0), 255)
        if node.op == "relu":
            steps = np.maximum(steps, kind.zero_point)
        assert np.abs(known[node.name] - steps).max() <= 0.5 + 1e-3, node.op


def tiny(**changes):
    spec = InputSpec((1, 2, 2), **changes)
    first = [Node("n", "normalize", (INPUT,), ValueType((1, 2, 2)))] if spec.takes_pixels else []
    last = Node("f", "flatten", ("n" if first else INPUT,), ValueType((4,)))
    return Graph(spec, (*first, last), ("f",))


def test_pixels_are_normalised_in_double_precision():
    pixels = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    found = run(tiny(mean=(0.1,), std=(0.3,)), pixels)
    np.testing.assert_array_equal(found[0], ((np.arange(4) / 255 - 0.1) / 0.3).astype(f32))


def test_no_images_give_no_logits():
    assert run(tiny(), np.zeros((0, 1, 2, 2), f32)).shape == (0, 4)


def test_wrong_images_are_named():
    with pytest.raises(DataUnavailable, match=r"images are float64 \[1, 1, 2, 2\]; the network takes float32 \[N, 1, 2, 2\]"):
        run(tiny(), np.zeros((1, 1, 2, 2)))
    with pytest.raises(DataUnavailable, match=r"images are float32 \[1, 2, 2\]; the network takes uint8"):
        values(tiny(mean=(0.5,), std=(0.5,)), np.zeros((1, 2, 2), f32))
    with pytest.raises(DataUnavailable, match="images hold NaN or infinity"):
        run(tiny(), np.full((1, 1, 2, 2), np.nan, f32))
    with pytest.raises(DataUnavailable, match="batch is 0; at least 1"):
        run(tiny(), np.zeros((1, 1, 2, 2), f32), batch=0)


def test_errors_of_threads_come_out(monkeypatch):
    def fail(*_):
        raise CorruptFile("batch")

    monkeypatch.setattr(interpreter, "_steps", fail)
    for threads in (1, 2):
        with pytest.raises(CorruptFile, match="batch"):
            run(tiny(), np.zeros((3, 1, 2, 2), f32), batch=1, threads=threads)


@pytest.mark.parametrize(("side", "images"), [(4, 64), (128, 8), (1024, 4)])
def test_few_large_or_many_small_images_are_computed_at_once(side, images, monkeypatch):
    seen = []
    steps = interpreter._steps
    monkeypatch.setattr(interpreter, "_steps", lambda graph, known: seen.append(len(known[INPUT])) or steps(graph, known))
    graph = Graph(InputSpec((4, side, side), (), ()), (Node("r", "relu", (INPUT,), ValueType((4, side, side))),), ("r",))
    run(graph, np.zeros((images + 1, 4, side, side), f32))
    assert seen == [images, 1]


def test_nan_on_the_way_to_integers_is_refused():
    node = Node("q", "quantize", ("x",), byte_type((1,), 1.0, 0), layer="head")
    with pytest.raises(CorruptFile, match=r"node 'q' \(layer 'head'\) would quantize NaN"):
        compute(node, (np.array([[np.nan]], f32),), (ValueType((1,)),), SPEC)


def test_large_networks_are_checked_on_fewer_images():
    b = Builder(np.random.default_rng(0), quantized=True, shape=(4, 6, 6), pixels=False)
    graph = b.graph(b.linear(b.simple("flatten", [b.start()]), 5, logits=True))
    assert graph.multiply_adds == 4 * 6 * 6 * 5
    assert interpreter.affordable_images(graph, 32) == 32
    tall = replace(graph.nodes[-1], type=replace(graph.nodes[-1].type, shape=(interpreter.CHECKED_WORK // (3 * 144),)))
    assert interpreter.affordable_images(replace(graph, nodes=(*graph.nodes[:-1], tall)), 32) == 3
    tall = replace(tall, type=replace(tall.type, shape=(interpreter.CHECKED_WORK,)))
    assert interpreter.affordable_images(replace(graph, nodes=(*graph.nodes[:-1], tall)), 32) == 1
