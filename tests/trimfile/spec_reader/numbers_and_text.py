"""Numbers and text: floats, integers, bytes and the records of text."""

from __future__ import annotations

import numpy as np

from paretrim.graph.types import InputSpec
from spec_reader.container import Record
from spec_reader.cursor import require
from spec_reader.stream import STEADY, Key, Model, Stream, tree, wrapped
from spec_reader.structure import FLOATS, Layer, Tensor


def text_record(record: Record) -> bytes:
    """The bytes of a structure or a provenance."""
    require(record.decoded <= 2**18 + 2**7 * record.stored, f"it would take {record.decoded} bytes of text")
    if record.coding == 1:
        stream = Stream(record.data)
        text = read_text(stream, record.decoded)
        stream.end()
        return text
    require(len(record.data) == record.decoded, f"it holds {len(record.data)} bytes but claims {record.decoded}")
    return record.data


def short_of(bits: int, element: str) -> int:
    """The bits of a number in its own type, from those of its float32."""
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
    """The predicted bytes of a pixel table; None for other tensors."""
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
