"""Integer weights, by contexts and by tables of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spec_reader.pieces import Piece
from spec_reader.stream import MOBILE, STEADY, Key, Model, Stream, relaxed, tree, wrapped

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
    """A row while it is read: its values, those of the row before, and counts of nonzero weights in every block of both."""

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
        """Update the mean by a magnitude, where the smallest counts as 1."""
        self.any = True
        self.seen = min(self.seen + 1, 255)
        change = 256 * magnitude - self.mean
        self.mean += abs(change) // self.seen * (1 if change > 0 else -1)


@dataclass
class Place:
    """The neighbours of a weight."""

    channel: int
    kind: int
    left: int
    above: int
    corner: int
    channel_before: int
    row_before: int

    def size(self) -> int:
        """The weighted magnitude of the neighbours."""
        return 2 * abs(self.left) + 2 * abs(self.above) + abs(self.channel_before) + abs(self.row_before)

    def trend(self, area: int) -> int:
        """The class of the prediction."""
        t = 0 if area == 1 else 2 * self.left + 2 * self.above - self.corner
        size = min((abs(t) + 1).bit_length() - 1, 9)
        return -size if t < 0 else size

    def signs(self) -> tuple[int, ...]:
        """The signs of the neighbours."""
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
        """The parameters of a piece, which precede its weights."""
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
        """The table of a piece."""
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
    """The neighbours of a weight; 0 outside."""
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
