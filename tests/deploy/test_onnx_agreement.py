"""ONNX files in both runtimes against the interpreter: random graphs, every block and every function."""

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx_runs import RUNTIMES, assert_every_operation_agrees, assert_no_step_off
from random_graphs import BLOCKS, FUNCTIONS, Builder, finish, random_graph

from paretrim.deploy.onnx_file import export_onnx
from paretrim.graph.functions import pixel_table
from paretrim.graph.interpreter import run
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), pixels=st.booleans())
@example(seed=366974, pixels=False)  # OpenVINO's average pool that counts its padding
def test_integer_graphs_agree_step_by_step(tmp_path_factory, runtime, seed, pixels):
    graph, images = random_graph(seed, quantized=True, pixels=pixels)
    assert_every_operation_agrees(graph, images, tmp_path_factory.mktemp("g") / "a.onnx", runtime)


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_every_block_and_function_agrees_step_by_step(tmp_path, runtime):
    for index, block in enumerate(BLOCKS):
        b = Builder(np.random.default_rng(index), quantized=True)
        graph = finish(b, block(b, b.conv(b.start(), 4)))
        assert_every_operation_agrees(graph, b.images, tmp_path / "a.onnx", runtime)
    b = Builder(np.random.default_rng(0), quantized=True)
    x = b.start()
    parts = [b.pointwise(x, function) for function in sorted(FUNCTIONS)]
    graph = finish(b, b.simple("concat", parts))
    assert_every_operation_agrees(graph, b.images, tmp_path / "a.onnx", runtime)


WIDE = {"window": (3, 2), "stride": (1, 2), "padding": (4, 1, 3, 2), "dilation": (4, 3)}
"""A dilated max pool whose padding is as wide as its window, which ONNX Runtime refuses in the pool itself."""


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("quantized", [False, True])
def test_a_max_pool_with_wide_padding_agrees(tmp_path, runtime, quantized):
    b = Builder(np.random.default_rng(4), quantized=quantized)
    x = b.simple("max_pool", [b.simple("pad", [b.conv(b.start(), 4)], {"before": (0, 1, 0), "after": (0, 0, 2)})], WIDE)
    graph = finish(b, x)
    if quantized:
        assert_every_operation_agrees(graph, b.images, tmp_path / "a.onnx", runtime)
        return
    export_onnx(graph, tmp_path / "a.onnx")
    expected = run(graph, b.images)
    found = RUNTIMES[runtime](tmp_path / "a.onnx", b.images)["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_float_graphs_agree(tmp_path_factory, runtime, seed):
    graph, images = random_graph(seed, quantized=False, blocks=4)
    path = tmp_path_factory.mktemp("g") / "a.onnx"
    export_onnx(graph, path)
    expected = run(graph, images)
    np.testing.assert_allclose(RUNTIMES[runtime](path, images)["logits"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_every_float_block_and_function_agrees(tmp_path):
    b = Builder(np.random.default_rng(1), quantized=False)
    x = b.conv(b.start(), 4)
    parts = [b.pointwise(x, function) for function in sorted(FUNCTIONS)]
    parts.append(b.simple("clamp", [x], {"maximum": 0.5}))
    parts.append(b.simple("clamp", [x], {"minimum": 0.1}))
    x = b.simple("concat", parts)
    graph = finish(b, b.conv(x, 4))
    export_onnx(graph, tmp_path / "a.onnx")
    expected = run(graph, b.images)
    for runtime in RUNTIMES.values():
        np.testing.assert_allclose(runtime(tmp_path / "a.onnx", b.images)["logits"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mean", "looked_up"), [(0.5, True), (0.4914, False)])
def test_pixels_are_exact_in_every_runtime(tmp_path, mean, looked_up):
    spec = InputSpec((1, 16, 16), (mean,), (0.5,))
    kind = ValueType((1, 16, 16), "uint8", float(np.float32(2 / 255)), 128)
    nodes = (
        Node("q", "quantize", (INPUT,), kind, {}, {"table": pixel_table(spec, kind)}),
        Node("r", "dequantize", ("q",), ValueType((1, 16, 16))),
        Node("f", "flatten", ("r",), ValueType((256,))),
    )
    graph, images = Graph(spec, nodes, ("f",)), np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    export_onnx(graph, tmp_path / "a.onnx")
    assert ("Gather" in {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}) == looked_up
    for runtime in RUNTIMES.values():
        np.testing.assert_array_equal(runtime(tmp_path / "a.onnx", images)["logits"], run(graph, images))


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(("channels", "groups"), [(200, 2), (136, 2), (288, 3), (128, 2)])
def test_groups_of_any_width_are_right(tmp_path, runtime, window, channels, groups):
    """OpenVINO with AMX gets 1 x 1 windows wrong on more than 64 channels a group, unless a multiple of 64."""
    stream = np.random.default_rng(0)
    kind = ValueType((channels, 5, 5), "uint8", 0.0625, 0)
    result = ValueType((12, 5, 5), "uint8", 0.0625, 114)
    tensors = {
        "weight": stream.integers(-40, 40, (12, channels // groups, window, window)).astype(np.int8),
        "weight_scale": np.full(12, 0.004, np.float32),
        "bias": np.zeros(12, np.int32),
    }
    padding = (window // 2,) * 4
    nodes = (
        Node("q", "quantize", (INPUT,), kind),
        Node("x", "conv2d", ("q",), result, {"groups": groups, "padding": padding}, tensors),
        Node("r", "dequantize", ("x",), ValueType(result.shape)),
        Node("f", "flatten", ("r",), ValueType((result.size,))),
    )
    graph = Graph(InputSpec(kind.shape), nodes, ("f",))
    images = (stream.integers(0, 256, (2, *kind.shape)) * 0.0625).astype(np.float32)
    assert_no_step_off(tmp_path / "a.onnx", graph, images, runtime)
