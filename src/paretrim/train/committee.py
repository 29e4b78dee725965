"""Several teachers as one: the weighted mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paretrim.data.batches import Batch
from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.train.resources import Teacher
from paretrim.train.task import CLASSIFICATION, Task


@dataclass(frozen=True, eq=False)
class Committee:
    """The weighted mean of several teachers: for classifiers the log of the mean of their probabilities, else of their outputs.

    The weights are divided by their sum. A softmax of the logits recovers the mean of the probabilities. What modules return
    is not averaged, since teachers may be built differently.

    Source: Hinton et al. 2015, arXiv 1503.02531, section 2 (the arithmetic mean of an ensemble's predictions).
    """

    members: Mapping[str, tuple[float, Teacher]]
    task: Task = CLASSIFICATION

    @property
    def bytes_per_image(self) -> int:
        """What an image of an epoch takes on disk."""
        return sum(teacher.bytes_per_image for _, teacher in self.members.values())

    def logits(self, batch: Batch, epoch: int) -> Tensor:
        """Logits [N, K] float32 for this batch; the numbers of all outputs concatenated."""
        return torch.cat([output.flatten(1) for output in self.outputs(batch, epoch)], dim=1)

    def outputs(self, batch: Batch, epoch: int) -> tuple[Tensor, ...]:
        """Every output [N, ...] float32 for this batch."""
        total = sum(weight for weight, _ in self.members.values())
        said = [(weight / total, teacher.outputs(batch, epoch)) for weight, teacher in self.members.values()]
        return tuple(self._mean([(share, outputs[number]) for share, outputs in said]) for number in range(len(said[0][1])))

    def values(self, _batch: Batch, _epoch: int, names: Sequence[str], /) -> Mapping[str, Tensor]:
        """Refused.

        Raises:
            InvalidRecipe: always.
        """
        raise self._refused(f"the values of '{names[0]}'")

    def shape_at(self, path: str) -> tuple[int, ...]:
        """Refused.

        Raises:
            InvalidRecipe: always.
        """
        raise self._refused(f"the values of '{path}'")

    def trainable(self) -> Network:
        """Refused.

        Raises:
            InvalidRecipe: always.
        """
        raise self._refused("a network to train")

    def _mean(self, said: Sequence[tuple[float, Tensor]]) -> Tensor:
        if self.task == CLASSIFICATION:
            return torch.stack([output.log_softmax(1) + math.log(share) for share, output in said]).logsumexp(0)
        return torch.stack([share * output for share, output in said]).sum(0)

    def _refused(self, what: str) -> InvalidRecipe:
        return InvalidRecipe(
            f"several teachers together give only logits; to use {what}, name one of them with teacher = in the distill stage: "
            f"{', '.join(self.members)}"
        )
