"""What training minimises: a weighted sum of pure functions of logits, teacher logits and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a loss may look at: ``logits`` [N, K], ``labels`` [N], the teacher's logits and named features if they were asked for."""

    logits: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LossTerm:
    """One summand. ``weight`` is a number or a function of the stage's progress in [0, 1]."""

    function: Callable[[Outputs], Tensor]
    weight: float | Callable[[float], float] = 1.0
    needs_teacher: bool = False
    features: tuple[str, ...] = ()

    def weight_at(self, progress: float) -> float:
        """The weight at this progress."""
        return self.weight if isinstance(self.weight, (int, float)) else self.weight(progress)


def cross_entropy(label_smoothing: float = 0.0) -> LossTerm:
    """Cross-entropy with the labels, mean over the batch; smoothing as Szegedy et al. 2016."""
    return LossTerm(lambda outputs: F.cross_entropy(outputs.logits.float(), outputs.labels, label_smoothing=label_smoothing))


def softened_kl(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))``, mean over the batch. Source: Hinton et al. 2015, section 2."""
    student = F.log_softmax(logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
