"""What a stage did, as it goes into checkpoints, results and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StageOutcome:
    """What one stage did. Accuracies are on the validation split, as fractions; ``bits`` are those of the widest weight.

    ``seconds`` are those of pruning or calibration at its beginning and of training.
    """

    name: str
    settings: Mapping[str, object]
    epochs: int
    seconds: float
    sparsity: float
    bits: int
    accuracy_before: float
    accuracy_after: float
