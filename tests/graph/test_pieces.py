"""What is found out about a tensor in pieces equals what is found out about all of it at once, in little memory."""

import tracemalloc

import numpy as np
import pytest

from paretrim.graph import dtypes, windows
from paretrim.graph.checks import validate
from paretrim.graph.dtypes import PIECE, all_represented_finite, count_zeros, pieces, real_weight
from paretrim.graph.types import Graph, InputSpec, Node, ValueType
from paretrim.trimfile.inspection import _format

SHAPES = [(7,), (1, 40), (40, 1), (5, 3, 2, 2), (13, 7), (0, 4), (4, 0)]


@pytest.fixture(params=[1, 4, 9, 64, PIECE])
def small_pieces(request, monkeypatch):
    monkeypatch.setattr(dtypes, "PIECE", request.param)
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_cover_a_tensor_once(shape, small_pieces):
    tensor = np.arange(np.prod(shape)).reshape(shape)
    found = [part for _, part in pieces(tensor)]
    assert sorted(int(one) for part in found for one in part.reshape(-1)) == list(range(tensor.size))
    assert all(0 < part.size <= small_pieces for part in found)
    for rows, part in pieces(tensor):
        assert set(part.reshape(-1)) <= set(tensor[rows].reshape(-1))
    assert all(np.shares_memory(part, tensor) for part in found)


@pytest.mark.parametrize("shape", SHAPES[:5])
@pytest.mark.parametrize("dtype", ["int8", "float16", "bfloat16", "float32"])
def test_pieces_change_no_answer(shape, dtype, small_pieces):
    random = np.random.default_rng(4)
    weight = random.integers(-9, 9, shape)
    bits = np.where(weight == 0, 0x8000, weight.astype(np.float32).view(np.uint32) >> 16)  # zeros are -0
    tensor = bits.astype(np.uint16) if dtype == "bfloat16" else weight.astype(dtype)
    assert count_zeros(tensor) == int((weight == 0).sum())
    tensors = {"weight": tensor, "weight_scale": np.full(shape[0], 1e38, np.float32)}
    with np.errstate(over="ignore"):
        assert all_represented_finite(tensors) == bool(np.isfinite(real_weight(tensors)).all())
    if dtype == "int8":
        bias = random.integers(-100, 100, shape[0]).astype(np.int32)
        sums = np.abs(weight.reshape(shape[0], -1)).sum(axis=1)
        assert windows.largest_accumulator(tensor, bias, 100) == (sums * 155 + np.abs(bias)).max()


@pytest.mark.parametrize(
    ("values", "name"), [([-3, 0, 3], "ternary"), ([-8, 7, 1, 2], "int4"), (range(-8, 8), "int4"), ([-128, 100], "codebook 2"),
                         (range(-127, 128), "int8")]
)  # fmt: skip
def test_formats_are_found_in_pieces(values, name, small_pieces):
    assert _format(np.resize(np.array(values, np.int8), (3, 301))) == name


def checked(dtype):
    weight = np.zeros((2**6, 2**18), dtype)
    quantized = dtype == np.int8
    grid = ("uint8", 0.0625, 128) if quantized else ()
    kind, bias = ValueType((2**18,), *grid), np.zeros(2**6, np.int32 if quantized else np.float32)
    first = Node("q", "quantize", ("images",), ValueType((2**18, 1, 1), *grid)) if quantized else None
    flat = Node("flat", "flatten", ("q" if quantized else "images",), kind)
    tensors = {"weight": weight, "bias": bias} | ({"weight_scale": np.ones(2**6, np.float32)} if quantized else {})
    layer = Node("fc", "linear", ("flat",), ValueType((2**6,)), {}, tensors)
    return Graph(InputSpec((2**18, 1, 1)), tuple(one for one in (first, flat, layer) if one), ("fc",))


@pytest.mark.parametrize("dtype", [np.int8, np.float16])
def test_checking_a_large_layer_takes_little_memory(dtype):
    """A load of 16 million weights would take several times their memory, and a forged file has as many as its budget allows."""
    graph = checked(dtype)
    tracemalloc.start()
    try:
        validate(graph)
        assert tracemalloc.get_traced_memory()[1] < 12 * PIECE
    finally:
        tracemalloc.stop()
