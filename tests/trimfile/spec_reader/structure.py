"""Structure: the network without the elements of its tensors."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paretrim.graph.types import Array, Attribute, Graph, InputSpec, Node, ValueType
from spec_reader.cursor import Bytes, named, require

OPERATIONS = (
    "normalize", "quantize", "dequantize", "conv2d", "linear", "batch_norm", "relu", "clamp", "pointwise", "add", "mul",
    "concat", "slice", "pad", "channel_shuffle", "flatten", "unflatten", "dropout", "max_pool", "avg_pool",
    "adaptive_avg_pool", "matmul", "pixel_shuffle", "pixel_unshuffle"
)  # fmt: skip
KEYS = (
    "after", "axis", "before", "beta", "bias", "constant", "count_padding", "dilation", "epsilon", "function", "gamma",
    "groups", "hi", "lo", "maximum", "mean", "minimum", "multiplier", "offset", "output_size", "padding", "probability",
    "start", "step", "stop", "stride", "table", "variance", "weight", "weight_scale", "window"
)  # fmt: skip
ELEMENTS = ("<f4", "u1", "i1", "<i4", "<f2", "<u2")
"""A bfloat16 is held as its bits."""

FLOATS = {"<f4": 20, "<f2": 7, "<u2": 4}
"""Types of floats, and bits of their mantissas behind the upper three."""


@dataclass
class Tensor:
    """One tensor; its elements are added later, in order."""

    name: str
    element: str
    shape: tuple[int, ...]
    elements: list[Any] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of its elements."""
        return self.count * np.dtype(self.element).itemsize

    @property
    def large(self) -> bool:
        """Whether its rows are in the records of weights."""
        return (self.element == "i1" or self.element in FLOATS) and len(self.shape) >= 2

    def array(self) -> Array:
        """The elements as NumPy holds them; floats were kept as their bits, and int8 may have been as bytes."""
        held = bits_of(self.element)
        return np.array(self.elements, np.int64).astype(held).view(self.element).reshape(self.shape)


def bits_of(element: str) -> str:
    """The type of stored elements: floats are kept as their bits."""
    return element.replace("f", "u")


@dataclass
class Layer:
    """One node of the structure. ``inputs`` are numbers of values, ``source`` the type of the first."""

    name: bytes
    operation: str
    layer: bytes
    inputs: tuple[int, ...]
    type: ValueType
    source: ValueType | None
    attributes: dict[str, Attribute]
    tensors: dict[str, Tensor]


@dataclass
class Structure:
    """The whole record."""

    input: InputSpec
    layers: list[Layer]
    outputs: tuple[int, ...]
    classes: tuple[str, ...]
    types: list[ValueType]

    def tensors(self, *, large: bool) -> list[tuple[Layer, Tensor]]:
        """All large tensors, or all others."""
        return [(layer, tensor) for layer in self.layers for tensor in layer.tensors.values() if tensor.large == large]

    def graph(self) -> Graph:
        """The graph, after all elements are read."""
        names = ["images", *(layer.name.decode() for layer in self.layers)]
        nodes = tuple(
            Node(
                layer.name.decode(),
                layer.operation,
                tuple(names[value] for value in layer.inputs),
                layer.type,
                layer.attributes,
                {name: tensor.array() for name, tensor in layer.tensors.items()},
                layer.layer.decode(),
            )
            for layer in self.layers
        )
        return Graph(self.input, nodes, tuple(names[output] for output in self.outputs), self.classes)


def read_structure(content: bytes, version: int) -> Structure:
    """The structure from its decoded bytes."""
    file = Bytes(content)
    shape = read_shape(file)
    mean, std = read_reals(file), read_reals(file)
    # Pixels have the grid 1 / 255.
    types = [ValueType(shape, "uint8", float(np.float32(1 / 255))) if std else ValueType(shape)]
    layers: list[Layer] = []
    names_bytes = 0
    for index in range(file.varint(65536)):
        with named(f"node {index}"):
            layers.append(read_node(file, types, layers[-1].name if layers else b""))
            names_bytes += len(layers[-1].name) + len(layers[-1].layer)
            require(names_bytes <= 2**24, "names have over 2^24 bytes")
        types.append(layers[-1].type)
    names = {b"images", *(layer.name for layer in layers)}
    require(len(names) == len(layers) + 1, "two values have one name")
    several = file.varint(len(layers)) if version > 2 else 1
    outputs = tuple(file.varint(len(layers)) for _ in range(several))
    vector = several == 1 and len(types[outputs[0]].shape) == 1
    require(
        several > 0 and version in (5, 6, 7, version_for(layers, vector=vector)),
        f"it is of version {version}, and should be of another",
    )
    classes = tuple(file.text().decode() for _ in range(file.varint(2**20)))
    file.end()
    return Structure(InputSpec(shape, mean, std), layers, outputs, classes, types)


def version_for(layers: list[Layer], *, vector: bool) -> int:
    """The version of a file with these nodes; ``vector`` if its only output has one axis."""
    short = any(tensor.element in ("<f2", "<u2") for layer in layers for tensor in layer.tensors.values())
    return 4 if short or any(widens(layer) for layer in layers) else 2 if vector else 3


def widens(layer: Layer) -> bool:
    """Whether a layer on floats has a weight of another type than float32."""
    on_floats = layer.operation in ("conv2d", "linear") and layer.source is not None and not layer.source.quantized
    return on_floats and "weight" in layer.tensors and layer.tensors["weight"].element != "<f4"


def read_shape(file: Bytes) -> tuple[int, ...]:
    """A shape."""
    shape = tuple(file.varint(2**31 - 1) for _ in range(file.varint(8)))
    require(math.prod(extent for extent in shape if extent) <= 2**31 - 1, f"the shape {shape} has too many elements")
    return shape


def read_reals(file: Bytes) -> tuple[float, ...]:
    """A count, then that many reals."""
    return tuple(read_real(file) for _ in range(file.varint(65536)))


def read_real(file: Bytes) -> float:
    """A float64."""
    form = file.byte(2)
    if form == 2:
        return float(struct.unpack("<d", file.take(8))[0])
    decimals = file.byte(15) if form == 1 else 0
    return float(file.zigzag()) / float(10**decimals)


def read_node(file: Bytes, types: list[ValueType], before: bytes) -> Layer:
    """The next node, behind values of these types and a node of this name."""
    operation = OPERATIONS[file.byte(len(OPERATIONS) - 1)]
    flags = file.byte(31)
    name = read_name(file, before)
    layer = name if flags & 1 else read_name(file, name)
    last = len(types) - 1
    inputs = (last,) if flags & 2 else tuple(last - file.varint(last) for _ in range(file.varint(1024)))
    source = types[inputs[0]] if inputs else None
    require(source is not None or not flags & 8, "it has the shape of its input, and no input")
    shape = source.shape if source and flags & 8 else read_shape(file)
    if not flags & 16:
        scale, zero_point = float(struct.unpack("<f", file.take(4))[0]), file.zigzag(32)
    elif flags & 4:
        require(source is not None, "it has the grid of its input, and no input")
        scale, zero_point = (source.scale, source.zero_point) if source else (1.0, 0)
    else:
        scale, zero_point = 1.0, 0
    kind = ValueType(shape, "uint8" if flags & 4 else "float32", scale, zero_point)
    attributes = {key: read_attribute(file) for key in keys(file)}
    tensors = {key: Tensor(key, ELEMENTS[file.byte(5)], read_shape(file)) for key in keys(file)}
    return Layer(name, operation, layer, inputs, kind, source, attributes, tensors)


def read_name(file: Bytes, before: bytes) -> bytes:
    """A name that may share its first bytes with another."""
    name = before[: file.varint(len(before))] + file.text()
    require(len(name) <= 4096, "a name is longer than 4096 bytes")
    name.decode()
    return name


def keys(file: Bytes) -> Iterator[str]:
    """A count, then that many keys in order; the caller reads what follows each key."""
    last = b""
    for index in range(file.varint(32)):
        number = file.varint(len(KEYS))
        key = KEYS[number - 1].encode() if number else file.text()
        require(index == 0 or key > last, "its keys are not in order")
        yield key.decode()
        last = key


def read_attribute(file: Bytes) -> Attribute:
    """One attribute's kind and value."""
    kind = file.byte(4)
    if kind == 0:
        return file.zigzag()
    if kind == 1:
        return read_real(file)
    if kind == 2:
        return bool(file.byte(1))
    if kind == 3:
        return file.text().decode()
    return tuple(file.zigzag() for _ in range(file.varint(64)))
