"""What a stage may draw on while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from paretrim.data.batches import Batch, Batches
from paretrim.train.execution import Execution


class Teacher(Protocol):
    """The network that distillation learns from."""

    def logits(self, batch: Batch, epoch: int) -> Tensor:
        """Teacher logits [N, K] float32 for this batch of the run's epoch ``epoch``, without gradient."""
        ...


@dataclass(frozen=True, eq=False)
class Resources:
    """What a stage gets. There is no test data here, so no stage can look at it.

    ``train`` makes training batches of the budget's batch size; ``calibration`` holds normalised training images float32
    [M, C, H, W]; ``seed`` feeds every random stream.
    """

    train: Callable[[int], Batches]
    validation: Batches
    calibration: Tensor
    execution: Execution
    seed: int
    teacher: Teacher | None = None
