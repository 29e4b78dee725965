"""Choosing grids from what a network computes on calibration images.

Two passes: ranges, then histograms within them. Source of the criteria: min-max and percentile as in every toolkit; mean squared
error over clip ratios, e.g. Nagel et al. 2021 (arXiv 2106.08295) section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.errors import TrainingFailed
from paretrim.fake_quantize import TOP, Grid, grid_for_range
from paretrim.network import Network

Calibrator = Literal["minmax", "percentile", "mse"]

BINS = 2048
CLIP_RATIOS = tuple(float(ratio) for ratio in np.linspace(1.0, 0.3, 71))
"""Shares of the observed range that the ``mse`` calibrator tries."""

_CHUNK = 64
"""Images per forward pass: bounds the memory of calibration."""


def calibrate(
    network: Network, names: tuple[str, ...], images: Tensor, *, method: Calibrator, percentile: float
) -> dict[str, Grid]:
    """A grid for every value in ``names``, from normalised training images float32 [M, C, H, W].

    Raises:
        TrainingFailed: there are no images, or a value is not finite.
    """
    if len(images) == 0:
        raise TrainingFailed("quantization needs calibration images and there are none; give at least one training batch")
    ranges = _ranges(network, names, images)
    if method == "minmax":
        return {name: grid_for_range(low, high) for name, (low, high) in ranges.items()}
    histograms = _histograms(network, ranges, images)
    if method == "percentile":
        return {name: _percentile_grid(histograms[name], *ranges[name], percentile) for name in names}
    return {name: _mse_grid(histograms[name], *ranges[name]) for name in names}


def _chunks(network: Network, names: tuple[str, ...], images: Tensor) -> Iterator[dict[str, Tensor]]:
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        for chunk in torch.split(images, _CHUNK):
            yield network.features(chunk.to(device), names)


def _ranges(network: Network, names: tuple[str, ...], images: Tensor) -> dict[str, tuple[float, float]]:
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for values in _chunks(network, names, images):
        for name in names:
            low, high = (float(bound) for bound in torch.aminmax(values[name]))
            if not np.isfinite([low, high]).all():
                raise TrainingFailed(
                    f"the value '{name}' is not finite on calibration images; check the weights and the normalisation"
                )
            ranges[name] = (min(ranges[name][0], low), max(ranges[name][1], high))
    return ranges


def _histograms(
    network: Network, ranges: Mapping[str, tuple[float, float]], images: Tensor
) -> dict[str, npt.NDArray[np.float64]]:
    names = tuple(ranges)
    counts = {name: np.zeros(BINS) for name in names}
    for values in _chunks(network, names, images):
        for name in names:
            low, high = ranges[name]
            if high > low:
                counts[name] += torch.histc(values[name].float(), BINS, low, high).cpu().numpy()
    return counts


def _percentile_grid(counts: npt.NDArray[np.float64], low: float, high: float, percentile: float) -> Grid:
    """Clip the same small share of values at both ends, at the end of zero never."""
    total = counts.sum()
    if total == 0:
        return grid_for_range(low, high)
    edges = np.linspace(low, high, BINS + 1)
    share = np.cumsum(counts) / total
    top = edges[min(int(np.searchsorted(share, percentile / 100)) + 1, BINS)]
    bottom = edges[int(np.searchsorted(share, 1 - percentile / 100))]
    return grid_for_range(bottom if low < 0 else 0.0, top)


def _mse_grid(counts: npt.NDArray[np.float64], low: float, high: float) -> Grid:
    """The clip ratio with the least mean squared rounding and clipping error over the histogram."""
    if counts.sum() == 0:
        return grid_for_range(low, high)
    edges = np.linspace(low, high, BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    candidates = [grid_for_range(low * ratio, high * ratio) for ratio in CLIP_RATIOS]
    errors = []
    for grid in candidates:
        levels = np.clip(np.rint(centres / grid.scale) + grid.zero_point, 0, TOP)
        errors.append(float((counts * (grid.scale * (levels - grid.zero_point) - centres) ** 2).sum()))
    return candidates[int(np.argmin(errors))]


def weight_clips(weight: Tensor, *, bits: int, method: Calibrator, percentile: float) -> Tensor:
    """Share of each output channel's largest magnitude that its grid covers, float32 [Co] in (0, 1].

    For ``percentile`` and 8 bits this is hardly below 1: a clipped weight is a large error that repeats in every image.
    """
    rows = weight.detach().reshape(len(weight), -1).abs()
    peak = rows.amax(1).clamp_min(1e-12)
    if method == "minmax":
        return torch.ones_like(peak)
    if method == "percentile":
        return (torch.quantile(rows.float(), percentile / 100, dim=1) / peak).clamp(0.05, 1.0)
    top = 2 ** (bits - 1) - 1
    best, errors = torch.ones_like(peak), torch.full_like(peak, torch.inf)
    for ratio in CLIP_RATIOS:
        step = (peak * ratio / top)[:, None]
        error = ((torch.round(rows / step).clamp(max=top) * step - rows) ** 2).sum(1)
        better = error < errors
        best, errors = torch.where(better, ratio, best), torch.where(better, error, errors)
    return best
