"""Collects the operations and constants of an ONNX file, without the onnx package. Keeps quantized and real values apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from paretrim.errors import InvalidRecipe, UnsupportedOperation
from paretrim.graph.groups import groups_of
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Array, Float64Array, Graph, Node, ValueType
from paretrim.trimfile.provenance import normalisation_facts
from paretrim.visible import brief

FLOAT = 1
"""``TensorProto.FLOAT``, fixed by the ONNX standard."""

OnnxAttribute = int | float | str | list[int]


@dataclass(frozen=True)
class OnnxOperation:
    """One ONNX operation with one output."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, OnnxAttribute]


WIDTH = 4
"""Bits of a stored integer."""


@dataclass(frozen=True)
class FourBits:
    """Storage of 4-bit weights.

    ``block`` is the number of input channels that share a scale; 0 means one scale per output channel, which is also used for
    layers whose input channels ``block`` does not divide, because OpenVINO 2026.4 refuses them. Weights on the grid ``grouped``
    have their own scales in every block, if ``block`` divides their groups; all blocks of other weights have their output
    channel's scale, which only gives the form that runtimes with 4-bit kernels expect.
    """

    block: int = 0

    def __post_init__(self) -> None:
        if self.block < 0:
            raise InvalidRecipe(f"block is {self.block}; give at least 1 input channel, or 0 for one scale per output channel")

    def split(self, weight: Array) -> tuple[Array, Float64Array] | None:
        """Integers from -8 to 7 of the shape of an int8 weight [Co, Ci, ...], and the multiples of their blocks [Co, Ci / block].

        Of a weight without blocks there is one multiple for each output channel, [Co]. None if a weight does not fit.
        """
        outputs, inputs = weight.shape[:2]
        blocks = inputs // self.block if self.block and inputs % self.block == 0 else 0
        if weight.min(initial=0) >= -8 and weight.max(initial=0) <= 7:
            return weight, np.ones((outputs, blocks) if blocks else outputs)
        groups = groups_of(weight) if blocks else None
        if groups is None or groups.bits > WIDTH or (groups.size % self.block and groups.size < inputs):
            return None
        return groups.small, groups.multiples[:, :: self.block].astype(np.float64)


@dataclass(frozen=True)
class Writer:
    """An ONNX file under construction.

    ``types`` are the types of the graph's values, which keep their names in the file; ``makers`` are the operations that compute
    them. ``packed`` names the constants that are stored in four bits, ``brain`` those that hold the bits of bfloat16.
    """

    types: Mapping[str, ValueType]
    makers: Mapping[str, str]
    operations: list[OnnxOperation] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    four_bits: FourBits | None = None
    packed: set[str] = field(default_factory=set)
    brain: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    real_names: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        output: str,
        attributes: Mapping[str, OnnxAttribute] | None = None,
        *,
        name: str = "",
    ) -> str:
        """Append an operation and return the name of its output.

        Raises:
            UnsupportedOperation: the name is taken, because one node's name is another's with an inner name behind it.
        """
        if output in self.outputs or output in self.constants:
            raise _clash(output)
        self.outputs.add(output)
        self.operations.append(OnnxOperation(name or output, op, tuple(inputs), output, dict(attributes or {})))
        return output

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Store a constant and return its name. Storing the same constant again is allowed.

        Raises:
            UnsupportedOperation: the name is taken, because one node's name is another's with an inner name behind it.
        """
        if name in self.outputs:
            raise _clash(name)
        self.constants[name] = np.asarray(value, dtype=dtype)
        return name

    def packed_constant(self, name: str, value: npt.ArrayLike) -> str:
        """Store integers from -8 to 7 in four bits each and return the constant's name."""
        self.packed.add(name)
        return self.constant(name, value, np.int8)

    def brain_constant(self, name: str, bits: npt.ArrayLike) -> str:
        """Store bfloat16 values, given as bits, and return the constant's name."""
        self.brain.add(name)
        return self.constant(name, bits, np.uint16)

    def indices(self, name: str, value: Sequence[int]) -> str:
        """Store a constant list of indices as int64, which ONNX requires."""
        return self.constant(name, value, np.int64)

    def real(self, name: str) -> str:
        """Name of a value as float32, dequantized at its first use."""
        if name not in self.real_names:
            kind = self.types[name]
            self.real_names[name] = self.dequantize(name, f"{name}/real", kind) if kind.quantized else name
        return self.real_names[name]

    def alias(self, name: str, real: str) -> None:
        """Make ``name`` an alias of a real value that already has another name."""
        self.real_names[name] = real

    def dequantize(self, quantized: str, output: str, kind: ValueType) -> str:
        """Dequantize uint8 to float32 with the grid of ``kind``."""
        return self.add("DequantizeLinear", [quantized, *self._grid(quantized, kind, output)], output)

    def quantize(self, real: str, output: str, kind: ValueType) -> str:
        """Quantize float32 to uint8 with the grid of ``kind``."""
        return self.add(
            "QuantizeLinear", [real, *self._grid(output, kind, f"{output}/quantize")], output, name=f"{output}/quantize"
        )

    def rounded(self, name: str, output: str) -> str:
        """A quantized value as float32 after a second QuantizeLinear to its own grid, named ``output``; values stay the same."""
        grid = self._grid(name, self.types[name], output)
        self.add("QuantizeLinear", [self.real(name), *grid], output)
        return self.add("DequantizeLinear", [output, *grid], f"{output}/real")

    def finish(
        self,
        node: Node,
        op: str,
        inputs: Sequence[str],
        attributes: Mapping[str, OnnxAttribute] | None = None,
        *,
        scale: float | None = None,
    ) -> None:
        """Append the last operation of a node; its result, clamped and quantized as in the graph, gets the node's name.

        ``scale`` replaces the scale of the result, from which it differs slightly (:mod:`paretrim.deploy.onnx_sums`).

        QuantizeLinear saturates, which is a clamp to the whole grid. A narrower clamp is written after a first QuantizeLinear, so
        that runtimes still fuse the operation; the result is the same.
        """
        if not node.type.quantized:
            self.add(op, inputs, node.name, attributes)
            return
        result = self.add(op, inputs, f"{node.name}/float", attributes, name=node.name)
        kind = node.type if scale is None else replace(node.type, scale=scale)
        settings = settings_of(node).values
        low, high = settings.get("lo", 0), settings.get("hi", 255)
        assert isinstance(low, int)
        assert isinstance(high, int)
        if (low, high) != (0, 255):
            wide = self.quantize(result, f"{node.name}/unclamped", kind)
            real = self.dequantize(wide, f"{node.name}/unclamped/real", kind)
            # The ends of the grid are not written as bounds, because OpenVINO 2026.4 would move them inwards by a step.
            bounds = {"low": low if low > 0 else None, "high": high if high < 255 else None}
            names = [
                "" if bound is None else self.constant(f"{node.name}/{name}", (bound - kind.zero_point) * kind.scale)
                for name, bound in bounds.items()
            ]
            result = self.add("Clip", [real, *names], f"{node.name}/clamped")
        self.quantize(result, node.name, kind)

    def _grid(self, name: str, kind: ValueType, own: str) -> tuple[str, str]:
        """Constants of a grid. All uses of ``name`` on its own grid share them, because OpenVINO then rounds more exactly."""
        holder = name if kind.scale == self.types.get(name, kind).scale else own
        scale, zero_point = f"{holder}/scale", f"{holder}/zero_point"
        self.constant(scale, kind.scale)
        self.constant(zero_point, kind.zero_point, np.uint8)
        return scale, zero_point


def _clash(name: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"two values of the ONNX file would be named '{name}'; rename the node of that name")


def graph_facts(graph: Graph) -> dict[str, str]:
    """What the metadata of an ONNX file say of a graph: the names of its classes, a line each, and how it normalises pixels.

    What is unknown is left out: without classes, or for a graph that takes normalised images.

    Raises:
        UnsupportedOperation: a name has a line break, so that readers would see two classes.
    """
    broken = next((name for name in graph.classes if "\n" in name), None)
    if broken is not None:
        raise UnsupportedOperation(
            f"class name {brief(broken)} has a line break, and an ONNX file holds the names as lines; rename the class, or use "
            "the .trim file"
        )
    classes = {"classes": "\n".join(graph.classes)} if graph.classes else {}
    return classes | (normalisation_facts(graph.input.mean, graph.input.std) if graph.input.takes_pixels else {})
