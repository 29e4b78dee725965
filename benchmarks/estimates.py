"""Medians with intervals, and whether the interval shows that a goal is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretrim.intervals import Estimate

RESAMPLES = 4000


@dataclass(frozen=True)
class Goal:
    """The least value that an estimate must have, and the higher value that it aims at."""

    least: float
    aim: float | None = None


def median(values: Sequence[float]) -> Estimate:
    """Median with a bootstrap 95 % interval."""
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return Estimate(float(np.median(values)), float(low), float(high))


def verdict(found: Estimate, goal: Goal | None) -> str:
    """Whether the goal is reached; empty if there is none."""
    if goal is None:
        return ""
    said = [] if goal.aim is None else [_against(found, goal.aim, "the aim ")]
    if goal.aim is None or found.low < goal.aim:
        said.insert(0, _against(found, goal.least, ""))
    return ", ".join(said)


def verdict_at_most(found: Estimate, limit: float, unit: str) -> str:
    """Whether an estimate stays at or below a limit."""
    text = f"{limit:g} {unit}"
    if found.high <= limit:
        return f"within {text}"
    return f"exceeds {text}" if found.low > limit else f"{text} lies in the interval"


def _against(found: Estimate, wanted: float, what: str) -> str:
    if found.low >= wanted:
        return f"reaches {what}{wanted:g}"
    return f"misses {what}{wanted:g}" if found.high < wanted else f"{what}{wanted:g} lies in the interval"
