"""Class maps of two networks, and distributions of their numbers: what ``--inside`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]

BINS = 32


@dataclass(frozen=True, eq=False)
class Example:
    """One image: uint8 [H, W] or [H, W, 3], its label, and the maps of both networks, [h, w] from 0 to 1."""

    position: int
    label: int
    image: Pixels
    maps: tuple[Map, Map]
    similarity: float


@dataclass(frozen=True)
class HistogramPair:
    """Counts of both networks in bins of equal width from ``low`` to ``high``; zeros are counted apart."""

    name: str
    low: float
    high: float
    counts: tuple[tuple[int, ...], tuple[int, ...]]
    zeros: tuple[float, float]


@dataclass(frozen=True)
class SweepPoint:
    """Accuracy of both networks with this share of their weights set to zero, the smallest first, without training."""

    sparsity: float
    accuracy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class InsideComparison:
    """Everything about two networks, on the first ``images`` images.

    ``similarity`` is that of their class maps for each of them; without any if a network has no map of height and width.
    """

    images: int
    similarity: tuple[float, ...]
    examples: tuple[Example, ...]
    weights: tuple[HistogramPair, ...]
    activations: tuple[HistogramPair, ...]
    sweep: tuple[SweepPoint, ...]

    def facts(self) -> dict[str, object]:
        """JSON-able facts, without pixels."""
        maps = {"similarity": float(np.mean(self.similarity)), "images": list(self.similarity)} if self.similarity else None
        return {
            "grad_cam": maps,
            "weights": [vars(one) for one in self.weights],
            "activations": [vars(one) for one in self.activations],
            "sweep": [vars(one) for one in self.sweep],
        }


def histogram(name: str, first: npt.ArrayLike, second: npt.ArrayLike) -> HistogramPair:
    """The histogram of two sets of numbers on the same bins; exact zeros are given as shares and are in no bin."""
    values = [np.asarray(found, np.float64).ravel() for found in (first, second)]
    low, high = min(found.min() for found in values), max(found.max() for found in values)
    high = high if high > low else low + 1.0
    counts = [np.histogram(found[found != 0], BINS, (low, high))[0].tolist() for found in values]
    zeros = [float((found == 0).mean()) for found in values]
    return HistogramPair(name, float(low), float(high), (tuple(counts[0]), tuple(counts[1])), (zeros[0], zeros[1]))


def histograms(first: Mapping[str, npt.ArrayLike], second: Mapping[str, npt.ArrayLike]) -> tuple[HistogramPair, ...]:
    """The histograms of all layers that both have, by name."""
    return tuple(histogram(name, first[name], second[name]) for name in first if name in second)
