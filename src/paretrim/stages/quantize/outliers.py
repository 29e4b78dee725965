"""The outlier study: ranges of weights and activations, and how much a calibrator clips; it changes nothing.

Source: the question of Wu et al. 2020 (arXiv 2004.09602) section 3.2 and Migacz 2017: which values set the range, and how many.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from paretrim.graph.fusion import grid_values
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.stages.quantize.calibration import calibrate, observed, weight_clips
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.histogram import Histogram

BINS = 64
"""Number of bins, of equal width from the smallest to the largest value."""


@dataclass(frozen=True)
class Spread:
    """The distribution of the values of one tensor.

    Attributes:
        name: of the layer or value.
        kind: whether it is a weight or an activation.
        values: number of values.
        low, high: the smallest and the largest value.
        clip_low, clip_high: range of the grid; for weights, whose channels have separate grids, the widest.
        clipped: share of values more than half a step outside their grid, in [0, 1]: others are rounded as within it.
        kurtosis: 3 for a normal distribution; large if there are outliers.
        edges: lower ends of the bins, and the upper end of the last.
        before: share of values in each bin.
        after: the same after clipping.
    """

    name: str
    kind: Literal["weight", "activation"]
    values: int
    low: float
    high: float
    clip_low: float
    clip_high: float
    clipped: float
    kurtosis: float
    edges: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    def facts(self) -> dict[str, object]:
        """All fields, for JSON."""
        return asdict(self)


def outliers(
    network: Network, images: torch.Tensor, *, calibrator: Calibrator, percentile: float, bits: int = 8
) -> tuple[Spread, ...]:
    """The distribution of every weight and of every value that gets a grid, before and after clipping by this calibrator.

    Args:
        network: a float network.
        images: normalised calibration images [N, C, H, W].
        calibrator: chooses the ranges, as in the ``quantize`` stage.
        percentile: setting of the calibrator ``percentile``.
        bits: bits of weights; activations have 8.

    Raises:
        TrainingFailed: there are no images, or a value is not finite.
    """
    found = []
    for name, layer in weighted_layers(network).items():
        weight = layer.effective_weight().detach().cpu()
        rows = weight.reshape(len(weight), -1).double()
        reach = rows.abs().amax(1) * weight_clips(weight, bits=bits, method=calibrator, percentile=percentile).double()
        ends = reach[:, None]
        beyond = rows.abs() > ends * (1 + 0.5 / (2 ** (bits - 1) - 1))
        whole, clipped = rows.flatten().numpy(), rows.clamp(-ends, ends).flatten().numpy()
        top, count = float(reach.max()), np.ones(rows.numel(), np.int64)
        found.append(_spread(name, "weight", (whole, clipped), count, (-top, top), beyond.flatten().numpy()))
    names = grid_values(network.structure)
    grids = calibrate(network, names, images, method=calibrator, percentile=percentile)
    for name, histogram in observed(network, names, images).items():
        centres, counts = _centres(histogram)
        grid = grids[name]
        low, high = -grid.zero_point * grid.scale, (grid.top - grid.zero_point) * grid.scale
        beyond_ends = (centres < low - grid.scale / 2) | (centres > high + grid.scale / 2)
        found.append(_spread(name, "activation", (centres, np.clip(centres, low, high)), counts, (low, high), beyond_ends))
    return tuple(found)


def _centres(histogram: Histogram) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The centres of the bins, at the ends limited to the observed range, and their counts."""
    edges, counts = histogram.bins()
    centres: npt.NDArray[np.float64] = np.clip(edges + histogram.width / 2, histogram.low, histogram.high)
    if len(centres) > 1 and counts[0] and histogram.low < 0:
        centres[0] = histogram.low
    if counts[-1]:
        centres[-1] = histogram.high
    return centres, counts


def _spread(
    name: str,
    kind: Literal["weight", "activation"],
    values: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    counts: npt.NDArray[np.int64],
    reach: tuple[float, float],
    beyond: npt.NDArray[np.bool_],
) -> Spread:
    """From values before and after clipping, how often each occurs, and which are clipped."""
    before, _ = values
    total = int(counts.sum())
    low, high = float(before.min()), float(before.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    shares = [np.histogram(part, edges, weights=counts)[0] / total for part in values]
    mean = float((before * counts).sum() / total)
    moments = [float((counts * (before - mean) ** power).sum() / total) for power in (2, 4)]
    return Spread(
        name=name,
        kind=kind,
        values=total,
        low=low,
        high=high,
        clip_low=reach[0],
        clip_high=reach[1],
        clipped=float(counts[beyond].sum() / total),
        kurtosis=moments[1] / moments[0] ** 2 if moments[0] > 0 else 0.0,
        edges=tuple(edges.tolist()),
        before=tuple(shares[0].tolist()),
        after=tuple(shares[1].tolist()),
    )
