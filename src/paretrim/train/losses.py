"""What training minimises: a weighted sum of pure functions of the outputs of a network, and a teacher, for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from torch import Tensor, nn

from paretrim.network.constraints import WeightedLayer
from paretrim.plain_settings import plain_settings
from paretrim.train.task import CLASSIFICATION, Task
from paretrim.train.task import softened_kl as softened_kl


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a loss gets: ``logits`` [N, K] and ``labels`` [N, ...] of a batch, and what its term asked for.

    For a network of several outputs ``logits`` [N, ...] is the first and ``others`` are the rest; ``outputs`` has all. The fields
    for the teacher are alike. ``features`` and ``teacher_features`` are values [N, ...] float32 of network and teacher by the
    paths that the terms named. ``layers`` are the weighted layers of the network that is trained, ``extra`` the stage's own
    modules. ``indices`` [N] are the positions of the images in the training set, None if they are not known (a user's
    loader without :class:`paretrim.IndexedDataset`). ``inputs`` [N, C, H, W] is what the network was given, for a loss that
    trains another network beside it.
    """

    logits: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    layers: tuple[WeightedLayer, ...] = ()
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    indices: Tensor | None = None
    extra: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    others: tuple[Tensor, ...] = ()
    teacher_others: tuple[Tensor, ...] = ()
    inputs: Tensor | None = None

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """All outputs of the network."""
        return self.logits, *self.others

    @property
    def teacher_outputs(self) -> tuple[Tensor, ...]:
        """All outputs of the teacher; empty if no term asked for them."""
        return () if self.teacher_logits is None else (self.teacher_logits, *self.teacher_others)


@plain_settings(eq=False)
class LossTerm:
    """One summand. ``weight`` is a number or a function of the stage's progress in [0, 1].

    ``features`` and ``teacher_features`` name values of the network and of the teacher: what a module returns, by the path of
    the user's module. ``needs_teacher`` asks for the teacher's logits. ``teacher`` names one of several teachers;
    without it, the mean of all of them is meant.

    ``needs_indices`` says that the function reads ``Outputs.indices``: a run whose batches have no positions is then refused
    before it trains.

    A ``penalty`` is not a goal by itself: if there are only penalties, the loss of the task is added.
    """

    function: Callable[[Outputs], Tensor]
    weight: float | Callable[[float], float] = 1.0
    needs_teacher: bool = False
    features: tuple[str, ...] = ()
    penalty: bool = False
    teacher_features: tuple[str, ...] = ()
    teacher: str = ""
    needs_indices: bool = False

    @property
    def is_taught(self) -> bool:
        """Whether it learns from a teacher."""
        return self.needs_teacher or bool(self.teacher_features)

    def weight_at(self, progress: float) -> float:
        """The weight at this progress."""
        return self.weight if isinstance(self.weight, (int, float)) else self.weight(progress)


def with_modules(term: LossTerm, name: str) -> LossTerm:
    """A term that sees only the modules under ``name``, so that several terms of one stage each have their own."""

    def function(outputs: Outputs) -> Tensor:
        return term.function(replace(outputs, extra=modules_under(outputs.extra, name)))

    return replace(term, function=function)


def modules_under(extra: nn.ModuleDict, name: str) -> nn.ModuleDict:
    """The modules under ``name``."""
    return cast(nn.ModuleDict, extra[name])


def task_loss(task: Task, label_smoothing: float = 0.0) -> LossTerm:
    """What the task minimises."""
    return LossTerm(lambda found: task.loss(found.outputs, found.labels, label_smoothing=label_smoothing))


def cross_entropy(label_smoothing: float = 0.0) -> LossTerm:
    """Cross-entropy with the labels, mean over the batch, float32; smoothing as Szegedy et al. 2016, section 7."""
    return task_loss(CLASSIFICATION, label_smoothing)


def with_a_goal(terms: Sequence[LossTerm], label_smoothing: float, task: Task = CLASSIFICATION) -> tuple[LossTerm, ...]:
    """The terms, with the task's loss first if there are none or only penalties."""
    goal = () if any(not term.penalty for term in terms) else (task_loss(task, label_smoothing),)
    return *goal, *terms
