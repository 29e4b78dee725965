"""How long and how a stage trains. The paper's 20/40/40 split is three budgets."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
"""Settings refuse unknown keys and non-finite numbers, from a file and from Python alike."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, config=STRICT)
class Budget:
    """Epochs, batch size, optimizer and learning-rate schedule of one stage. Zero epochs are legal: nothing is trained.

    ``warmup`` is the share of the steps in which the rate rises linearly from 0; ``milestones`` (shares of progress) belong to the
    ``step`` schedule, which divides the rate by 10 at each. Weight decay acts on weights only, not on biases, BatchNorm or scales.
    ``freeze_batchnorm`` is the progress from which BatchNorm statistics are kept, in quantized networks only.
    """

    epochs: Annotated[int, Field(ge=0)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup: Fraction = 0.0
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    label_smoothing: Fraction = 0.0
    clip_norm: Positive | None = None
    freeze_batchnorm: Fraction = 0.67


def learning_rate_at(progress: float, budget: Budget) -> float:
    """Learning rate at ``progress`` in [0, 1): a pure function, blind to the number of epochs."""
    if progress < budget.warmup:
        return budget.learning_rate * max(progress / budget.warmup, 1e-3)
    rest = (progress - budget.warmup) / (1 - budget.warmup) if budget.warmup < 1 else 1.0
    if budget.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * rest))
    elif budget.schedule == "linear":
        factor = 1 - rest
    elif budget.schedule == "step":
        factor = 0.1 ** sum(progress >= milestone for milestone in budget.milestones)
    else:
        factor = 1.0
    return budget.learning_rate * factor
