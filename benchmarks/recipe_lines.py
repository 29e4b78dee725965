"""What the lines of ``recipes.py`` say about a recipe: accuracy, difference from its plain baseline, bytes and zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from page_parts import Line, number

from paretrim.intervals import Estimate, mean_interval

BETTER, WORSE, NEITHER, ONE_SEED = "better", "worse", "no difference shown", "one seed"
IMAGES = 360
"""Test images of digits."""
FEWEST = 6
"""Images over all seeds below which no difference is shown: even if all go one way, chance does so in 1 of 16 cases or more."""

Values = Mapping[int, float]
"""A number of every seed."""


@dataclass(frozen=True)
class Measured:
    """A recipe over its seeds: its own numbers, and those of the networks that it is compared with, by their prefix."""

    recipe: str
    plain: str
    lines: Mapping[int, Line]

    def values(self, key: str, prefix: str = "") -> Values:
        """A number of every seed; ``prefix`` is that of a companion, such as ``plain_``."""
        return {seed: number(line, prefix + key) for seed, line in self.lines.items()}

    def mean(self, key: str, prefix: str = "") -> float:
        """Its mean over seeds."""
        found = self.values(key, prefix)
        return sum(found.values()) / len(found)

    def against(self, prefix: str) -> Values:
        """The difference in accuracy from a companion, paired by seed."""
        return paired(self.values("accuracy"), self.values("accuracy", prefix))

    def against_recipe(self, other: Measured) -> Values:
        """The difference in accuracy from another recipe, in every seed in which both began with the same dense network."""
        alike = {seed for seed, line in self.lines.items() if seed in other.lines and _begins(line) == _begins(other.lines[seed])}
        found = paired(self.values("accuracy"), other.values("accuracy"))
        return {seed: value for seed, value in found.items() if seed in alike}


def by_recipe(lines: Sequence[Line]) -> dict[str, Measured]:
    """The lines of every recipe, in the order of the file."""
    found: dict[str, dict[int, Line]] = {}
    for line in lines:
        found.setdefault(str(line["recipe"]), {})[int(number(line, "seed"))] = line
    return {name: Measured(name, str(next(iter(of.values()))["plain"]), of) for name, of in found.items()}


def _begins(line: Line) -> tuple[float, float]:
    """What a line says of its dense network: accuracy, and the bytes of a file that holds all its weights."""
    return number(line, "dense_accuracy"), number(line, "dense_bytes")


def paired(own: Values, other: Values) -> Values:
    """The difference of two numbers in every seed that has both."""
    return {seed: value - other[seed] for seed, value in own.items() if seed in other}


def verdict(found: Values) -> str:
    """Whether a difference is shown: its interval excludes 0, and it is at least :data:`FEWEST` images."""
    if len(found) < 2:
        return ONE_SEED
    interval = mean_interval(list(found.values()))
    if interval.low <= 0 <= interval.high or round(abs(sum(found.values())) * IMAGES) < FEWEST:
        return NEITHER
    return BETTER if interval.value > 0 else WORSE


def percent(found: Values) -> str:
    """Shares in percent, with their interval where there are several seeds."""
    interval = _of(found)
    half = f" ± {100 * (interval.high - interval.value):.1f}" if len(found) > 1 else ""
    return f"{100 * interval.value:.1f}{half}"


def points(found: Values) -> str:
    """Differences of shares in points, with their interval where there are several seeds."""
    interval = _of(found)
    bounds = f" [{100 * interval.low:+z.1f}, {100 * interval.high:+z.1f}]" if len(found) > 1 else ""
    return f"{100 * interval.value:+z.1f}{bounds}"


def _of(found: Values) -> Estimate:
    values = list(found.values())
    return mean_interval(values) if values[1:] else Estimate(values[0], values[0], values[0])
