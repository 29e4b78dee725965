"""The neutral form between training and deployed files: a network as plain values, NumPy only.

A :class:`Graph` is a list of nodes in topological order. A node produces exactly one value, which carries the node's name; a
value has a :class:`ValueType`. The same types hold a float graph (every value float32) and an integer graph (activations
uint8, weights int8). What each operation computes, bit for bit, is written in ``docs/integer-graph.md`` and executed by
``paretrim.graph.interpreter``.

Shapes are written without the batch dimension: ``(C, H, W)`` or ``(F,)``. The batch size is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Array, Attribute, Dtype, Float64Array, FloatArray, InputSpec, IntArray, Node, ValueType
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED

__all__ = [
    "INPUT",
    "Array",
    "Attribute",
    "Dtype",
    "Float64Array",
    "FloatArray",
    "Graph",
    "InputSpec",
    "IntArray",
    "Node",
    "ValueType",
]

INPUT = "images"
"""Name of the one value that no node produces."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole network. ``outputs`` names the values it returns, in order; a classifier has one, the logits [N, classes].

    Other networks may return one map [N, C, H, W], or several values.

    While a network of several outputs trains, its values are named after layers, and ``output_names`` says what the user calls
    the outputs. In a deployed graph and its files ``outputs`` are these names (:func:`paretrim.graph.outputs.with_user_names`).
    """

    input: InputSpec
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {INPUT}
        for node in self.nodes:
            if node.op not in OPERATIONS:
                raise UnsupportedOperation(
                    f"node '{node.name}' (layer '{node.layer}') has operation '{node.op}'; known are "
                    f"{', '.join(sorted(OPERATIONS))}"
                )
            missing = [name for name in node.inputs if name not in known]
            if missing:
                raise UnsupportedOperation(
                    f"node '{node.name}' reads {missing}, which no earlier node produces; put that node first"
                )
            if node.name in known:
                raise UnsupportedOperation(f"two nodes are named '{node.name}'; names must be unique")
            known.add(node.name)
        if not self.outputs:
            raise UnsupportedOperation("the network has no outputs; name at least one value that it returns")
        for name in self.outputs:
            if name not in known:
                raise UnsupportedOperation(f"the output '{name}' is produced by no node")
        if self.output_names and len({*self.output_names}) != len(self.outputs):
            raise UnsupportedOperation(
                f"the network has {len(self.outputs)} outputs and the names {', '.join(self.output_names)}; "
                "give each a name of its own"
            )

    @property
    def output(self) -> str:
        """The value that a network of one output returns.

        Raises:
            UnsupportedOperation: the network has several outputs.
        """
        if len(self.outputs) != 1:
            raise UnsupportedOperation(
                f"the network has {len(self.outputs)} outputs ({', '.join(self.outputs)}); this works for networks of one output"
            )
        return self.outputs[0]

    @property
    def returns_a_vector(self) -> bool:
        """Whether there is one output, a vector [N, K], as of every network that the first file formats knew."""
        return len(self.outputs) == 1 and len(self.output_shapes[0]) == 1

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of every output, without the batch."""
        types = self.types
        return tuple(types[name].shape for name in self.outputs)

    @property
    def types(self) -> dict[str, ValueType]:
        """Type of every value by name, the input included (pixels are uint8 on the grid 1/255)."""
        pixels = self.input.takes_pixels
        first = ValueType(self.input.shape, "uint8", float(np.float32(1 / 255)), 0) if pixels else ValueType(self.input.shape)
        return {INPUT: first} | {node.name: node.type for node in self.nodes}

    @property
    def quantized(self) -> bool:
        """Whether any convolution or linear layer computes in integers."""
        types = self.types
        return any(types[n.inputs[0]].quantized for n in self.nodes if n.op in WEIGHTED)

    @property
    def multiply_adds(self) -> int:
        """Of one image in its convolutions and linear layers."""
        layers = (node for node in self.nodes if node.op in WEIGHTED)
        return sum(node.type.size * int(np.prod(node.tensors["weight"].shape[1:])) for node in layers)

    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """Nodes that read each value."""
        result: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                result[name].append(node)
        return {name: tuple(nodes) for name, nodes in result.items()}
