from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.graph.checks import validate
from paretrim.graph.fold import affine_of, fold, merge_pads
from paretrim.graph.interpreter import run
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

f32 = np.float32


def with_norms(graph, rng):
    """A BatchNorm behind every weighted node that has readers, and dropout behind that."""
    nodes, renamed = [], {}
    for node in graph.nodes:
        nodes.append(replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs)))
        if node.op in ("conv2d", "linear") and node.name != graph.output:
            rows = node.type.shape[0]
            tensors = {name: rng.uniform(0.5, 1.5, rows).astype(f32) for name in ("mean", "variance", "beta")}
            tensors["gamma"] = rng.choice([-1.0, 0.0, 0.7, 1.5], rows).astype(f32)
            nodes.append(Node(f"{node.name}.bn", "batch_norm", (node.name,), node.type, {"epsilon": 1e-5}, tensors))
            nodes.append(Node(f"{node.name}.drop", "dropout", (f"{node.name}.bn",), node.type, {"probability": 0.1}))
            renamed[node.name] = f"{node.name}.drop"
    return replace(graph, nodes=tuple(nodes))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_folding_keeps_the_function(seed):
    graph, images = random_graph(seed, quantized=False, pixels=False)
    graph = with_norms(graph, np.random.default_rng(seed))
    folded = fold(graph)
    validate(folded)
    assert "dropout" not in {node.op for node in folded.nodes}
    expected = run(graph, images)
    np.testing.assert_allclose(run(folded, images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_pixels_are_normalised_first():
    spec = InputSpec((1, 2, 2), (0.4,), (0.5,))
    folded = fold(Graph(spec, (Node("f", "flatten", (INPUT,), ValueType((4,))),), ("f",)))
    assert [node.op for node in folded.nodes] == ["normalize", "flatten"]
    found = run(folded, np.array([0, 51, 102, 255], np.uint8).reshape(1, 1, 2, 2))
    np.testing.assert_allclose(found, [[-0.8, -0.4, 0.0, 1.2]], atol=1e-6)


def test_batch_norm_as_an_affine_map():
    tensors = {"gamma": f32([2]), "beta": f32([1]), "mean": f32([3]), "variance": f32([4])}
    node = Node("n", "batch_norm", (INPUT,), ValueType((1,)), {"epsilon": 0.0}, tensors)
    factor, offset = affine_of(node)
    assert (factor[0], offset[0]) == (pytest.approx(1.0), pytest.approx(-2.0))


def padded(before, after, *, readers=("c",), output="c"):
    """A pad of [2, 5, 5] before 3x3 convolutions that pad as well."""
    channels, height, width = (extent + b + a for extent, b, a in zip((2, 5, 5), before, after, strict=True))
    pad = Node("p", "pad", (INPUT,), ValueType((channels, height, width)), {"before": before, "after": after})
    weight = np.random.default_rng(0).normal(0, 1, (3, channels, 3, 3)).astype(f32)
    kind = ValueType((3, height - 1, width))
    attributes = {"padding": (1, 0, 0, 2)}
    nodes = [Node(name, "conv2d", ("p",), kind, attributes, {"weight": weight}) for name in readers]
    return Graph(InputSpec((2, 5, 5)), (pad, *nodes), (output,))


def test_a_pad_is_folded_into_the_convolutions_behind_it():
    graph = padded((0, 1, 2), (0, 3, 0), readers=("b", "c"))
    merged = merge_pads(graph)
    assert [(node.op, node.inputs) for node in merged.nodes] == [("conv2d", (INPUT,))] * 2
    assert merged.nodes[0].attributes["padding"] == (2, 2, 3, 2)
    images = np.random.default_rng(1).normal(0, 1, (2, 2, 5, 5)).astype(f32)
    np.testing.assert_array_equal(run(merged, images), run(graph, images))


def test_a_pad_of_channels_or_with_other_readers_is_kept():
    read = padded((0, 1, 1), (0, 1, 1))
    read = replace(read, nodes=(*read.nodes, Node("r", "relu", ("p",), read.nodes[0].type)))
    for graph in (padded((1, 1, 1), (0, 1, 1)), padded((0, 1, 1), (0, 1, 1), output="p"), read):
        assert merge_pads(graph).nodes == graph.nodes


def behind_a_shuffle(cut):
    """A convolution whose 12 channels become the pixels of 3, perhaps cropped, and then normalised."""
    rng = np.random.default_rng(4)
    weight = {"weight": rng.normal(0, 1, (12, 2, 3, 3)).astype(f32)}
    edges = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    size = (3, 9, 10) if cut else (3, 10, 10)
    norm = {name: rng.uniform(0.5, 1.5, 3).astype(f32) for name in ("mean", "variance", "beta", "gamma")}
    cuts = [Node("s", "slice", ("p",), ValueType(size), {"axis": 1, "start": 1, "stop": 10, "step": 1})] if cut else []
    nodes = [
        Node("c", "conv2d", (INPUT,), ValueType((12, 5, 5)), edges, weight),
        Node("p", "pixel_shuffle", ("c",), ValueType((3, 10, 10)), {"factor": (2, 2)}),
        *cuts,
        Node("n", "batch_norm", ("s" if cut else "p",), ValueType(size), {"epsilon": 1e-5}, norm),
        Node("r", "relu", ("n",), ValueType(size)),
        Node("g", "adaptive_avg_pool", ("r",), ValueType((3, 2, 2)), {"output_size": (2, 2)}),
        Node("f", "flatten", ("g",), ValueType((12,))),
    ]
    return Graph(InputSpec((2, 5, 5)), tuple(nodes), ("f",))


@pytest.mark.parametrize("cut", [False, True])
def test_a_norm_behind_a_pixel_shuffle_is_folded(cut):
    """As in a transposed convolution: every channel gets factor and shift of the channel it becomes part of."""
    graph = behind_a_shuffle(cut)
    folded = fold(graph)
    validate(folded)
    assert [node.op for node in folded.nodes if node.op != "slice"] == [
        "conv2d", "pixel_shuffle", "relu", "adaptive_avg_pool", "flatten"
    ]  # fmt: skip
    images = np.random.default_rng(5).normal(0, 1, (2, 2, 5, 5)).astype(f32)
    expected = run(graph, images)
    assert np.ptp(expected, axis=1).min() > 0.1
    np.testing.assert_allclose(run(folded, images), expected, rtol=1e-5, atol=1e-5)


def test_a_norm_is_kept_if_its_input_has_other_readers():
    """If the shuffled value has another reader or is an output, its numbers must not change."""
    graph = behind_a_shuffle(cut=False)
    assert "batch_norm" in {node.op for node in fold(replace(graph, outputs=("f", "p"))).nodes}
    more = Node("h", "adaptive_avg_pool", ("p",), ValueType((3, 1, 1)), {"output_size": (1, 1)})
    also = replace(graph, nodes=(*graph.nodes, more), outputs=("f", "h"))
    assert "batch_norm" in {node.op for node in fold(also).nodes}
