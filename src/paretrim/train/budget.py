"""How long a stage trains, and how."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from pydantic import Field, StrictBool

from paretrim.settings import Idle, settings
from paretrim.stored_fields import LATER

LARGEST = 1e30
"""Far above any sensible setting; float32 can hold it and its quotients in an optimizer."""

MOST = 10**9
"""The same for counts, so that products of two fit in 64 bits."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Positive = Annotated[float, Field(gt=0.0, le=LARGEST, strict=True)]
NotNegative = Annotated[float, Field(ge=0.0, le=LARGEST, strict=True)]
Count = Annotated[int, Field(ge=0, le=MOST, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, le=MOST, strict=True)]

LEAST_WARMUP = 1e-3
"""Share of the rate at which a warm-up begins: at rate 0 the first step would only fill the momentum."""


_IDLE = (
    Idle(
        ("momentum", "nesterov"),
        lambda budget: budget.optimizer == "adamw",
        "optimizer is 'adamw', which has averages of its own",
        "set optimizer to sgd or muon",
    ),
    Idle(
        ("nesterov",),
        lambda budget: budget.momentum == 0,
        "momentum is 0",
        "set momentum above 0",
    ),
    Idle(
        ("muon_rate",),
        lambda budget: budget.optimizer != "muon",
        "optimizer is '{optimizer}', which turns no weights",
        "set optimizer to muon",
    ),
    Idle(
        ("milestones",),
        lambda budget: budget.schedule != "step",
        "schedule is '{schedule}', which has no steps",
        "set schedule to step",
    ),
    Idle(
        ("schedule", "milestones"),
        lambda budget: budget.warmup == 1,
        "warmup is 1.0, so that the rate rises to the end",
        "set warmup below 1",
    ),
    Idle(
        ("skip",),
        lambda budget: budget.schedule == "constant" and budget.warmup == 0,
        "schedule is 'constant' without a warmup, so that every part of it is the same",
        "set another schedule",
    ),
    Idle(
        (
            *("batch_size", "optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule", "warmup"),
            *("milestones", "label_smoothing", "clip_norm", "freeze_batchnorm", "batchnorm_bias_rate", "skip", "lookahead"),
            "muon_rate",
        ),
        lambda budget: budget.epochs == 0,
        "epochs is 0, so that nothing is trained",
        "set epochs above 0",
        in_code=False,
    ),
)


@settings(idle=_IDLE)
class Budget:
    """Epochs, batch size, optimizer and learning-rate schedule of one stage. Zero epochs are allowed: nothing is trained.

    ``warmup`` is the share of the steps in which the rate rises linearly from 0; ``milestones`` (shares of progress) belong to
    the ``step`` schedule, which divides the rate by 10 at each. Weight decay acts on weights only, not on biases, BatchNorm or
    scales. ``momentum`` and ``nesterov`` belong to ``sgd`` and ``muon``. ``clip_norm`` bounds the norm of the whole gradient.
    ``freeze_batchnorm`` is the progress from which BatchNorm statistics are frozen, in quantized networks only. Step sizes that
    were safe until then may diverge: a schedule whose rate is still high at that point (``constant``) needs a later one.
    ``batchnorm_bias_rate`` multiplies the learning rate of BatchNorm biases. A rate of 64 shortens training from nothing with
    ``sgd`` (Jordan 2024, arXiv 2404.00498, section 3.4, after Page 2018). ``skip`` is the share of the learning-rate schedule
    that is skipped at the start: the stage begins in the middle of it. ``lookahead`` is the number of steps between averagings of
    the weights over the stage (Zhang et al. 2019, arXiv 1907.08610; Jordan 2024, section 3.4); 0 averages nothing. With ``muon``,
    weights of hidden layers turn by ``muon_rate`` of their norm in a step (:mod:`paretrim.train.muon`), at the top of the same
    schedule; ``learning_rate`` and ``weight_decay`` are those of the first and last layer and of vectors, which train as with
    ``sgd``.

    Raises:
        InvalidSettings: a value is of another type or out of range.
    """

    epochs: Count = 5
    batch_size: AtLeastOne = 128
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: Annotated[float, Field(ge=0.0, lt=1.0, strict=True)] = 0.9
    nesterov: StrictBool = True
    weight_decay: NotNegative = 5e-4
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup: Fraction = 0.0
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    label_smoothing: Fraction = 0.0
    clip_norm: Positive | None = None
    freeze_batchnorm: Fraction = 0.9
    batchnorm_bias_rate: Positive = dataclasses.field(default=1.0, metadata=LATER)
    skip: Annotated[float, Field(ge=0.0, lt=1.0, strict=True)] = dataclasses.field(default=0.0, metadata=LATER)
    lookahead: Count = dataclasses.field(default=0, metadata=LATER)
    muon_rate: Annotated[float, Field(gt=0.0, lt=1.0, strict=True)] = dataclasses.field(default=0.02, metadata=LATER)


def learning_rate_at(progress: float, budget: Budget) -> float:
    """Learning rate at ``progress`` in [0, 1): a pure function, independent of the number of epochs.

    ``cosine`` and ``linear`` run from the full rate at the end of the warm-up to 0 at the end. Source of the cosine: Loshchilov
    & Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.
    """
    progress = budget.skip + (1 - budget.skip) * progress if budget.skip else progress
    if progress < budget.warmup:
        return budget.learning_rate * max(progress / budget.warmup, LEAST_WARMUP)
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
