"""A second reader of the ``.trim`` file, written from its ``SPEC.md`` alone: what that page does not say, it cannot know.

It shares no line with the native reader, takes its time (a second for some thirty thousand weights), and is meant for small
files. The headings are those of the page.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paretrim.errors import ParetrimError
from paretrim.graph.checks import validate
from paretrim.graph.types import Array, Attribute, Graph, InputSpec, Node, ValueType


class File(NamedTuple):
    """What a file holds; ``provenance`` is the object of its record, None where there is none."""

    graph: Graph
    provenance: dict[str, Any] | None


def read(content: bytes) -> File:
    """Everything in a file, whose graph keeps the rules of its operations.

    Raises:
        ValueError: the bytes are no file that the page allows; the message begins with the record.
    """
    file = decode(content)
    try:
        validate(file.graph)
    except ParetrimError as error:
        raise ValueError(f"record 0 (structure): {error}") from error
    return file


def decode(content: bytes) -> File:
    """Everything in a file that is well-formed, whatever its graph computes.

    Raises:
        ValueError: as from :func:`read`.
    """
    with named("header"):
        records = split(content)
    of_kind = {kind: [record for record in records if record.kind == kind] for kind in KINDS}
    with named(of_kind[1][0].name):
        structure = read_structure(text_record(of_kind[1][0]), version_of(Bytes(content)))
        check_budget(structure, len(content))
    provenance = None
    for record in of_kind[2]:
        with named(record.name):
            provenance = read_provenance(text_record(record))
    with named(of_kind[3][0].name):
        read_parameters(of_kind[3][0], structure)
    pieces = deal(of_kind[4], structure)
    for record, dealt in zip(of_kind[4], pieces, strict=True):
        with named(record.name):
            read_weights(record, dealt)
    with named(of_kind[1][0].name):
        return File(structure.graph(), provenance)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors within say in which record they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def require(condition: bool, message: str) -> None:
    """Refuse the file unless a condition holds."""
    if not condition:
        raise ValueError(message)


class Bytes:
    """Bytes that are read from the front."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        require(count <= len(self.content) - self.at, f"it is cut off at {self.at}: {count} bytes more were to come")
        self.at += count
        return self.content[self.at - count : self.at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.content) - self.at)

    def byte(self, most: int = 255) -> int:
        """One byte, up to a limit."""
        value = self.take(1)[0]
        require(value <= most, f"the byte before {self.at} is {value}, above {most}")
        return value

    def varint(self, most: int = 2**64 - 1) -> int:
        """A varint, up to a limit."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        require((byte != 0 or shift == 7) and value < 2**64, f"the number before {self.at} is not in its shortest form")
        require(value <= most, f"the number before {self.at} is {value}, above {most}")
        return value

    def zigzag(self, bits: int = 64) -> int:
        """A signed integer of so many bits."""
        value = self.varint(2**bits - 1)
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def text(self) -> bytes:
        """A text, as the bytes of its UTF-8."""
        return self.take(self.varint(4096))

    def end(self) -> None:
        """Nothing may be left."""
        require(self.at == len(self.content), f"{len(self.content) - self.at} bytes stand behind its end")


# ---- Container

MAGIC = bytes.fromhex("895452494d0d0a1a")
VERSIONS = (2, 3, 4, 5, 6)
KINDS = {1: "structure", 2: "provenance", 3: "parameters", 4: "weights"}


@dataclass
class Record:
    """One line of the table, and its stored bytes without the first."""

    name: str
    kind: int
    rows: int
    decoded: int
    stored: int
    digest: bytes
    coding: int = 0
    data: bytes = b""


def version_of(file: Bytes) -> int:
    """The version of a file, read from its beginning."""
    require(file.take(8) == MAGIC, "it does not begin as a trim file")
    version = file.varint()
    require(version in VERSIONS, f"its version is {version}, and this reader knows {VERSIONS}")
    return version


def split(content: bytes) -> list[Record]:
    """The records, their digests and the seal checked."""
    file = Bytes(content)
    version = version_of(file)
    records = [table_line(file, index) for index in range(file.varint(8192))]
    sealed = content[: file.at]
    require(file.take(32) == hashlib.sha256(sealed).digest(), "its seal is not the digest of what stands before it")
    kinds = [record.kind for record in records]
    require(kinds == sorted(kinds), "its records stand in another order than their kinds")
    require(kinds.count(1) == kinds.count(3) == 1 and kinds.count(2) <= 1, f"its records are of the kinds {kinds}")
    require(sum(record.decoded for record in records) <= 2**32, "its records hold more than 2^32 bytes")
    for record in records:
        with named(record.name):
            stored = file.take(record.stored)
            require(hashlib.sha256(stored).digest() == record.digest, "its SHA-256 is another")
            require(len(stored) > 0, "it has no bytes")
            record.coding, record.data = stored[0], stored[1:]
            known = {5: 3, 6: 4}.get(version, 2) if record.kind == 4 else 1
            require(record.coding <= known, f"its coding is {record.coding}, which is reserved")
    file.end()
    codings = {record.coding for record in records if record.kind == 4}
    require(version != 5 or 3 in codings, "it is of version 5 and has no tables")
    require(version != 6 or 4 in codings, "it is of version 6 and has no floats by exponents")
    return records


def table_line(file: Bytes, index: int) -> Record:
    """One record's line of the table."""
    kind = file.byte()
    require(kind in KINDS, f"record {index} has the unknown kind {kind}")
    rows = file.varint(2**32) if kind == 4 else 0
    decoded, stored = file.varint(2**32), file.varint(2**32)
    name = f"record {index} ({KINDS[kind]})"
    require(kind > 2 or decoded <= 2**22, f"{name}: it claims {decoded} bytes, above 2^22")
    require(decoded <= 2**17 * stored + 2**16, f"{name}: it claims {decoded} bytes from {stored}")
    return Record(name, kind, rows, decoded, stored, file.take(32))


def text_record(record: Record) -> bytes:
    """The bytes of a structure or a provenance."""
    require(record.decoded <= 2**18 + 2**7 * record.stored, f"it would take {record.decoded} bytes of text")
    if record.coding == 1:
        stream = Stream(record.data)
        text = read_text(stream, record.decoded)
        stream.end()
        return text
    require(len(record.data) == record.decoded, f"it holds {len(record.data)} bytes and claims {record.decoded}")
    return record.data


# ---- Structure

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
    """One tensor: at first what the structure says of it, then its elements, in order."""

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
    """How elements are held until they are all there: floats as their bits."""
    return element.replace("f", "u")


@dataclass
class Layer:
    """One node as it stands in the structure. ``inputs`` are numbers of values, ``source`` the type of the first."""

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
        """All tensors that are large, or all that are not."""
        return [(layer, tensor) for layer in self.layers for tensor in layer.tensors.values() if tensor.large == large]

    def graph(self) -> Graph:
        """The graph, once all tensors have their elements."""
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
    for index in range(file.varint(65536)):
        with named(f"node {index}"):
            layers.append(read_node(file, types, layers[-1].name if layers else b""))
        types.append(layers[-1].type)
    names = {b"images", *(layer.name for layer in layers)}
    require(len(names) == len(layers) + 1, "two values have one name")
    several = file.varint(len(layers)) if version > 2 else 1
    outputs = tuple(file.varint(len(layers)) for _ in range(several))
    vector = several == 1 and len(types[outputs[0]].shape) == 1
    require(
        several > 0 and version in (5, 6, version_for(layers, vector=vector)),
        f"it is of version {version}, and should be of another",
    )
    classes = tuple(file.text().decode() for _ in range(file.varint(2**20)))
    file.end()
    return Structure(InputSpec(shape, mean, std), layers, outputs, classes, types)


def version_for(layers: list[Layer], *, vector: bool) -> int:
    """The version that a file with these nodes has; ``vector`` where its one output has one axis."""
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
    """A count and as many reals."""
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
    """A name that shares its first bytes with another."""
    name = before[: file.varint(len(before))] + file.text()
    require(len(name) <= 4096, "a name is longer than 4096 bytes")
    name.decode()
    return name


def keys(file: Bytes) -> Iterator[str]:
    """A count, and as many keys in order, each before what belongs to it."""
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


# ---- Budget


def check_budget(structure: Structure, size: int) -> None:
    """What a file of so many bytes may take, by its structure."""
    last = {value: index for index, layer in enumerate(structure.layers) for value in layer.inputs}
    last |= dict.fromkeys(structure.outputs, len(structure.layers))
    parts = weights = sums = 0
    live = largest = value_bytes(structure.types[0])
    for index, layer in enumerate(structure.layers):
        parts += 1 + len(layer.inputs)
        weights += sum(tensor.bytes for tensor in layer.tensors.values()) + 16 * channels(layer.type)
        weights += 4 * layer.tensors["weight"].count - layer.tensors["weight"].bytes if widens(layer) else 0
        sums += multiply_adds(layer)
        live += value_bytes(layer.type)
        largest = max(largest, live)
        live -= sum(value_bytes(structure.types[value]) for value in set(layer.inputs) if last[value] == index)
        live -= value_bytes(layer.type) if index + 1 not in last else 0
    require(parts <= 2**14 + size / 64, f"it would take {parts} nodes and inputs")
    require(weights <= 2**24 + 2**11 * size, f"it would take {weights} bytes of weights and tables")
    require(largest <= 2**28, f"it would take {largest} bytes of values at once")
    require(sums <= 2**34 + 2**18 * size, f"it would take {sums} multiply-adds for one image")


def channels(kind: ValueType) -> int:
    """The first extent."""
    return kind.shape[0] if kind.shape else 1


def value_bytes(kind: ValueType) -> int:
    """Size of a value in memory: channels come in fours."""
    rest = math.prod(kind.shape[1:])
    return -(-channels(kind) // 4) * 4 * rest * (1 if kind.quantized else 4)


def multiply_adds(layer: Layer) -> int:
    """Work of one node."""
    elements = math.prod(layer.type.shape)
    if layer.operation in ("conv2d", "linear") and "weight" in layer.tensors:
        return layer.tensors["weight"].count * math.prod(layer.type.shape[1:])
    if layer.operation in ("max_pool", "avg_pool"):
        window = layer.attributes.get("window")
        return elements * math.prod(window) if isinstance(window, tuple) else elements
    if layer.operation == "adaptive_avg_pool" and layer.source:
        return max(elements, math.prod(layer.source.shape))
    if layer.operation == "matmul" and layer.source and len(layer.source.shape) == 3:
        return elements * layer.source.shape[2]
    return elements


# ---- Provenance


def read_provenance(content: bytes) -> dict[str, Any] | None:
    """The object, with exactly the keys that it should have."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "a key stands in it twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}")

    def whole(digits: str) -> int:
        require(-(2**63) <= int(digits) < 2**63, "a whole number leaves 64 bits")
        return int(digits)

    def finite(digits: str) -> float:
        require(math.isfinite(float(digits)), "a number is not finite")
        return float(digits)

    text = content.decode()
    if not text:
        return None
    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=whole, parse_float=finite)
        require(depth(found) <= 64, "it is nested more than 64 deep")
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    json.dumps(found, ensure_ascii=False).encode()  # halves of characters cannot be
    require(isinstance(found, dict) and type(found.get("format")) is int, "it has no format")
    require(found["format"] == 1, "it is of another format than 1")
    require(set(found) == {"format", "recipe", "history", "measured"}, f"its keys are {sorted(found)}")
    kinds = isinstance(found["recipe"], str), isinstance(found["history"], list), isinstance(found["measured"], dict)
    require(all(kinds), "its recipe is a text, its history a list, what was measured an object")
    require(all(isinstance(value, str | int | float) for value in found["measured"].values()), "a measure is no number or text")
    require(all(is_stage(stage) for stage in found["history"]), "a stage has other keys or values")
    return dict(found)


def depth(value: object) -> int:
    """Arrays and objects within each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def is_stage(stage: object) -> bool:
    """Whether an object of the history has exactly what it should."""
    numbers = "seconds", "sparsity", "accuracy_before", "accuracy_after"
    if not isinstance(stage, dict) or set(stage) != {"name", "settings", "epochs", "bits", *numbers}:
        return False
    finite = all(type(stage[key]) in (int, float) and abs(stage[key]) < math.inf for key in numbers)
    whole = all(type(stage[key]) is int for key in ("epochs", "bits"))
    return finite and whole and isinstance(stage["name"], str) and isinstance(stage["settings"], dict)


# ---- Parameters


def read_parameters(record: Record, structure: Structure) -> None:
    """The elements of all tensors that are not large."""
    small = structure.tensors(large=False)
    size = sum(tensor.bytes for _, tensor in small)
    require(size == record.decoded, f"it claims {record.decoded} bytes, and its tensors have {size}")
    if record.coding == 0:
        file = Bytes(record.data)
        for _, tensor in small:
            tensor.elements = np.frombuffer(file.take(tensor.bytes), bits_of(tensor.element)).tolist()
        file.end()
        return
    stream = Stream(record.data)
    numbers = Numbers(stream)
    for layer, tensor in small:
        bias = layer.tensors.get("bias")
        if tensor is bias and has_biases(layer):
            continue
        if tensor.element in FLOATS:
            tensor.elements = numbers.floats(tensor.count, tensor.element)
        elif tensor.element == "<i4":
            tensor.elements = numbers.integers(tensor.count)
        else:
            tensor.elements = numbers.bytes(tensor.count, predictions(structure.input, layer, tensor))
        if tensor.name == "weight_scale" and bias and has_biases(layer):
            bias.elements = numbers.biases(steps(layer, tensor))
    stream.end()


def has_biases(layer: Layer) -> bool:
    """Whether the node's bias is coded behind its weight_scale."""
    bias, scale = layer.tensors.get("bias"), layer.tensors.get("weight_scale")
    if bias is None or scale is None or layer.source is None or bias.element != "<i4" or scale.element != "<f4" or scale.large:
        return False
    return bias.count == scale.count and layer.type.quantized


# ---- Weights


@dataclass
class Piece:
    """Some rows of one large tensor; ``scales`` are the tensor's weight_scale, if it has one for every row."""

    tensor: Tensor
    first: int
    rows: int
    scales: list[int] | None

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.rows * math.prod(self.tensor.shape[1:])


def deal(records: list[Record], structure: Structure) -> list[list[Piece]]:
    """The pieces of every record."""
    pieces: list[list[Piece]] = [[] for _ in records]
    left = [record.rows for record in records]
    now = 0
    for layer, tensor in structure.tensors(large=True):
        scale = layer.tensors.get("weight_scale")
        fits = tensor.name == "weight" and scale is not None and scale.element == "<f4" and scale.count == tensor.shape[0]
        row = 0
        while row < tensor.shape[0]:
            while now < len(records) and left[now] == 0:
                now += 1
            require(now < len(records), "the records of weights hold fewer rows than the tensors have")
            rows = min(tensor.shape[0] - row, left[now])
            pieces[now].append(Piece(tensor, row, rows, scale.elements if scale and fits else None))
            row, left[now] = row + rows, left[now] - rows
    require(not any(left), "the records of weights hold more rows than the tensors have")
    for record, dealt in zip(records, pieces, strict=True):
        size = sum(piece.count * np.dtype(piece.tensor.element).itemsize for piece in dealt)
        require(size == record.decoded, f"{record.name}: it claims {record.decoded} bytes, and its tensors have {size}")
    return pieces


def read_weights(record: Record, pieces: list[Piece]) -> None:
    """The elements of one record's pieces."""
    if record.coding == 4:
        read_exponents(Bytes(record.data), [piece for piece in pieces if piece.count])
        return
    integers: Callable[[Piece], list[int]]
    symbols = None
    if record.coding != 2:
        stream = Stream(record.data)
        integers = IntegerWeights(stream, rich=record.coding > 0, tables=record.coding == 3).piece
    else:
        file = Bytes(record.data)
        stream = Stream(file.take(file.varint()))
        symbols = Symbols(file.rest())
        integers = FrequencyWeights(stream, symbols).piece
    numbers = Numbers(stream)
    for piece in pieces:
        if piece.count == 0:
            continue
        element = piece.tensor.element
        piece.tensor.elements += numbers.floats(piece.count, element) if element in FLOATS else integers(piece)
    stream.end()
    if symbols:
        symbols.end()


# ---- Coded stream

STEADY, MOBILE = 1023, 255
STEP = [16384 // (2 * n + 3) for n in range(1024)]
BEGIN = 2**21 << 10
STRETCH = [min(max(round(256 * math.log((i + 0.5) / (4095.5 - i))), -2047), 2047) for i in range(4096)]
SQUASH = {x: round(65536 / (1 + math.exp(-x / 256))) for x in range(-2047, 2048)}


class Stream:
    """A binary arithmetic decoder."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.words = struct.iter_unpack(">H", data + bytes(len(data) % 2))
        self.range = 2**48 - 1
        self.code = 0
        self.silent = 0
        for _ in range(3):
            self.code = self.code << 16 | self.word()

    def word(self) -> int:
        """The next word; behind the end, of which 64 bytes may be taken, it is 0."""
        word = next(self.words, None)
        if word is None:
            self.silent += 2
            require(self.silent <= 64, "its coded stream ends before its values do")
        return 0 if word is None else int(word[0])

    def end(self) -> None:
        """Nothing is left, and no zeros that say nothing."""
        whole = next(self.words, None) is None and not self.data.endswith(b"\0")
        require(whole, "its coded stream does not end where its values do")

    def fill(self) -> None:
        """Words until the range is wide enough."""
        while self.range < 2**32:
            self.code = (self.code << 16 | self.word()) & 2**64 - 1
            self.range <<= 16

    def bit(self, one: int) -> int:
        """A bit that is 1 with this probability."""
        bound = (self.range >> 16) * one
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        self.fill()
        return bit

    def raw(self, bits: int) -> int:
        """A number of so many bits, all equally likely."""
        if bits > 16:
            upper = self.raw(bits - 16)
            return upper << 16 | self.raw(16)
        self.range >>= bits
        value = min(self.code // self.range, (1 << bits) - 1)
        self.code -= value * self.range
        self.fill()
        return value


def learned(state: int, bit: int, limit: int) -> int:
    """A counter after a bit."""
    p, n = state >> 10, state & 1023
    return state + (n < limit) + ((((bit << 22) - p) >> 3) * STEP[n] & ~1023) & 2**32 - 1


def short_of(bits: int, element: str) -> int:
    """The bits of a number in its own type, from those of the float32 that it is."""
    if element == "<f4":
        return bits
    if element == "<u2":
        return bits >> 16
    with np.errstate(all="ignore"):
        number = np.array([bits], "<u4").view("<f4")
        short = number.astype("<f2")
        again = short.astype("<f4")
    special = bits >> 23 & 255 == 255  # NumPy may change a NaN
    found = bits >> 31 << 15 | 0x7C00 | bits >> 13 & 0x3FF if special else int(short.view("<u2")[0])
    require(special or again.tobytes() == number.tobytes(), "a number in it is no float16")
    return found


def wrapped(value: int, bits: int) -> int:
    """A signed integer of so many bits."""
    half = 1 << bits - 1
    return (value + half) % (2 * half) - half


def relaxed(state: int, most: int) -> int:
    """A counter that learns as fast as after so many bits."""
    return state & ~1023 | min(state & 1023, most)


Key = tuple[Any, ...]


class Model:
    """Counters and mixers, each under a name of its own; a mixer is its weights and its rate."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.counters: dict[Key, int] = {}
        self.mixers: dict[Key, tuple[Sequence[int], int]] = {}

    def counter(self, key: Key) -> int:
        """The state of a counter."""
        return self.counters.get(key, BEGIN)

    def plain(self, key: Key, limit: int = MOBILE) -> int:
        """A plain bit."""
        state = self.counter(key)
        bit = self.stream.bit(min(max(state >> 16, 32), 65504))
        self.counters[key] = learned(state, bit, limit)
        return bit

    def mixed(self, keys: Sequence[Key], mixer: Key, weight: int | Sequence[int], limits: Sequence[int] = (MOBILE,) * 5) -> int:
        """A mixed bit; the weights of the mixer are these at first, or all ``weight``."""
        states = [self.counter(key) for key in keys]
        inputs = [STRETCH[state >> 20] for state in states]
        weights, rate = self.mixers.get(mixer, ([weight] * len(keys) if isinstance(weight, int) else weight, 6144))
        logit = min(max(sum(w * s for w, s in zip(weights, inputs, strict=True)) >> 16, -2047), 2047)
        bit = self.stream.bit(SQUASH[logit])
        error = (bit * 65536 - SQUASH[logit]) * (rate >> 8) >> 4
        weights = [w + (s * error + 32768 >> 16) for w, s in zip(weights, inputs, strict=True)]
        self.mixers[mixer] = weights, rate - (rate - 512 >> 6)
        for key, state, limit in zip(keys, states, limits, strict=False):
            self.counters[key] = learned(state, bit, limit)
        return bit


def tree(bits: int, decide: Callable[[int, int], int]) -> int:
    """A number whose bits are decided from the highest, by node and number of the bit."""
    node = 1
    for number in range(bits):
        node = 2 * node + decide(node, number)
    return node - (1 << bits)


# ---- Numbers and text


class Numbers:
    """The number model of a record."""

    def __init__(self, stream: Stream) -> None:
        self.model = Model(stream)
        self.stream = stream
        self.last_is_zero = False
        self.last_exponent = self.last_sign = self.last_length = 0

    def floats(self, count: int, element: str) -> list[int]:
        """The bits of numbers of a type of floats."""
        raw = self.stream.raw(1) == 1
        return [short_of(self._float(FLOATS[element], raw), element) for _ in range(count)]

    def _float(self, rest: int, raw: bool) -> int:
        mixed, plain = self.model.mixed, self.model.plain
        self.last_is_zero = not plain(("float", self.last_is_zero))
        if self.last_is_zero:
            return 0
        before = self.last_exponent & 15
        exponent = tree(8, lambda node, i: mixed([("exponent", node), ("exponent", node, before)], ("exponent", i), 32768))
        self.last_sign = plain(("float sign", self.last_sign))
        mantissa = tree(3, lambda node, _: plain(("mantissa", exponent & 15, node), STEADY))
        if raw:
            mantissa = mantissa << rest | self.stream.raw(rest)
        else:
            bit = 0
            for k in range(rest):
                bit = plain(("low mantissa", k, bit))
                mantissa = 2 * mantissa + bit
        self.last_exponent = exponent
        return self.last_sign << 31 | exponent << 23 | mantissa << 20 - rest

    def integers(self, count: int) -> list[int]:
        """int32 numbers."""
        sign = 0
        values = []
        for _ in range(count):
            length = self._length()
            sign = self.model.plain(("integer sign", sign)) if length else sign
            magnitude = self._magnitude(length) if length else 0
            values.append(wrapped(-magnitude if sign else magnitude, 32))
        return values

    def _length(self) -> int:
        last, mixed = self.last_length, self.model.mixed
        self.last_length = tree(6, lambda node, i: mixed([("length", node), ("length", node, last)], ("length", i), 32768))
        return min(self.last_length, 32)

    def _magnitude(self, length: int) -> int:
        modelled = min(length - 1, 2)
        upper = tree(modelled, lambda node, _: self.model.plain(("integer", length, node)))
        left = length - 1 - modelled
        return (1 << modelled | upper) << left | self.stream.raw(left)

    def biases(self, shifts: list[int]) -> list[int]:
        """int32 numbers that may be multiples of these powers of two."""
        coarse = self.stream.raw(1)
        values = self.integers(len(shifts))
        if coarse:
            values = [wrapped(value << shift, 32) for value, shift in zip(values, shifts, strict=True)]
        return values

    def bytes(self, count: int, predicted: list[int] | None) -> list[int]:
        """Bytes, as differences from a prediction or the byte before."""
        values: list[int] = []
        classes = 0
        for i in range(count):
            kind, difference = self._difference(classes)
            classes = (classes * 4 + kind) % 256
            from_what = predicted[i] if predicted else values[-1] if values else 0
            values.append((from_what + difference) % 256)
        return values

    def _difference(self, classes: int) -> tuple[int, int]:
        for j, difference in enumerate((0, 1, 255)):
            if self.model.mixed([("last two", classes % 16, j), ("last four", classes, j)], ("byte", j), 32768):
                return j, difference
        return 3, tree(8, lambda node, _: self.model.plain(("byte", node)))


def steps(layer: Layer, scales: Tensor) -> list[int]:
    """The k of every bias."""
    assert layer.source is not None
    with np.errstate(all="ignore"):
        real = np.array(scales.elements, "<u4").view("<f4") * np.float32(layer.source.scale) / np.float32(layer.type.scale)
    exponents = (real.view("<u4") >> 23 & 255).astype(int) - 126
    return [int(k) for k in np.clip(-3 - exponents, 0, 31)]


def predictions(spec: InputSpec, layer: Layer, tensor: Tensor) -> list[int] | None:
    """What the bytes of a table of pixels probably are."""
    channels = len(spec.mean)
    table = layer.operation == "quantize" and layer.inputs == (0,) and tensor.name == "table"
    if not table or tensor.shape != (channels, 256) or len(spec.std) != channels:
        return None
    mean, std = np.array(spec.mean)[:, None], np.array(spec.std)[:, None]
    with np.errstate(all="ignore"):
        real = np.rint((np.arange(256) / 255 - mean) / std / layer.type.scale) + layer.type.zero_point
        return [int(one) for one in np.clip(np.nan_to_num(real), 0, 255).ravel()]


def read_text(stream: Stream, length: int) -> bytes:
    """Bytes by the text model."""
    model, text, last = Model(stream), bytearray(), 0

    def decide(node: int, _: int) -> int:
        return model.mixed([text_counter(order, last, node) for order in range(5)], (node,), 20000)

    for _ in range(length):
        text.append(tree(8, decide))
        last = (last << 8 | text[-1]) & 2**32 - 1
    return bytes(text)


def text_counter(order: int, last: int, node: int) -> Key:
    """The counter of a bit behind the last so many bytes."""
    c = last & 2 ** (8 * order) - 1
    m = (c * 0x85EBCA6B + order ^ node * 0x9E3779B1) & 2**32 - 1
    return order, (m ^ m >> 15) * 0x27D4EB2F % 2**32 >> 16


# ---- Integer weights

OF_A_PIECE = {"any block", "any weight", "row block", "row weight", "column", "channel", "sign channel", "listed"}
"""Counters that begin anew with every piece; the others are shared by all pieces."""


@dataclass
class Plan:
    """How a piece is coded."""

    channels: int
    height: int
    width: int
    blocks: int
    sided: int
    floor: np.float32
    low: int
    raw_signs: int
    table: list[int]

    @property
    def area(self) -> int:
        """Number of positions."""
        return self.height * self.width

    def classes(self) -> list[int]:
        """The class of every position."""
        return [at if self.area <= 9 else at * 9 // self.area for at in range(self.area)]


@dataclass
class Row:
    """A row that is being read: its values, those of the row before, and weights other than 0 in every block of both."""

    first: bool
    values: list[int]
    before: list[int]
    counts: list[int]
    counts_before: list[int]
    smallest: int
    mean: int
    seen: int = 8
    any: bool = False

    def note(self, magnitude: int) -> None:
        """A value more, for the mean: its magnitude, counted from the smallest as 1."""
        self.any = True
        self.seen = min(self.seen + 1, 255)
        change = 256 * magnitude - self.mean
        self.mean += abs(change) // self.seen * (1 if change > 0 else -1)


@dataclass
class Place:
    """What stands around a weight."""

    channel: int
    kind: int
    left: int
    above: int
    corner: int
    channel_before: int
    row_before: int

    def size(self) -> int:
        """How large the weights around are."""
        return 2 * abs(self.left) + 2 * abs(self.above) + abs(self.channel_before) + abs(self.row_before)

    def trend(self, area: int) -> int:
        """The class of the prediction."""
        t = 0 if area == 1 else 2 * self.left + 2 * self.above - self.corner
        size = min((abs(t) + 1).bit_length() - 1, 9)
        return -size if t < 0 else size

    def signs(self) -> tuple[int, ...]:
        """The signs around."""
        return tuple((value > 0) - (value < 0) for value in (self.left, self.above, self.channel_before))


class IntegerWeights:
    """The plain and the rich model of a record's integer weights, the rich one also with tables."""

    def __init__(self, stream: Stream, *, rich: bool, tables: bool) -> None:
        self.model = Model(stream)
        self.stream = stream
        self.rich = rich
        self.tables = tables

    def bit(self, keys: Sequence[Key], mixer: Key, weight: int, limits: Sequence[int]) -> int:
        """A bit of the rich model, or of the first of its counters alone."""
        return self.model.mixed(keys, mixer, weight, limits) if self.rich else self.model.plain(keys[0], limits[0])

    def piece(self, piece: Piece) -> list[int]:
        """All values of a piece."""
        shared = [(key, state) for key, state in self.model.counters.items() if key[0] not in OF_A_PIECE]
        self.model.counters = {key: relaxed(state, 60) for key, state in shared}
        plan = self.plan(piece)
        channels, floor = plan.channels, plan.floor
        mean, any_row = 20 * 256, False
        before, counts = [0] * (channels * plan.area), [0] * (-(-channels // 4) * plan.area)
        found: list[int] = []
        for number in range(piece.rows):
            smallest = 1 if piece.scales is None else smallest_of(floor, piece.scales[piece.first + number])
            row = Row(number == 0, [0] * len(before), before, [0] * len(counts), counts, smallest, mean)
            self.row(plan, row)
            if row.any:
                mean = (4 * mean + row.mean) // 5 if any_row else row.mean
                any_row = True
            before, counts = row.values, row.counts
            found += row.values
        return found

    def plan(self, piece: Piece) -> Plan:
        """What is said of a piece before its weights."""
        self.model.mixers = {key: mixer for key, mixer in self.model.mixers.items() if key[0] != "listed"}
        channels, *between = piece.tensor.shape[1:]
        width = between.pop() if between else 1
        listed = self.tables and self.stream.raw(1) == 1
        blocks = self.stream.raw(1)
        if listed:
            return Plan(channels, math.prod(between), width, blocks, 0, np.float32(0), 0, 0, self.table())
        sided = self.stream.raw(1)
        floor = np.array([self.stream.raw(16) << 16], "<u4").view("<f4")[0]
        return Plan(channels, math.prod(between), width, blocks, sided, floor, self.stream.raw(2), self.stream.raw(1), [])

    def table(self) -> list[int]:
        """The values of a piece that has a table."""
        missing = self.stream.raw(6) + 1
        found = []
        integers = [value for value in range(-128, 128) if value]
        for at, value in enumerate(integers):
            left = len(integers) - at
            if missing and (missing == left or self.stream.bit(missing * 65536 // left)):
                found.append(value)
                missing -= 1
        return found

    def row(self, plan: Plan, row: Row) -> None:
        """All values of a row."""
        counters, classes = self.model.counters, plan.classes()
        any_block, any_weight = self.model.counter(("any block",)), self.model.counter(("any weight",))
        counters["row block",] = relaxed(any_block, 6)
        for seen in range(4):
            counters["row weight", seen] = relaxed(any_weight, 6)
        for start in range(0, plan.channels, 4):
            members = range(start, min(start + 4, plan.channels))
            if row.first:
                for channel in members:
                    counters["channel", channel % 2**16] = relaxed(self.model.counter(("any weight",)), 3)
            for position in range(plan.area):
                self.block(plan, row, members, position, classes[position])

    def block(self, plan: Plan, row: Row, members: range, position: int, kind: int) -> None:
        """Up to four values of a position."""
        at = members.start // 4 * plan.area + position
        marked = bool(plan.blocks)
        if marked:
            column = ("column", at % 2**18)
            if row.first:
                self.model.counters[column] = relaxed(self.model.counter(("any block",)), 3)
            y, x = divmod(position, plan.width)
            four_before = row.counts[at - plan.area] if members.start else 0
            left, above = row.counts[at - 1] if x else 0, row.counts[at - plan.width] if y else 0
            around = ("around", kind, *(min(count, 2) for count in (four_before, row.counts_before[at], left, above)))
            limits = (STEADY, MOBILE, MOBILE, STEADY)
            if not self.bit((around, column, ("row block",), ("any block",)), ("block", kind), 22000, limits):
                return
        for i, channel in enumerate(members):
            place = place_of(plan, row, channel, position, kind)
            implied = marked and i == len(members) - 1 and row.counts[at] == 0
            if implied or self.is_weight(place, i, row.counts[at]):
                row.counts[at] += 1
                row.values[channel * plan.area + position] = self.value(plan, row, place)

    def is_weight(self, place: Place, i: int, seen: int) -> int:
        """Whether a value is not 0."""
        around = (place.left != 0, place.above != 0, place.channel_before != 0, place.row_before != 0)
        keys = (("near", i, seen, around, place.kind), ("channel", place.channel % 2**16), ("row weight", seen), ("any weight",))
        return self.bit(keys, ("weight", i, seen), 22000, (STEADY, MOBILE, MOBILE, STEADY))

    def value(self, plan: Plan, row: Row, place: Place) -> int:
        """A value other than 0."""
        if plan.table:
            return self.listed(plan, row, place)
        negative = side = agreement = 0
        if not plan.raw_signs:
            trend = place.trend(plan.area)
            keys = (
                ("sign", trend, place.signs()),
                ("sign at", place.kind),
                ("sign channel", place.channel % 2**16),
                ("sign", trend),
            )
            negative = self.bit(keys, ("sign",), 20000, (STEADY, STEADY, MOBILE, STEADY))
            side = plan.sided & negative
            agreement = -trend if negative else trend
        around = place.size()
        contexts = (("mean", d(8, row.mean), side), ("around size", d(2, around), side), ("agreement", agreement, side))

        def decide(node: int, number: int) -> int:
            if number < 4:
                return self.bit([(*context, node) for context in contexts], ("size", node), 26000, (STEADY,) * 3)
            return self.model.plain(("low size", side, node), STEADY)

        size = tree(7 - plan.low, decide) << plan.low
        if plan.low + plan.raw_signs:
            raw = self.stream.raw(plan.low + plan.raw_signs)
            size |= raw & 2**plan.low - 1
            negative |= raw >> plan.low
        row.note(size + 1)
        return wrapped(-(row.smallest + size) if negative else row.smallest + size, 8)

    def listed(self, plan: Plan, row: Row, place: Place) -> int:
        """A value of the table."""
        contexts = ((), ("mean", d(2, row.mean)), ("size", d(2, place.size())), ("trend", place.trend(plan.area)))

        def decide(node: int, _: int) -> int:
            keys = [("listed", node, *context) for context in contexts]
            return self.model.mixed(keys, ("listed", node), (30000, 12000, 12000, 12000), (STEADY,) * 4)

        at = tree((len(plan.table) - 1).bit_length(), decide)
        value = plan.table[min(at, len(plan.table) - 1)]
        row.note(abs(value))
        return value


def smallest_of(floor: np.float32, scale: int) -> int:
    """The smallest magnitude of a row whose scale has these bits."""
    with np.errstate(all="ignore"):
        s = np.float32(floor / np.array([scale], "<u4").view("<f4")[0])
    return min(math.ceil(min(float(s), 1000.0) - 0.5), 128) if s > 1.5 else 1


def place_of(plan: Plan, row: Row, channel: int, position: int, kind: int) -> Place:
    """What stands around a weight; 0 outside."""
    y, x = divmod(position, plan.width)
    at = channel * plan.area + position
    left, above = row.values[at - 1] if x else 0, row.values[at - plan.width] if y else 0
    corner = row.values[at - plan.width - 1] if x and y else 0
    return Place(channel, kind, left, above, corner, row.values[at - plan.area] if channel else 0, row.before[at])


def d(k: int, v: int) -> int:
    """About k times the logarithm of a number."""
    if v == 0:
        return 0
    e = v.bit_length() - 1
    return 1 + k * e + k * ((v << 3 >> e) & 7) // 8


# ---- Weights by frequencies

SHARES = 4096


class Symbols:
    """Eight states that take turns."""

    def __init__(self, data: bytes) -> None:
        require(len(data) >= 32 and len(data) % 2 == 0, f"its symbols take {len(data)} bytes")
        self.states = list(struct.unpack("<8I", data[:32]))
        require(min(self.states) >= 2**16, "its symbols begin with a state below 2^16")
        self.words = struct.iter_unpack("<H", data[32:])

    def run(self, count: int, shares: npt.NDArray[np.int64]) -> list[int]:
        """The next symbols, with these shares of the 256."""
        ends = np.cumsum(shares)
        symbols = []
        for i in range(count):
            state = self.states[i % 8]
            part = state % SHARES
            symbol = int(np.searchsorted(ends, part, side="right"))
            symbols.append(symbol)
            share = int(shares[symbol])
            state = share * (state >> 12) + part - (int(ends[symbol]) - share)
            if state < 2**16:
                word = next(self.words, None)
                require(word is not None, "its symbols end before its weights do")
                state = state << 16 | (word[0] if word else 0)
            self.states[i % 8] = state
        return symbols

    def end(self) -> None:
        """All words are taken and all states as at the writer's beginning."""
        done = next(self.words, None) is None and set(self.states) == {2**16}
        require(done, "its symbols do not end where its weights do")


class FrequencyWeights:
    """The frequencies of a record, and its integer weights by them."""

    def __init__(self, stream: Stream, symbols: Symbols) -> None:
        self.stream, self.symbols = stream, symbols
        self.masks = mask_shares(stream)
        self.values = value_shares(stream)
        self.models = Model(stream), Model(stream)
        self.before = [0, 0]

    def piece(self, piece: Piece) -> list[int]:
        """All values of a piece."""
        shape = (piece.tensor.shape[1], math.prod(piece.tensor.shape[2:]))
        found: list[int] = []
        for _ in range(piece.rows):
            masks = self.masks[self.kind(0, len(self.masks))]
            values = self.values[self.kind(1, len(self.values))]
            found += self.row(*shape, masks, values)
        return found

    def kind(self, which: int, kinds: int) -> int:
        """The kind of masks (0) or of values (1) of the next row."""
        if kinds == 1:
            return 0
        before, mixed = self.before[which], self.models[which].mixed
        kind = tree(5, lambda node, i: mixed([(node,), (node, before)], (i,), 32768))
        require(kind < kinds, f"a row in it is of kind {kind} of {kinds}")
        self.before[which] = kind
        return kind

    def row(self, channels: int, area: int, masks: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> list[int]:
        """All values of a row."""
        row = [0] * (channels * area)
        places = [(start, position) for start in range(0, channels, 8) for position in range(area)]
        for begin in range(0, len(places), 4096):
            run = places[begin : begin + 4096]
            marked = []
            for (start, position), mask in zip(run, self.symbols.run(len(run), masks), strict=True):
                require(mask >> min(channels - start, 8) == 0, "it marks a weight behind the last channel")
                marked += [(start + i) * area + position for i in range(8) if mask >> i & 1]
            for at, value in zip(marked, self.symbols.run(len(marked), values), strict=True):
                row[at] = value - 256 if value > 127 else value
        return row


def mask_shares(stream: Stream) -> list[npt.NDArray[np.int64]]:
    """The shares of the 256 masks, for every kind."""
    numbers = Numbers(stream)
    kinds: list[npt.NDArray[np.int64]] = []
    for kind in range(stream.raw(5) + 1):
        differences = np.array(numbers.integers(256), np.int64)
        shares = kinds[-1] + differences if kind else np.cumsum(differences)
        kinds.append(checked(shares, SHARES))
    return kinds


def value_shares(stream: Stream) -> list[npt.NDArray[np.int64]]:
    """The shares of the 256 values as bytes, for every kind."""
    numbers = Numbers(stream)
    kinds = []
    for _ in range(stream.raw(5) + 1):
        shares = checked(np.cumsum(np.array(numbers.integers(127), np.int64)), SHARES // 2)
        kinds.append(np.concatenate([[0], shares, [0], shares[::-1]]))
    return kinds


def checked(shares: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    """Shares of one kind that sum up to what they should."""
    require(bool(np.all((shares >= 0) & (shares <= total))), f"a frequency in it is not in 0..{total}")
    require(int(shares.sum()) == total, f"frequencies in it sum up to {int(shares.sum())} of {total}")
    return shares


# ---- Floats by exponents


def read_exponents(file: Bytes, pieces: list[Piece]) -> None:
    """The elements of a record's pieces, all of which have some."""
    require(all(piece.tensor.element in FLOATS for piece in pieces), "it is coded by exponents and holds integers")
    stream = Stream(file.take(file.varint()))
    symbols = Symbols(file.take(file.varint()))
    numbers = Numbers(stream)
    shares: npt.NDArray[np.int64] | None = None
    for piece in pieces:
        if shares is None or not stream.raw(1):
            shares = checked(np.cumsum(np.array(numbers.integers(256), np.int64)), SHARES)
        zeros = stream.raw(1) == 1
        size = np.dtype(piece.tensor.element).itemsize
        for begin in range(0, piece.count, 4096):
            for symbol in symbols.run(min(4096, piece.count - begin), shares):
                rest = 0 if zeros and symbol == 0 else int.from_bytes(file.take(size - 1), "little")
                turned = symbol << 8 * (size - 1) | rest
                piece.tensor.elements.append(turned >> 1 | (turned & 1) << 8 * size - 1)
    stream.end()
    symbols.end()
    file.end()
