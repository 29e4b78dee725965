"""The effect of pruning a single layer: loss and metric against the share of zeros."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paretrim.metric import Metric

TIE = 1e-6
"""Added to the loss at a sparsity of 1 (in proportion below it), so that layers in which zeros cost nothing get equal shares."""


@dataclass(frozen=True)
class CurvePoint:
    """Loss and value of the task's metric at this sparsity of one layer."""

    sparsity: float
    loss: float
    value: float


@dataclass(frozen=True)
class Curve:
    """One layer, or layers that lose channels together, with ``units`` weights, blocks or channels.

    ``points`` begin with the network as it is and rise in sparsity; the last leaves one unit.
    """

    layers: tuple[str, ...]
    units: int
    points: tuple[CurvePoint, ...]

    @property
    def name(self) -> str:
        """The layers in words."""
        return self.layers[0] + (f" and {len(self.layers) - 1} more" if len(self.layers) > 1 else "")

    def losses_at(self, sparsities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Rise of the loss at these sparsities: interpolated, never falling, and 0 for the network as it is.

        Where the loss does not rise, this still grows, by :data:`TIE` over the whole range.
        """
        shares = np.array([point.sparsity for point in self.points])
        losses = np.maximum.accumulate([point.loss - self.points[0].loss for point in self.points])
        found: npt.NDArray[np.float64] = np.interp(sparsities, shares, losses + TIE * shares)
        return found

    def keys(self) -> npt.NDArray[np.float64]:
        """For every unit, best first, the rise of the loss once it and all worse ones are removed."""
        return self.losses_at(np.arange(self.units, 0, -1) / self.units)


@dataclass(frozen=True)
class Sensitivity:
    """A scan: the pattern removed, the score that ranked it, and the number of held-out images.

    ``loss`` and ``value`` are those of the network as it is.
    """

    pattern: str
    score: str
    images: int
    metric: Metric
    loss: float
    value: float
    curves: tuple[Curve, ...]

    def by_layer(self) -> dict[str, Curve]:
        """The curves of single layers by name."""
        return {curve.layers[0]: curve for curve in self.curves}

    def facts(self) -> dict[str, Any]:
        """As JSON gives it."""
        return dataclasses.asdict(self)


def sensitivity_of(facts: Mapping[str, Any]) -> Sensitivity:
    """The inverse of :meth:`Sensitivity.facts`; raises KeyError, TypeError or ValueError for anything else."""
    curves = tuple(_curve(curve) for curve in facts["curves"])
    return Sensitivity(**{**facts, "metric": Metric(**facts["metric"]), "curves": curves})


def _curve(facts: Mapping[str, Any]) -> Curve:
    points: Sequence[Mapping[str, Any]] = facts["points"]
    found = tuple(CurvePoint(float(one["sparsity"]), float(one["loss"]), float(one["value"])) for one in points)
    if not found:
        raise ValueError("a curve has no points")
    return Curve(tuple(str(name) for name in facts["layers"]), int(facts["units"]), found)
