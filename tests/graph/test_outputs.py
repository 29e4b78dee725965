"""Graphs of several outputs: their meaning, their checks, folding, lowering and storage."""

import re
from dataclasses import replace

import numpy as np
import pytest

from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.channels import channel_groups
from paretrim.graph.checks import validate
from paretrim.graph.fold import fold
from paretrim.graph.fusion import grid_values
from paretrim.graph.interpreter import run, run_outputs
from paretrim.graph.lower import WeightCodes, lower
from paretrim.graph.storage import from_bytes, to_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

f32 = np.float32
TRUNK = np.array([[1, -2], [3, 4]], f32)
HEAD = np.array([[2, 1]], f32)


def two_heads() -> Graph:
    """A trunk that is an output and is read by a second output."""
    nodes = (
        Node("flat", "flatten", (INPUT,), ValueType((2,))),
        Node("trunk", "linear", ("flat",), ValueType((2,)), {}, {"weight": TRUNK, "bias": np.zeros(2, f32)}, "trunk"),
        Node("head", "linear", ("trunk",), ValueType((1,)), {}, {"weight": HEAD, "bias": np.zeros(1, f32)}, "head"),
    )
    return Graph(InputSpec((2, 1, 1)), nodes, ("head", "trunk"))


IMAGES = np.array([[1, 2], [-4, 8], [0, 0]], f32).reshape(3, 2, 1, 1)
TRUNK_VALUES = IMAGES.reshape(3, 2) @ TRUNK.T


def test_outputs_come_in_order_for_any_batch_size() -> None:
    for batch in (1, 2, 3):
        head, trunk = run_outputs(two_heads(), IMAGES, batch=batch)
        np.testing.assert_array_equal(trunk, TRUNK_VALUES)
        np.testing.assert_array_equal(head, TRUNK_VALUES @ HEAD.T)


def test_functions_for_one_output_name_all_outputs() -> None:
    with pytest.raises(UnsupportedOperation, match=r"has 2 outputs \(head, trunk\); this works for networks of one output"):
        run(two_heads(), IMAGES)
    with pytest.raises(UnsupportedOperation, match="has no outputs; name at least one value"):
        replace(two_heads(), outputs=())
    with pytest.raises(UnsupportedOperation, match="the output 'tail' is produced by no node"):
        replace(two_heads(), outputs=("head", "tail"))


def test_outputs_are_float_values_of_nodes_without_class_names() -> None:
    validate(two_heads())
    with pytest.raises(
        CorruptFile, match=re.escape("the output 'images' is float32 (2, 1, 1); outputs are float32 values of nodes")
    ):
        validate(replace(two_heads(), outputs=("head", INPUT)))
    with pytest.raises(CorruptFile, match="class names were given for a network of 2 outputs; leave them out"):
        validate(replace(two_heads(), classes=("cat",)))


def test_stored_graphs_of_several_outputs_are_format_2() -> None:
    content = to_bytes(two_heads())
    assert b'"format":"2"' in content
    restored = from_bytes(content)
    assert restored.outputs == ("head", "trunk")
    assert to_bytes(restored) == content
    assert b'"format":"1"' in to_bytes(replace(two_heads(), outputs=("head",)))


def test_an_output_with_readers_keeps_its_grid_and_is_dequantized() -> None:
    graph = fold(two_heads())
    assert grid_values(graph) == (INPUT, "trunk")
    grids = {
        INPUT: ValueType((), "uint8", 0.125, 128),
        "trunk": ValueType((), "uint8", 0.5, 100),
    }
    weights = {
        "trunk": WeightCodes(TRUNK.astype(np.int8), np.ones(2, f32)),
        "head": WeightCodes(HEAD.astype(np.int8), np.ones(1, f32)),
    }
    lowered = lower(graph, grids, weights)
    validate(lowered)
    head, trunk = run_outputs(lowered, IMAGES)
    np.testing.assert_allclose(trunk, TRUNK_VALUES, atol=0.5 / 2)
    np.testing.assert_allclose(head, TRUNK_VALUES @ HEAD.T, atol=0.5 / 2 * 3 + 1e-3)
    assert [node.op for node in lowered.nodes].count("dequantize") == 1


def test_channels_of_outputs_are_kept() -> None:
    both, one = channel_groups(two_heads()), channel_groups(replace(two_heads(), outputs=("head",)))
    rows = set(both.classes["trunk"].tolist())
    assert rows <= set(both.frozen)
    assert not rows & set(one.frozen)
