"""Floats by exponents."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spec_reader.cursor import Bytes, require
from spec_reader.frequencies import SHARES, Symbols, checked
from spec_reader.numbers_and_text import Numbers
from spec_reader.pieces import Piece
from spec_reader.stream import Stream
from spec_reader.structure import FLOATS


def read_exponents(file: Bytes, pieces: list[Piece]) -> None:
    """The elements of a record's pieces, none of which is empty."""
    require(all(piece.tensor.element in FLOATS for piece in pieces), "it is coded by exponents but holds integers")
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
