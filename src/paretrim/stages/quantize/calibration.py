"""Choosing grids from a network's values on calibration images.

One pass counts the values in histograms, which also record the exact range. Sources of the criteria: min-max and percentile as in
every toolkit; mean squared error over clip ratios, e.g. Nagel et al. 2021 (arXiv 2106.08295) section 3.1; initial steps
of LSQ, Esser et al. 2020 (arXiv 1902.08153) section 2.1, and of LSQ+, Bhalgat et al. 2020 (arXiv 2004.09576) section 3.2;
smallest divergence of histograms, Migacz 2017, "8-bit inference with TensorRT" (GPU Technology Conference).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.errors import TrainingFailed
from paretrim.graph.fusion import fuse, grid_holders
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Graph, ValueType
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.grids import BITS, SMALLEST_SCALE, TOP, Grid, grid_for_range, top_of
from paretrim.network.network import Network
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.comparisons import compared_grids
from paretrim.stages.quantize.histogram import Histogram
from paretrim.stages.quantize.reciprocals import reciprocal_grids
from paretrim.train.execution import fast_batches

CLIP_RATIOS = tuple(float(ratio) for ratio in np.linspace(1.0, 0.3, 71))
"""Shares of the observed range that the ``mse`` calibrator tries."""

NARROW_RATIOS = tuple(float(ratio) for ratio in np.linspace(1.0, 0.05, 96))
"""The same for activations of fewer than 8 bits: with few levels it may pay to clip more."""

KL_RATIOS = tuple(float(ratio) for ratio in np.linspace(1.0, 1 / 16, 121))
"""The same for ``kl``, down to 128 of 2,048 bins as published."""

_EMPTY = 1e-4
"""Count used for an empty bin when a divergence needs its logarithm."""

_CACHED = 2**17
"""Weights to process at once, so that they fit a core's cache."""

_LARGEST = 64
"""Largest weights of a channel whose clipping error is used to stop the search at smaller ratios."""

_SMALLEST_RANGE = 1024 * TOP * SMALLEST_SCALE
"""Smallest range of values that leaves a calibrator room above the smallest step."""

_FINEST = 1 / 32
"""Smallest step of a result, as a share of the smallest change that a step of an input makes; for averages, ONNX Runtime rejects
1/256 and finer."""


_BESIDE_TIE = 2.0**-12
"""Distance from a tie, in steps, within which another order of float32 operations may round differently."""

_FEW = 2.0**-7
"""Allowed share of values so close to a tie: two of 256 levels; chance alone gives a tenth of one."""

_TIE_MOVES = tuple(1 + move * 2.0**-10 for move in range(9))
"""Factors by which a step may grow to leave few values so close to a tie."""

_TIE_IMAGES = 16


def calibrate(
    network: Network,
    names: tuple[str, ...],
    images: Tensor,
    *,
    method: Calibrator,
    percentile: float,
    bits: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Grid]:
    """A grid for every value in ``names``, from normalised training images float32 [M, C, H, W].

    ``bits`` names grids of fewer than 8 bits. Grids adapt to the unit of the values. A value that is 0 on all images gets a grid
    like those of its inputs. Steps are chosen so that few pixels, and few results of sums, products, averages and
    concatenations, are half-way between two levels.

    Raises:
        TrainingFailed: there are no images, a value is not finite, or its range is too small for steps in float32.
    """
    if len(images) == 0:
        raise TrainingFailed("quantization needs calibration images, but there are none; give at least one training batch")
    seen = observed(network, names, images)
    fitted: Callable[[Histogram, int], Grid] = {
        "minmax": lambda values, width: grid_for_range(values.low, values.high, width),
        "percentile": lambda values, width: _percentile_grid(values, percentile, width),
        "lsq": _lsq_grid,
        "kl": _kl_grid,
    }.get(method, _mse_grid)
    grids = {name: fitted(values, bits.get(name, BITS)) for name, values in seen.items()}
    grids |= reciprocal_grids(network, images, grids)
    grids |= compared_grids(network.structure, grids)
    if INPUT in grids:
        grids[INPUT] = _off_ties(grids[INPUT], [images[:_TIE_IMAGES].cpu().numpy()])
    return _beside_inputs(network.structure, grids, {name for name, values in seen.items() if values.low == values.high})


def _off_ties(grid: Grid, parts: Sequence[npt.NDArray[np.floating[Any]]]) -> Grid:
    """The grid, with a slightly longer step if many values of a part are ties, which runtimes may round either way.

    All pixels normalised with mean 0.5 are ties. With a step a thousandth longer none is, and no more values are clipped.
    """
    shares = []
    for factor in _TIE_MOVES:
        steps = [values / (grid.scale * factor) for values in parts]
        shares.append(max((float((np.abs(some - np.floor(some) - 0.5) < _BESIDE_TIE).mean()) for some in steps), default=0.0))
        if shares[-1] <= _FEW:
            break
    return replace(grid, scale=grid.scale * _TIE_MOVES[int(np.argmin(shares))])


def _beside_inputs(graph: Graph, grids: Mapping[str, Grid], dead: Collection[str]) -> dict[str, Grid]:
    """The grids, with no step finer than its inputs justify; ``dead`` values get the step of their inputs."""
    result, holders, types = dict(grids), grid_holders(graph), graph.types
    for run in fuse(graph):
        name, results = run.end.name, OPERATIONS[run.head.op].results
        sources = [holders[source] for source in run.head.inputs]
        if name not in grids or not grids.keys() >= set(sources):
            continue
        inputs = [result[source] for source in sources]
        if name in dead:
            result[name] = Grid(max(grid.scale for grid in inputs), 0, grids[name].bits)
        elif results is not None:
            settings, grid = settings_of(run.head), result[name]
            shapes = (types[source].shape for source in run.head.inputs)
            kinds = [ValueType(shape, "uint8", one.scale, one.zero_point) for shape, one in zip(shapes, inputs, strict=True)]
            grid = replace(grid, scale=max(grid.scale, _FINEST * results.finest(settings, kinds)))
            result[name] = _off_ties(grid, results.possible(settings, kinds))
    return result


def observed(network: Network, names: tuple[str, ...], images: Tensor) -> dict[str, Histogram]:
    """Histograms of every value on the images."""
    seen = {name: Histogram() for name in names}
    with evaluating(network), torch.inference_mode(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for part in fast_batches(network, images):
            values = network.features(part, names)
            for _ in pool.map(lambda name, values=values: seen[name].add_(values[name]), names):
                pass  # re-raises errors of the threads
            _require_finite(seen)
    _require_room(network.structure, seen)
    return seen


def _require_finite(seen: Mapping[str, Histogram]) -> None:
    for name, values in seen.items():
        if not values.finite:
            raise TrainingFailed(
                f"the value '{name}' is not finite on calibration images; check the weights and the normalisation"
            )


def _require_room(graph: Graph, seen: Mapping[str, Histogram]) -> None:
    layers = {node.name: node.layer for node in graph.nodes}
    for name, values in seen.items():
        if 0 < values.high - values.low < _SMALLEST_RANGE:
            raise TrainingFailed(
                f"the value '{name}' (layer '{layers.get(name, name)}') ranges over {values.low:.2g}..{values.high:.2g} on "
                "calibration images, too small for steps in float32; rescale the images or the weights before it to a range of "
                f"at least {_SMALLEST_RANGE:.2g}"
            )


def _percentile_grid(values: Histogram, percentile: float, bits: int) -> Grid:
    """Clip the same small share of values at both ends, but never at an end that is zero."""
    edges, counts = values.bins()
    share = np.cumsum(counts) / counts.sum()
    top = edges[int(np.searchsorted(share, percentile / 100))] + values.width
    bottom = edges[int(np.searchsorted(share, 1 - percentile / 100))]
    return grid_for_range(max(bottom, values.low), min(top, values.high), bits)


def _mse_grid(values: Histogram, bits: int = BITS) -> Grid:
    """The clip ratio with the smallest mean squared rounding and clipping error over the histogram."""
    edges, counts = values.bins()
    edges, counts = edges[counts > 0], counts[counts > 0]
    centres = np.clip(edges + values.width / 2, values.low, values.high)
    ratios = CLIP_RATIOS if bits == BITS else NARROW_RATIOS
    candidates = [grid_for_range(values.low * ratio, values.high * ratio, bits) for ratio in ratios]
    errors = []
    for grid in candidates:
        levels = np.clip(np.rint(centres / grid.scale) + grid.zero_point, 0, grid.top)
        errors.append(float((counts * (grid.scale * (levels - grid.zero_point) - centres) ** 2).sum()))
    return candidates[int(np.argmin(errors))]


def _kl_grid(values: Histogram, bits: int = BITS) -> Grid:
    """The clip ratio whose levels change the histogram least, by the Kullback-Leibler divergence.

    Every grid contains 0 exactly, so the many zeros after a ReLU carry no information: their bin gets the count of the next.
    """
    if values.low == values.high:
        return grid_for_range(0.0, 0.0, bits)
    edges, counts = values.bins()
    zero, counts = int(np.searchsorted(edges, 0.0)), counts.copy()
    counts[zero] = counts[min(zero + 1, len(counts) - 1)]
    centres = np.clip(edges + values.width / 2, values.low, values.high)
    candidates = [grid_for_range(values.low * ratio, values.high * ratio, bits) for ratio in KL_RATIOS]
    return candidates[int(np.argmin([divergence(centres, counts, grid) for grid in candidates]))]


def divergence(centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], grid: Grid) -> float:
    """Divergence in nats between a histogram clipped to a grid and one whose counts are averaged over the bins of each level.

    Clipped values count for the outermost bins of the first histogram and not in the second. Empty bins stay empty.
    """
    levels = np.rint(centres / grid.scale).astype(np.int64) + grid.zero_point
    (inside,) = np.nonzero((levels >= 0) & (levels <= grid.top))
    first, last = int(inside[0]), int(inside[-1]) + 1
    kept, levels = counts[first:last].astype(np.float64), levels[first:last]
    clipped = kept.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    occupied = kept > 0
    shared = np.bincount(levels, kept) / np.maximum(np.bincount(levels, occupied), 1)
    found, known = np.where(occupied, shared[levels], 0.0)[clipped > 0], clipped[clipped > 0]
    found = np.maximum(found, _EMPTY)
    return float((known * np.log(known / found)).sum() / known.sum() - np.log(known.sum() / found.sum()))


def _lsq_grid(values: Histogram, bits: int = BITS) -> Grid:
    """A step of ``2 mean|x| / sqrt(top)``; with 8 bits the top is 255 if no value is negative, else 127 on both sides of 0."""
    if values.low == values.high:
        return grid_for_range(0.0, 0.0, bits)
    edges, counts = values.bins()
    mean = float((np.abs(edges + values.width / 2) * counts).sum() / counts.sum())
    whole = top_of(bits)
    top, zero_point = (whole, 0) if values.low >= 0 else (whole // 2, whole // 2 + 1)
    return Grid(max(2 * mean / math.sqrt(top), SMALLEST_SCALE), zero_point, bits)


def weight_clips(weight: Tensor, *, bits: int, method: Calibrator, percentile: float) -> Tensor:
    """Share of each output channel's largest magnitude that its grid covers, float32 [Co] above 0, with ``mse`` at most 1.

    For ``percentile`` and 8 bits this is hardly below 1: a clipped weight is a large error that repeats in every image. ``lsq``
    is a step of ``2 mean|w| / sqrt(top)``, which at 8 bits covers several times the range; pruned weights do not count. ``lsq+``
    is a step of ``max(|m - 3 s|, |m + 3 s|) / 2^(bits - 1)`` with mean m and standard deviation s of the unpruned weights.
    ``kl`` is the full range, as published: a channel has too few weights for a histogram.
    """
    signed = weight.detach().reshape(len(weight), -1)
    rows = signed.abs()
    # In units of a power of two, which is exact: squares underflow float32 below 1e-19 and overflow above 1e19.
    _, exponents = torch.frexp(rows.amax(1, keepdim=True))
    rows = torch.ldexp(rows, -exponents)
    peak = rows.amax(1)
    peak = torch.where(peak > 0, peak, 1.0)
    if method in ("minmax", "kl"):
        return torch.ones_like(peak)
    if method == "percentile":
        return (torch.quantile(rows.float(), percentile / 100, dim=1) / peak).clamp(0.05, 1.0)
    if method == "lsq":
        mean = rows.sum(1) / (rows > 0).sum(1).clamp_min(1)
        return torch.where(mean > 0, 2 * mean * math.sqrt(2 ** (bits - 1) - 1) / peak, 1.0)
    if method == "lsq+":
        alive = (rows > 0).sum(1).clamp_min(1)
        mean = (rows * signed.sign()).sum(1) / alive
        spread = ((rows * signed.sign() - mean[:, None]).square() * (rows > 0)).sum(1).div(alive).sqrt()
        reach = (mean.abs() + 3 * spread) / 2 ** (bits - 1) * (2 ** (bits - 1) - 1)
        return torch.where(reach > 0, reach / peak, 1.0)
    at_once = max(1, _CACHED // rows.shape[1])
    parts = zip(torch.split(rows, at_once), torch.split(peak, at_once), strict=True)
    return torch.cat([_least_squares(some, peaks, top=2 ** (bits - 1) - 1) for some, peaks in parts])


def _least_squares(rows: Tensor, peak: Tensor, *, top: int) -> Tensor:
    """The clip ratio [R] with the smallest squared error for magnitudes [R, K] whose largest are ``peak`` [R]."""
    best, errors = torch.ones_like(peak), torch.full_like(peak, torch.inf)
    work = torch.empty_like(rows)
    largest = rows.topk(min(_LARGEST, rows.shape[1]), sorted=False).values
    for ratio in CLIP_RATIOS:
        # Clipping the largest weights alone has this error, and more at smaller ratios; 1 % is a margin for rounding.
        if bool((0.99 * (largest - peak[:, None] * ratio).clamp_(min=0).square_().sum(1) > errors).all()):
            break
        step = (peak * ratio / top)[:, None]
        torch.div(rows, step, out=work)
        error = work.round_().clamp_(max=top).mul_(step).sub_(rows).square_().sum(1)
        better = error < errors
        best, errors = torch.where(better, ratio, best), torch.where(better, error, errors)
    return best
