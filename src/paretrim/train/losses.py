"""What training minimises: a weighted sum of pure functions of logits, teacher logits and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional

from paretrim.network.constraints import Weighted


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a loss may look at: ``logits`` [N, K] and ``labels`` [N]; the teacher's logits and named features if asked for.

    ``layers`` are the weighted layers of the network that is trained.
    """

    logits: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    layers: tuple[Weighted, ...] = ()


@dataclass(frozen=True, eq=False)
class LossTerm:
    """One summand. ``weight`` is a number or a function of the stage's progress in [0, 1].

    A ``penalty`` is no goal of its own: where nothing but penalties is given, the goal is cross-entropy with the labels.
    """

    function: Callable[[Outputs], Tensor]
    weight: float | Callable[[float], float] = 1.0
    needs_teacher: bool = False
    features: tuple[str, ...] = ()
    penalty: bool = False

    def weight_at(self, progress: float) -> float:
        """The weight at this progress."""
        return self.weight if isinstance(self.weight, (int, float)) else self.weight(progress)


def cross_entropy(label_smoothing: float = 0.0) -> LossTerm:
    """Cross-entropy with the labels, mean over the batch, float32; smoothing as Szegedy et al. 2016, section 7."""
    return LossTerm(
        lambda outputs: functional.cross_entropy(outputs.logits.float(), outputs.labels, label_smoothing=label_smoothing)
    )


def with_a_goal(terms: Sequence[LossTerm], label_smoothing: float) -> tuple[LossTerm, ...]:
    """The terms, behind cross-entropy if all of them are penalties or there are none."""
    goal = () if any(not term.penalty for term in terms) else (cross_entropy(label_smoothing),)
    return *goal, *terms


def softened_kl(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))``, mean over the batch. Source: Hinton et al. 2015, section 2."""
    student = functional.log_softmax(logits.float() / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits.float() / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
