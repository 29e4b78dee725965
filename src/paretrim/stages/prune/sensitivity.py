"""Sensitivity scan: the loss when one layer at a time is pruned, at rising sparsity.

Source: Han et al. 2015, "Learning both weights and connections for efficient neural networks", arXiv 1506.02626, section 4.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from paretrim.curves import Curve, CurvePoint, Sensitivity
from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.graph.channels import best_first
from paretrim.method import Method
from paretrim.network.constraints import replace_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.stages.prune.channels import SetSelector, scored_classes, without_channels
from paretrim.stages.prune.patterns import Pattern, block_alive, mask_for
from paretrim.train.evaluate import worth
from paretrim.train.execution import fast_batches
from paretrim.train.resources import Resources

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""The sparsities to scan; one unit of a layer is always kept."""

METHODS = (
    Method(
        name="sensitivity",
        kind="allocation",
        source="Han et al. 2015, arXiv 1506.02626, section 4",
        what="prune every layer until the loss rises by the same amount, by a scan of one layer at a time",
        formula="s_l(t) = largest s with loss(layer l alone at s) - loss <= t; one t makes the total exact",
        recipe="sensitivity",
    ),
)


def scan_weights(
    network: Network,
    resources: Resources,
    scores: Mapping[str, Tensor],
    pattern: Pattern,
    *,
    score: str = "magnitude",
    sparsities: Sequence[float] = SPARSITIES,
) -> Sensitivity:
    """Prune one layer in ``scores`` at a time and measure loss and metric on validation images. The network is not changed.

    Args:
        network: pruned or not; existing zeros stay, and count.
        resources: provides the validation images; as many are used as there are calibration images.
        scores: non-negative scores of weights by layer; the blocks with the smallest are pruned first.
        pattern: what a block is.
        score: name of the scores.
        sparsities: shares of zero blocks, rising.

    Raises:
        InvalidRecipe: the pattern sets the sparsity, so there is nothing to scan.
    """
    if pattern.fixed:
        raise InvalidRecipe(f"pattern {pattern.text} has only one sparsity, so a scan makes no sense; choose unstructured or 1x4")
    private = copy.deepcopy(network).eval()
    look = _Look(private, resources)
    base = look.at(private, 0.0)
    layers, curves = weighted_layers(private), []
    for name, given in scores.items():
        layer = layers[name]
        weight = layer.weight.detach().clone()
        before = torch.ones_like(weight, dtype=torch.bool) if layer.mask is None else layer.mask
        alive = block_alive(before, pattern)
        units, living = alive.numel(), int(alive.sum())
        points = [CurvePoint(1 - living / units, base.loss, base.value)]
        for keep in _survivors(units, living, sparsities):
            replace_mask_(layer, mask_for(given, keep, pattern, alive=before))
            points.append(look.at(private, 1 - keep / units))
            with torch.no_grad():
                layer.weight.copy_(weight)
        replace_mask_(layer, before)
        curves.append(Curve((name,), units, tuple(points)))
    return look.found(pattern.text, score, base, curves)


def scan_channels(
    network: Network,
    resources: Resources,
    row_scores: Mapping[str, Tensor],
    *,
    score: str = "magnitude",
    sparsities: Sequence[float] = SPARSITIES,
    selected: SetSelector | None = None,
) -> Sensitivity:
    """The same for whole channels: each set of coupled channels that is selected has one curve; without ``selected``, each.

    ``row_scores`` are the scores of the output channels of every weighted layer, float64 [Co].
    """
    look = _Look(network, resources)
    base = look.at(copy.deepcopy(network).eval(), 0.0)
    groups, scores = scored_classes(network, row_scores, selected)
    curves = []
    for members in best_first(groups, scores):
        names = groups.producers_of(members)
        count = len(members)
        pruned = (
            look.at(without_channels(network, groups, np.sort(members[keep:])).eval(), 1 - keep / count)
            for keep in _survivors(count, count, sparsities)
        )
        curves.append(Curve(names, count, (base, *pruned)))
    return look.found("channel", score, base, curves)


def _survivors(units: int, living: int, sparsities: Sequence[float]) -> Iterator[int]:
    """Numbers of units to keep, falling and distinct, all fewer than ``living``."""
    last = living
    for sparsity in sparsities:
        keep = max(1, units - round(sparsity * units))
        if keep < last:
            yield keep
            last = keep


class _Look:
    """Measures networks on held-out images."""

    def __init__(self, network: Network, resources: Resources) -> None:
        device = next(network.parameters()).device
        images, labels = held_out(resources, len(resources.calibration))
        self._images, self._labels, self._task = images.to(device), labels, resources.task

    def at(self, network: Network, sparsity: float) -> CurvePoint:
        with torch.no_grad():
            parts = [network.outputs(part) for part in fast_batches(network, self._images)]
            outputs = tuple(torch.cat(output).float().cpu() for output in zip(*parts, strict=True))
            loss = float(self._task.loss(outputs, self._labels, label_smoothing=0.0))
        decisions = torch.from_numpy(self._task.decide(tuple(output.numpy() for output in outputs)))
        if not math.isfinite(loss):
            raise TrainingFailed(
                "the loss of the network on validation images is not finite; check the weights, or train with a lower "
                "learning rate"
            )
        return CurvePoint(sparsity, loss, worth(self._task, decisions, self._labels))

    def found(self, pattern: str, score: str, base: CurvePoint, curves: Sequence[Curve]) -> Sensitivity:
        return Sensitivity(pattern, score, len(self._images), self._task.metric, base.loss, base.value, tuple(curves))


def held_out(resources: Resources, count: int) -> tuple[Tensor, Tensor]:
    """About ``count`` validation images [N, C, H, W], spread evenly over all of them, and their labels, on the CPU.

    At most ``2 count`` are in memory at once.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    step, position = 1, 0
    for batch in resources.validation.epoch(0):
        for image, label in zip(batch.inputs.cpu(), batch.labels.cpu(), strict=True):
            if position % step == 0:
                images.append(image)
                labels.append(label)
            position += 1
            if len(images) == 2 * count:
                images, labels, step = images[::2], labels[::2], 2 * step
    return torch.stack(images), torch.stack(labels)
