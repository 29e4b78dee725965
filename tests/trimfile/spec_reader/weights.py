"""Weights: the elements of one record, in any coding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spec_reader.container import Record
from spec_reader.cursor import Bytes, require
from spec_reader.exponents import read_exponents
from spec_reader.frequencies import FrequencyWeights, Symbols
from spec_reader.groups import Groups, read_groups
from spec_reader.integer_weights import IntegerWeights
from spec_reader.numbers_and_text import Numbers
from spec_reader.pieces import Piece
from spec_reader.stream import Stream
from spec_reader.structure import FLOATS


def read_weights(record: Record, pieces: list[Piece]) -> int:
    """The elements of one record's pieces; the bytes of those other than 0, and the multipliers, that a model decoded."""
    pieces = [piece for piece in pieces if piece.count]
    if record.coding == 4:
        read_exponents(Bytes(record.data), pieces)
        return 0
    if record.coding != 5:
        return _read_modelled(record, pieces, [None] * len(pieces))
    file = Bytes(record.data)
    groups = read_groups(file, pieces)
    coding = file.byte()
    require(coding <= 3, f"its coding is {coding}, which is reserved")
    inner = replace(record, coding=coding, data=file.rest())
    return _read_modelled(inner, pieces, groups) + sum(len(one.multipliers) for one in groups if one)


def _read_modelled(record: Record, pieces: list[Piece], groups: list[Groups | None]) -> int:
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
    modelled = 0
    for piece, grouped in zip(pieces, groups, strict=True):
        element = piece.tensor.element
        found = numbers.floats(piece.count, element) if element in FLOATS else integers(piece)
        piece.tensor.elements += grouped.multiplied(found) if grouped else found
        if element in FLOATS or record.coding != 2:
            modelled += sum(value != 0 for value in found) * piece.tensor.bytes // piece.tensor.count
    stream.end()
    if symbols:
        symbols.end()
    return modelled
