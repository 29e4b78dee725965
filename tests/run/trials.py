"""Trials of a search with made-up results, and what they are measured against."""

from types import SimpleNamespace

from paretrim.intervals import Estimate
from paretrim.run.delivery import Entry
from paretrim.run.drop import Drop
from paretrim.search.ladder import (
    KINDS,
    Reference,
    ladder,
)
from paretrim.search.trial import Trial
from paretrim.train.budget import Budget

DENSE = Reference(value=0.90, images=1000, classes=10)
MANY = Reference(value=0.90, images=1_000_000, classes=10)
"""So many images that every interval is next to nothing."""
RUNGS = {rung.name: rung for rung in ladder(10, KINDS, budget=Budget())}


def trial_of(name, accuracy, size, *, p50=None, entropy=0.0, images=DENSE.images):
    """A candidate that is wrong wherever the dense network is, or right wherever that is."""
    changed = round((DENSE.value - accuracy) * images)
    drop = Drop(max(changed, 0), max(-changed, 0), images)
    latency = None if p50 is None else Estimate(p50, 0.99 * p50, 1.01 * p50)
    return trial(name, accuracy, drop, size, entropy, latency)


def trial(name, *measured):
    """A trial of a rung, with a candidate that was never trained."""
    rung = RUNGS[name]
    return Trial(rung.name, *measured, entry=Entry(rung.name, rung.stages, SimpleNamespace()))
