"""The shape rules of the native runtime equal those of paretrim.graph.operations, on random shapes and attributes."""

import numpy as np
import pytest

from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import infer_shape
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

TRIALS = 400
WITH_A_RULE = sorted(name for name, operation in OPERATIONS.items() if operation.shape.__name__ != "same_shape")


def some(rng, *choices):
    return choices[rng.integers(len(choices))]


def extents(rng, count):
    """Small ones, so that often enough two of them agree."""
    return tuple(int(extent) for extent in rng.integers(1, 6, count))


def reached(nodes, shape, wanted):
    """Nodes that turn a value [C, H, W] into one of another shape; the name of the last."""
    if shape == wanted:
        return nodes[-1].name if nodes else INPUT
    size = (shape[0], *wanted[1:])
    nodes.append(Node("resized", "adaptive_avg_pool", (INPUT,), ValueType(size), {"output_size": wanted[1:]}))
    if wanted[0] > shape[0]:
        edges = {"before": (0, 0, 0), "after": (wanted[0] - shape[0], 0, 0)}
        nodes.append(Node("wider", "pad", ("resized",), ValueType(wanted), edges))
    elif wanted[0] < shape[0]:
        edges = {"axis": 0, "start": 0, "stop": wanted[0]}
        nodes.append(Node("narrower", "slice", ("resized",), ValueType(wanted), edges))
    return nodes[-1].name


def drawn_inputs(rng, op, first):
    """The shapes of the inputs, of which the first is [C, H, W] or its [C * H * W], and what makes them of the images."""
    nodes = []
    if op == "linear" or rng.random() < 0.15:
        flat = (int(np.prod(first)),)
        nodes.append(Node("flat", "flatten", (INPUT,), ValueType(flat)))
        return [flat] * (OPERATIONS[op].arity or 1), ["flat"] * (OPERATIONS[op].arity or 1), nodes
    count = OPERATIONS[op].arity or int(rng.integers(1, 3))
    if count == 1:
        return [first], [INPUT], nodes
    channels, height, width = first
    second = some(rng, first, (channels, 1, 1), (channels, width, height), (channels + 1, height, width), extents(rng, 3))
    second_name = reached(nodes, first, second)
    return (*some(rng, ([first, second], [INPUT, second_name]), ([second, first], [second_name, INPUT])), nodes)


def just_above(rng, least):
    return int(least + rng.integers(0, 4) * rng.integers(0, 2))


def drawn_attributes(rng, op, shape):
    attributes = {}
    for name, rule in OPERATIONS[op].attributes.items():
        if name in ("lo", "hi") or not (rule.ships and (rule.required or rng.random() < 0.6)):
            continue
        smallest = rule.minimum - int(rng.random() < 0.02)
        if rule.kind == "int":
            drawn = just_above(rng, smallest)
            attributes[name] = some(rng, drawn, int(some(rng, *shape))) if name in ("stop", "groups") else drawn
        elif rule.kind == "ints":
            attributes[name] = tuple(just_above(rng, smallest) for _ in range(rule.length))
    return attributes


def drawn_tensors(rng, op, shape, attributes):
    if op == "linear":
        features = int(np.prod(shape))
        return {"weight": np.zeros((int(rng.integers(1, 4)), some(rng, features, features, features + 1)), np.float32)}
    if op != "conv2d":
        return {}
    groups = max(int(attributes.get("groups", 1)), 1)
    outputs, depth = some(rng, groups * 2, groups, int(rng.integers(1, 5))), some(rng, shape[0] // groups, shape[0])
    return {"weight": np.zeros((outputs, max(depth, 1), *rng.integers(1, 4, 2)), np.float32)}


def graph_of(node, before, shape, computed):
    """A graph whose outputs are the value and a relu of it."""
    typed = Node("n", node.op, node.inputs, ValueType(computed), node.attributes, node.tensors)
    after = Node("after", "relu", ("n",), ValueType(computed))
    return Graph(InputSpec(shape), (*before, typed, after), ("n", "after"))


@pytest.mark.parametrize("op", WITH_A_RULE)
def test_the_shape_rules_of_both_languages_agree(op):
    rng = np.random.default_rng(OPERATIONS[op].number)
    accepted = refused = 0
    for _ in range(TRIALS):
        first = extents(rng, 3)
        shapes, names, before = drawn_inputs(rng, op, first)
        attributes = drawn_attributes(rng, op, shapes[0])
        node = Node("n", op, tuple(names), ValueType(()), attributes, drawn_tensors(rng, op, shapes[0], attributes))
        try:
            computed = infer_shape(op, attributes, shapes, node.tensors)
        except UnsupportedOperation:
            with pytest.raises(UnsupportedOperation, match=op):
                native.check(graph_of(node, before, first, (1,)))
            refused += 1
        else:
            native.check(graph_of(node, before, first, computed))
            other = (*computed[:-1], computed[-1] + 1)
            with pytest.raises(CorruptFile, match="and its operation computes"):
                native.check(graph_of(node, before, first, other))
            accepted += 1
    assert accepted > TRIALS / 10
    assert refused > TRIALS / 20 or op == "flatten"
