"""Two networks on the same images: how far their probabilities or numbers differ, and which images got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paretrim.graph.types import Float64Array

BINS = 15
"""Bins of confidence, as Guo et al. 2017 use them."""


@dataclass(frozen=True)
class ClassChange:
    """One class: its images, how many of them each file has right, and how many changed. ``name`` is "" if not known."""

    label: int
    images: int
    right_before: int
    right_after: int
    worse: int
    better: int
    name: str = ""

    @property
    def title(self) -> str:
        """The number, with the name if it is known and says more."""
        return f"{self.label} {self.name}" if self.name not in ("", str(self.label)) else str(self.label)


@dataclass(frozen=True)
class Comparison:
    """Two files, the first as the reference, on test images.

    ``kl`` is the mean of KL(first || second) in nats, ``agreement`` the share of images with the same class. ``accuracy`` and
    ``calibration_error`` are those of both files, as fractions. ``worse`` and ``better`` are positions of images that only the
    first, or only the second, has right.
    """

    images: int
    kl: float
    agreement: float
    accuracy: tuple[float, float]
    calibration_error: tuple[float, float]
    classes: tuple[ClassChange, ...]
    worse: tuple[int, ...]
    better: tuple[int, ...]


def comparison_of(facts: Mapping[str, Any]) -> Comparison:
    """A comparison from the facts that ``dataclasses.asdict`` makes of it, as JSON gives them back.

    Raises:
        KeyError, TypeError, ValueError: they are not facts of a comparison.
    """
    return Comparison(
        images=int(facts["images"]),
        kl=float(facts["kl"]),
        agreement=float(facts["agreement"]),
        accuracy=_both(facts["accuracy"]),
        calibration_error=_both(facts["calibration_error"]),
        classes=tuple(_class_change(one) for one in facts["classes"]),
        worse=tuple(map(int, facts["worse"])),
        better=tuple(map(int, facts["better"])),
    )


def _class_change(facts: Mapping[str, Any]) -> ClassChange:
    """One class; comparisons stored before classes had names have none."""
    counts = {key: int(value) for key, value in facts.items() if key != "name"}
    return ClassChange(**counts, name=str(facts.get("name", "")))


def _both(values: Sequence[float]) -> tuple[float, float]:
    first, second = map(float, values)
    return first, second


@dataclass(frozen=True)
class NumbersComparison:
    """Two files whose outputs are numbers, on test images.

    ``differences`` is the mean absolute difference of the numbers of every image, ``mean_difference`` their mean and
    ``largest_difference`` the largest of a single number. ``worst`` are positions of images, the largest differences first.
    ``correlation`` is Pearson's over all numbers, None if one file always gives the same. ``numbers`` counts those of one image.
    """

    images: int
    numbers: int
    mean_difference: float
    largest_difference: float
    correlation: float | None
    worst: tuple[int, ...]
    differences: tuple[float, ...]


def compare_numbers(first: npt.ArrayLike, second: npt.ArrayLike) -> NumbersComparison:
    """Compare numbers [N, M] of two files on the same images."""
    one, other = (np.asarray(numbers, np.float64) for numbers in (first, second))
    apart = np.abs(one - other)
    of_images = apart.mean(1)
    vary = min(one.std(), other.std()) > 0
    return NumbersComparison(
        images=len(one),
        numbers=one.shape[1],
        mean_difference=float(of_images.mean()),
        largest_difference=float(apart.max()),
        correlation=float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if vary else None,
        worst=tuple(np.argsort(-of_images, kind="stable").tolist()),
        differences=tuple(of_images.tolist()),
    )


def compare(first: npt.ArrayLike, second: npt.ArrayLike, labels: npt.NDArray[np.int64], names: Sequence[str] = ()) -> Comparison:
    """Compare logits [N, K] of two files on images with ``labels`` [N]; ``names`` are those of the K classes, or none."""
    logs = [log_softmax(np.asarray(logits, np.float64)) for logits in (first, second)]
    decided = [log.argmax(1) for log in logs]
    right = [found == labels for found in decided]
    worse, better = right[0] & ~right[1], right[1] & ~right[0]
    changes = []
    for label in range(logs[0].shape[1]):
        of_class = labels == label
        before, after, lost, gained = (int((of_class & mask).sum()) for mask in (*right, worse, better))
        name = names[label] if names else ""
        changes.append(ClassChange(label, int(of_class.sum()), before, after, lost, gained, name))
    return Comparison(
        images=len(labels),
        kl=float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(1).mean()),
        agreement=float((decided[0] == decided[1]).mean()),
        accuracy=(float(right[0].mean()), float(right[1].mean())),
        calibration_error=(calibration_error(logs[0], labels), calibration_error(logs[1], labels)),
        classes=tuple(changes),
        worse=tuple(np.flatnonzero(worse).tolist()),
        better=tuple(np.flatnonzero(better).tolist()),
    )


def log_softmax(logits: Float64Array) -> Float64Array:
    """Log probabilities of logits [N, K]."""
    shifted: Float64Array = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def calibration_error(logs: Float64Array, labels: npt.NDArray[np.int64]) -> float:
    """Expected calibration error of log probabilities [N, K]: confidence against accuracy in bins of equal width.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 3.
    """
    confidence, right = np.exp(logs.max(1)), logs.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
