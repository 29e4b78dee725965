"""Distillation as a stage: learn from the softened logits of a teacher."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.train.budget import STRICT, Budget, Fraction, Positive
from paretrim.train.losses import LossTerm, Outputs, task_loss
from paretrim.train.resources import Resources
from paretrim.train.task import Task
from paretrim.train.training import Step, Training


@dataclass(frozen=True, config=STRICT)
class Distill:
    """``(1 - alpha) CE(labels) + alpha T^2 KL(teacher || student)`` at temperature T. Source: Hinton et al. 2015.

    In another task than classification, its loss and its imitation stand in their places.

    The teacher is the dense network unless the recipe names another.
    """

    name: ClassVar[str] = "distill"
    budget: Budget = Field(default_factory=Budget)
    temperature: Positive = 4.0
    alpha: Fraction = 0.9

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A plain copy.

        Raises:
            InvalidRecipe: there is no teacher.
        """
        if resources.teacher is None:
            raise InvalidRecipe(
                "a distill stage needs a teacher and the recipe has none; set [teacher] or give the dense network"
            )
        return Training(copy.deepcopy(network), resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Nothing ramps."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Gradients are not looked at."""

    def losses(self, resources: Resources, /) -> tuple[LossTerm, ...]:
        """Labels and softened logits."""
        labels, task = task_loss(resources.task, self.budget.label_smoothing), resources.task
        return (
            LossTerm(labels.function, 1 - self.alpha),
            LossTerm(lambda outputs: self._from_teacher(outputs, task), self.alpha, needs_teacher=True),
        )

    def _from_teacher(self, outputs: Outputs, task: Task) -> Tensor:
        if outputs.teacher_logits is None:
            raise InvalidRecipe("the distillation loss was called without teacher logits")
        return task.imitation((outputs.logits,), (outputs.teacher_logits,), temperature=self.temperature)
