"""Losses on the logits of student and teacher."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import StrictBool
from torch import Tensor, nn
from torch.nn import functional

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.distill.criterion import require_classes, weightless
from paretrim.train.budget import Fraction, NotNegative, Positive
from paretrim.train.losses import LossTerm, Outputs
from paretrim.train.resources import Resources
from paretrim.train.task import Task

SMALLEST_DEVIATION = 1e-7
"""Added to the standard deviation of logits, so that equal logits can be standardised."""

METHODS = (
    Method(
        name="kd",
        kind="loss",
        source="Hinton et al. 2015, arXiv 1503.02531, section 2",
        what="match the softened logits of the teacher",
        formula="T^2 KL(softmax(z_teacher / T) || softmax(z / T))",
        recipe="kd",
        settings=(
            "distill.temperature",
            "distill.alpha",
        ),
    ),
    Method(
        name="dkd",
        kind="loss",
        source="Zhao et al. 2022 (DKD), arXiv 2203.08679, equations 6 and 7",
        what="match the teacher's probability of the label and its distribution over the other classes, with separate weights",
        formula="alpha TCKD + beta NCKD; KD = TCKD + (1 - p_teacher(label)) NCKD",
        recipe="dkd",
        settings=("distill.criteria",),
    ),
)


@settings(idle=(weightless("temperature", "standardise"),))
class SoftLogits:
    """``T^2 KL(teacher || student)`` of logits softened by the temperature T. Source: Hinton et al. 2015, section 2.

    With ``standardise`` the logits of each image are first scaled to mean 0 and standard deviation 1, so that the student need
    not match their range; published with temperature 2 and weight 9, and 0.1 for labels. Source: Sun et al. 2024, "Logit
    standardization in knowledge distillation", algorithm 1.

    For tasks other than classification, the task's imitation loss replaces the divergence.
    """

    loss: Literal["kd"] = "kd"
    weight: NotNegative = 1.0
    temperature: Positive = 4.0
    standardise: StrictBool = False

    def begin(self, _network: Network, resources: Resources, /) -> nn.ModuleDict:
        """No modules."""
        if self.standardise:
            require_classes(resources, "standardise")
        return nn.ModuleDict()

    def term(self, task: Task, /) -> LossTerm:
        """The divergence."""

        def function(outputs: Outputs) -> Tensor:
            of_teacher(outputs)
            student, teacher = outputs.outputs, outputs.teacher_outputs
            if self.standardise:
                student, teacher = tuple(map(standardised, student)), tuple(map(standardised, teacher))
            return task.imitation(student, teacher, temperature=self.temperature)

        return LossTerm(function, self.weight, needs_teacher=True)


_IDLE = (
    weightless("alpha", "beta", "temperature", "warmup", "standardise"),
    Idle(
        ("weight", "temperature", "warmup", "standardise"),
        lambda one: one.alpha == one.beta == 0,
        "alpha and beta are 0",
        "set one of them above 0",
    ),
)


@settings(idle=_IDLE)
class DecoupledLogits:
    """``alpha TCKD + beta NCKD`` (DKD): the teacher's confidence in the label, and its distribution over the other classes.

    With p the softened probability of the label, TCKD is ``T^2 KL`` of the pairs (p, 1 - p), and NCKD is ``T^2 KL`` of the
    softened logits without the label's, both as KL(teacher || student). KD is ``TCKD + (1 - p_teacher) NCKD``. The weight grows
    linearly over the share ``warmup`` of the stage (20 of 240 epochs as published).

    Source: Zhao et al. 2022, "Decoupled knowledge distillation", equations 6 and 7. ``standardise`` as for ``kd``.
    """

    loss: Literal["dkd"] = "dkd"
    weight: NotNegative = 1.0
    alpha: NotNegative = 1.0
    beta: NotNegative = 8.0
    temperature: Positive = 4.0
    warmup: Fraction = 20 / 240
    standardise: StrictBool = False

    def begin(self, _network: Network, resources: Resources, /) -> nn.ModuleDict:
        """No modules."""
        require_classes(resources, self.loss)
        return nn.ModuleDict()

    def term(self, _task: Task, /) -> LossTerm:
        """Both parts, mean over the batch."""
        return LossTerm(self._value, lambda progress: warmed(self.weight, self.warmup, progress), needs_teacher=True)

    def _value(self, outputs: Outputs) -> Tensor:
        student, teacher = outputs.logits, of_teacher(outputs)
        if self.standardise:
            student, teacher = standardised(student), standardised(teacher)
        target, others = decoupled(student, teacher, outputs.labels, self.temperature)
        return (self.alpha * target + self.beta * others).mean()


def of_teacher(outputs: Outputs) -> Tensor:
    """The teacher's logits [N, K].

    Raises:
        InvalidRecipe: there are none.
    """
    if outputs.teacher_logits is None:
        raise InvalidRecipe("the distillation loss was called without teacher logits")
    return outputs.teacher_logits


def warmed(weight: float, warmup: float, progress: float) -> float:
    """The weight, growing linearly from 0 over the share ``warmup`` of the stage."""
    return weight if progress >= warmup else weight * progress / warmup


def standardised(logits: Tensor) -> Tensor:
    """Logits [N, K] with mean 0 and standard deviation 1 for each image, float32."""
    centred = logits.float() - logits.float().mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True).sqrt() + SMALLEST_DEVIATION)


def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of logits [N, K] with labels int64 [N]: two tensors [N] float32, times the temperature squared."""
    pairs, others = [], []
    for logits in (teacher, student):
        soft = logits.float() / temperature
        is_other = torch.ones_like(soft, dtype=torch.bool).scatter_(1, labels[:, None], False)
        rest = soft[is_other].reshape(len(soft), -1)
        both = torch.stack((soft.gather(1, labels[:, None])[:, 0], rest.logsumexp(1)), 1)
        pairs.append(both.log_softmax(1))
        others.append(rest.log_softmax(1))
    factor = temperature**2
    return factor * _divergence(*pairs), factor * _divergence(*others)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log probabilities [N, K], for each image."""
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
