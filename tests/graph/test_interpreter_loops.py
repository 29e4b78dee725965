"""Integer operations of the interpreter against loops over single numbers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbers_by_hand import SPEC, byte_type, f32, half_even, slow_requant

from paretrim.graph import windows
from paretrim.graph.interpreter import compute
from paretrim.graph.types import Node, ValueType

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
