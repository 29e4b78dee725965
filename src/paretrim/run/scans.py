"""Scans of the dense network of a run: the cost of zeros in each layer alone, and ranges of weights and activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paretrim.curves import Sensitivity
from paretrim.errors import InvalidRecipe
from paretrim.run.start import Start
from paretrim.stages.prune.patterns import CHANNEL, FREE
from paretrim.stages.prune.stage import MAGNITUDE, Prune
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.outliers import Spread
from paretrim.stages.quantize.outliers import outliers as studied
from paretrim.torch_settings import usual_settings
from paretrim.visible import brief

PATTERNS = (*(pattern.text for pattern in FREE), CHANNEL)
"""Patterns that can be scanned at rising sparsity."""


def scans_for(patterns: Sequence[str], score: str) -> tuple[Prune, ...]:
    """The stages whose scans are asked for, so that wrong settings are refused before anything trains.

    Raises:
        InvalidRecipe: a pattern or the score is not known, or does not fit.
    """
    for pattern in patterns:
        if pattern not in PATTERNS:
            raise InvalidRecipe(f"pattern {brief(pattern)} cannot be scanned; choose from {', '.join(PATTERNS)}")
    every = Prune(score=MAGNITUDE, first=True, last=True, depthwise=True)
    return tuple(
        Prune(pattern=pattern, score=score) if pattern == CHANNEL else replace(every, pattern=pattern, score=score)
        for pattern in patterns
    )


@usual_settings()
def sensitivity(start: Start, *, patterns: Sequence[str] = PATTERNS, score: str = MAGNITUDE) -> tuple[Sensitivity, ...]:
    """Prune one layer of a trained network at a time, more and more, and measure loss and accuracy.

    Args:
        start: the network and its data (``start_from``, ``start_from_loaders``, ``train_dense``); it stays as it is. As many
            validation images are used as there are calibration images.
        patterns: of ``unstructured``, ``1x4`` and ``channel``; one scan for each.
        score: which weights or channels of a layer go first, as in the ``prune`` stage.

    Raises:
        InvalidRecipe: a pattern or the score is not known, or does not fit.
        TrainingFailed: the loss is not finite.
    """
    stages = scans_for(patterns, score)
    network, resources = start.network.to(start.execution.torch_device()), start.resources(None)
    return tuple(stage.scan(network, resources) for stage in stages)


@usual_settings()
def outliers(start: Start, *, calibrator: Calibrator = "percentile", percentile: float = 99.9) -> tuple[Spread, ...]:
    """The spread of every weight and activation of a trained network, before and after the clipping of a calibrator.

    Args:
        start: the network and its data (``start_from``, ``start_from_loaders``, ``train_dense``); it stays as it is.
        calibrator: chooses the ranges, as in the ``quantize`` stage.
        percentile: of the calibrator ``percentile``, above 50 and at most 100.

    Raises:
        TrainingFailed: a value is not finite on calibration images.
    """
    network = start.network.to(start.execution.torch_device())
    return studied(network, start.calibration.to(start.execution.torch_device()), calibrator=calibrator, percentile=percentile)
