"""Integers in groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spec_reader.cursor import Bytes, require
from spec_reader.numbers_and_text import Numbers
from spec_reader.pieces import Piece
from spec_reader.stream import Stream
from spec_reader.structure import FLOATS


@dataclass
class Groups:
    """The multipliers of a piece of integers, by row and then by group, and the weights of every group."""

    multipliers: list[int]
    sizes: list[int]

    def multiplied(self, small: list[int]) -> list[int]:
        """The weights."""
        each = [multiplier for multiplier, size in zip(self.multipliers, self.sizes, strict=True) for _ in range(size)]
        products = [value * multiplier for value, multiplier in zip(small, each, strict=True)]
        require(all(-128 <= product < 128 for product in products), "a product in it is no int8")
        return products


def read_groups(file: Bytes, pieces: list[Piece]) -> list[Groups | None]:
    """The groups of every piece, none of which is empty; None of those without."""
    stream = Stream(file.take(file.varint()))
    numbers = Numbers(stream)
    found = [None if piece.tensor.element in FLOATS else _of_piece(stream, numbers, piece) for piece in pieces]
    stream.end()
    return found


def _of_piece(stream: Stream, numbers: Numbers, piece: Piece) -> Groups | None:
    size = stream.raw(8)
    if size == 0:
        return None
    channels, area = piece.tensor.shape[1], math.prod(piece.tensor.shape[2:])
    of_row = [min(size, channels - first) * area for first in range(0, channels, size)]
    multipliers = numbers.integers(piece.rows * len(of_row))
    require(all(1 <= one <= 127 for one in multipliers), "a multiplier in it is not in 1..127")
    return Groups(multipliers, of_row * piece.rows)
