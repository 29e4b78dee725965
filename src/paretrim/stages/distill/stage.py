"""Distillation as a stage: learn from the logits of a teacher, or from the outputs of its modules."""

from __future__ import annotations

import copy
import dataclasses
from typing import ClassVar

from pydantic import Field
from torch import nn

from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.distill.criteria import AnyCriterion
from paretrim.stages.distill.criterion import teacher_of
from paretrim.stages.distill.logits import SoftLogits
from paretrim.stored_fields import LATER
from paretrim.train.budget import Budget, Fraction, NotNegative, Positive
from paretrim.train.losses import LossTerm, task_loss, with_modules
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="distill",
        kind="stage",
        source="Hinton et al. 2015, arXiv 1503.02531, section 2",
        what="learn from the softened logits of a teacher, and from the labels",
        formula="(1 - alpha) CE(labels, p) + alpha T^2 KL(softmax(z_teacher / T) || softmax(z / T))",
        recipe="kd",
    ),
)


_IDLE = (
    Idle(
        ("temperature", "alpha"),
        lambda stage: bool(stage.criteria),
        "there are criteria, which have their own",
        "add kd with its temperature and weight to the criteria, and set labels",
    ),
    Idle(("labels",), lambda stage: not stage.criteria, "there are no criteria", "set alpha"),
    Idle(
        ("temperature", "teacher", "decay"),
        lambda stage: not stage.criteria and stage.alpha == 0,
        "alpha is 0, so that only the labels count",
        "set alpha above 0",
    ),
    Idle(
        ("budget.label_smoothing",),
        lambda stage: not stage.criteria and stage.alpha == 1 and stage.decay == 0,
        "alpha is 1, so that the labels do not count",
        "set alpha below 1",
        in_code=False,
    ),
    Idle(
        ("budget.label_smoothing",),
        lambda stage: bool(stage.criteria) and stage.labels == 0,
        "labels is 0, so that the labels do not count",
        "set labels above 0",
        in_code=False,
    ),
    Idle(
        ("temperature", "alpha", "criteria", "labels", "teacher", "decay"),
        lambda stage: stage.budget.epochs == 0,
        "the budget has 0 epochs, so that nothing is trained",
        "give it epochs",
        in_code=False,
    ),
)


@settings(idle=_IDLE)
class Distill:
    """``(1 - alpha) CE(labels) + alpha T^2 KL(teacher || student)`` at temperature T. Source: Hinton et al. 2015.

    With ``criteria``, the loss is their weighted sum plus ``labels`` times the cross-entropy. Each criterion is one loss with its
    own settings and its published weight (``CRITERIA``); with ``labels = 0`` only the criteria are used.

    With several teachers, ``teacher`` is the name of the one to learn from; without it the student learns from the mean of their
    probabilities. ``together`` with a part for each teacher gives the weighted sum of their losses.

    ``decay`` reduces the soft loss linearly over the stage: alpha falls to ``(1 - decay) alpha``, and the weights of all criteria
    fall likewise. Source: Shin et al. 2019, "Knowledge distillation for optimization of quantized deep neural networks", arXiv
    1909.01688 (gradual soft loss reducing; the linear decay is ours).

    For tasks other than classification, the task's loss and imitation loss take the place of cross-entropy and divergence.

    The teacher is the dense network unless the recipe names another.

    Raises:
        InvalidRecipe: settings that cannot be combined.
    """

    name: ClassVar[str] = "distill"
    budget: Budget = Field(default_factory=Budget)
    temperature: Positive = 4.0
    alpha: Fraction = 0.9
    criteria: tuple[AnyCriterion, ...] = dataclasses.field(default=(), metadata=LATER)
    labels: NotNegative = dataclasses.field(default=1.0, metadata=LATER)
    teacher: str = dataclasses.field(default="", metadata=LATER)
    decay: Fraction = dataclasses.field(default=0.0, metadata=LATER)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A plain copy, and the modules of every criterion under its number.

        Raises:
            InvalidRecipe: there is no teacher, or a criterion does not fit network, teacher or task.
        """
        taught = dataclasses.replace(resources, teacher=teacher_of(resources, self.teacher))
        private = copy.deepcopy(network)
        extra = {str(number): one.begin(private, taught) for number, one in enumerate(self.criteria)}
        return Training(private, resources, nn.ModuleDict(extra))

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: nothing depends on progress."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, resources: Resources, /) -> tuple[LossTerm, ...]:
        """The loss on labels, and the losses on the teacher's outputs."""
        task = resources.task
        labels = task_loss(task, self.budget.label_smoothing).function
        if not self.criteria:
            soft = dataclasses.replace(SoftLogits(temperature=self.temperature).term(task), weight=self.alpha)
            return LossTerm(labels, self._of_labels if self.decay else 1 - self.alpha), self._taught(soft)
        learned = (self._taught(with_modules(one.term(task), str(number))) for number, one in enumerate(self.criteria))
        return *((LossTerm(labels, self.labels),) if self.labels else ()), *learned

    def _of_labels(self, progress: float) -> float:
        """The weight of the labels, beside a decaying soft loss."""
        return 1 - self.alpha * (1 - self.decay * progress)

    def _taught(self, term: LossTerm) -> LossTerm:
        """The term with this stage's teacher and decay."""
        named = dataclasses.replace(term, teacher=self.teacher)
        if not self.decay:
            return named
        return dataclasses.replace(named, weight=lambda progress: term.weight_at(progress) * (1 - self.decay * progress))
