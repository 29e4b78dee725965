"""Coded stream: the arithmetic decoder, its counters and its mixers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from spec_reader.cursor import require

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
        """The next word; past the end it is 0, for at most 64 bytes."""
        word = next(self.words, None)
        if word is None:
            self.silent += 2
            require(self.silent <= 64, "its coded stream ends before its values do")
        return 0 if word is None else int(word[0])

    def end(self) -> None:
        """Refuse leftover bytes and a zero byte at the end."""
        whole = next(self.words, None) is None and not self.data.endswith(b"\0")
        require(whole, "its coded stream does not end where its values do")

    def fill(self) -> None:
        """Take words until the range is at least 2^32."""
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
        """An unsigned number of ``bits`` bits, all equally likely."""
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


def wrapped(value: int, bits: int) -> int:
    """A signed integer of ``bits`` bits, wrapped."""
    half = 1 << bits - 1
    return (value + half) % (2 * half) - half


def relaxed(state: int, most: int) -> int:
    """A counter relaxed to ``most``."""
    return state & ~1023 | min(state & 1023, most)


Key = tuple[Any, ...]


class Model:
    """Counters and mixers by key; a mixer is its weights and its rate."""

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
        """A mixed bit; ``weight`` is the initial weight of a new mixer, or one for each counter."""
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
    """A number whose bits are decoded from the highest, by node and number of the bit."""
    node = 1
    for number in range(bits):
        node = 2 * node + decide(node, number)
    return node - (1 << bits)
