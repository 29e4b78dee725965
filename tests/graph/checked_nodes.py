"""Graphs of one node, for tests of refusals."""

import numpy as np

from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

f32 = np.float32

BYTE = ValueType((2, 4, 4), "uint8", 0.5, 3)
WEIGHT = {"weight": np.ones((3, 2, 3, 3), np.int8), "weight_scale": np.ones(3, f32), "bias": np.zeros(3, np.int32)}


def one(op="conv2d", kind=None, attributes=None, tensors=None, source=BYTE, inputs=("x",), name="n"):
    """A graph with one node under test, on a uint8 (or float) input, that validates with the defaults."""
    if kind is None:
        kind = ValueType((3, 2, 2), "uint8", 0.5, 0)
    tensors = WEIGHT if tensors is None else tensors
    if source.quantized:
        nodes = [Node("x", "quantize", (INPUT,), source)]
        node = Node(name, op, inputs, kind, attributes or {}, tensors, "layers.0")
    else:
        nodes = []
        node = Node(name, op, tuple(INPUT if i == "x" else i for i in inputs), kind, attributes or {}, tensors, "layers.0")
    nodes.append(node)
    last = name
    if kind.quantized:
        nodes.append(Node("real", "dequantize", (name,), ValueType(kind.shape)))
        last = "real"
    nodes.append(Node("flat", "flatten", (last,), ValueType((kind.size,))))
    return Graph(InputSpec(source.shape), tuple(nodes), ("flat",))


OUT = ValueType((3, 2, 2), "uint8", 0.5, 0)
SAME = ValueType((2, 4, 4), "uint8", 0.5, 3)
