from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numbers_by_hand import SPEC, byte_type, f32, slow_requant
from random_graphs import BLOCKS, Builder, finish, random_graph

from paretrim.errors import CorruptFile, DataUnavailable
from paretrim.graph import interpreter
from paretrim.graph.interpreter import compute, run, values
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


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


def test_average_pool_in_ceil_mode_is_uncounted_padding():
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
def test_integer_nodes_are_within_a_step_of_their_float_meaning(block, pixels):
    """Every node against its float meaning on its dequantized inputs: half a step, plus one if a bias or a table rounds."""
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


def test_errors_in_threads_are_raised(monkeypatch):
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


def test_quantizing_nan_is_refused():
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
