"""Weights by frequencies."""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from spec_reader.cursor import require
from spec_reader.numbers_and_text import Numbers
from spec_reader.pieces import Piece
from spec_reader.stream import Model, Stream, tree

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
        """Refuse leftover words, and states that are not 2^16."""
        done = next(self.words, None) is None and set(self.states) == {2**16}
        require(done, "its symbols do not end where its weights do")


class FrequencyWeights:
    """The frequencies of a record, and a decoder of its integer weights."""

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
                require(mask >> min(channels - start, 8) == 0, "it marks a weight past the last channel")
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
    """The shares of one kind, if they sum to ``total``."""
    require(bool(np.all((shares >= 0) & (shares <= total))), f"a frequency in it is not in 0..{total}")
    require(int(shares.sum()) == total, f"frequencies in it sum up to {int(shares.sum())} of {total}")
    return shares
