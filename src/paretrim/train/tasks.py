"""Tasks by the names that recipes and the command line give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.metric import SQUARED_ERROR, Metric
from paretrim.own_code import imported
from paretrim.plain_settings import FilledText, plain_settings
from paretrim.train.task import CLASSIFICATION, Task, TaskArray
from paretrim.visible import brief

ALIKE = 0.01
"""Numbers of two networks count as the same if they differ by at most this share of the largest number over all images."""


@plain_settings()
class Regression:
    """Numbers for each image: labels [N] or [N, ...], as many as the outputs, concatenated in order, have numbers.

    For a data set of classes, the label is the class number, and the network has one output.
    """

    name: FilledText = "regression"
    metric: Metric = SQUARED_ERROR

    def batch_labels(self, labels: Tensor, _images: int, _where: str, /) -> Tensor:
        """Numbers of any type, as float32."""
        return labels.float()

    def check_labels(self, labels: Tensor, shapes: Sequence[tuple[int, ...]], where: str, /) -> None:
        """There are as many labels for each image as the network returns numbers.

        Raises:
            DataUnavailable: there are more, or fewer.
        """
        given, returned = labels[:1].numel(), sum(int(np.prod(shape)) for shape in shapes)
        if given != returned:
            raise DataUnavailable(
                f"{where} {given} labels for each image and the network returns {returned} numbers; give the network as many "
                "outputs as there are labels"
            )

    def loss(self, outputs: tuple[Tensor, ...], labels: Tensor, /, *, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """The mean squared error; there is nothing to smooth."""
        return functional.mse_loss(_numbers(outputs), labels.float().reshape(len(labels), -1))

    def imitation(self, outputs: tuple[Tensor, ...], teacher: tuple[Tensor, ...], /, *, temperature: float) -> Tensor:  # noqa: ARG002
        """The mean squared distance to the teacher's numbers, which have no temperature.

        Source: Ba and Caruana 2014, section 2.3.
        """
        return functional.mse_loss(_numbers(outputs), _numbers(teacher))

    def running(self, outputs: tuple[Tensor, ...], labels: Tensor, /) -> Tensor:
        """The sum of the squared errors of the images."""
        return self.loss(outputs, labels, label_smoothing=0.0).detach() * len(labels)

    def decide(self, outputs: tuple[TaskArray, ...], /) -> TaskArray:
        """The numbers themselves, [N, K]."""
        return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)

    def agreement(self, ours: TaskArray, theirs: TaskArray, /) -> TaskArray:
        """Whether all numbers of an image are the same up to :data:`ALIKE`."""
        return np.asarray((np.abs(ours - theirs) <= ALIKE * np.abs(ours).max()).all(axis=1))

    def score(self, decisions: TaskArray, labels: TaskArray, /) -> TaskArray:
        """The squared error of each image, mean over its numbers."""
        return np.asarray(np.square(decisions.astype(np.float64) - labels.reshape(len(labels), -1)).mean(axis=1))

    def value(self, scores: TaskArray, /) -> float:
        """Its mean over the images."""
        return float(scores.mean())


REGRESSION = Regression()

TASKS: Mapping[str, Task] = {task.name: task for task in (CLASSIFICATION, REGRESSION)}
"""Tasks that recipes and ``--task`` name without a module."""


def task_named(text: str) -> Task:
    """One of :data:`TASKS`, or what ``package.module:name`` returns when called without arguments.

    Raises:
        InvalidRecipe: there is no such task, or what is named is not a task.
    """
    if text in TASKS:
        return TASKS[text]
    if ":" not in text:
        known = ", ".join(TASKS)
        raise InvalidRecipe(f"task is {brief(text)}; write one of {known}, or package.module:name of a class of your own")
    made = imported(text, "task")()
    if not isinstance(getattr(made, "metric", None), Metric):
        raise InvalidRecipe(f"task {brief(text)} gives {brief(made)}, which has no metric; it must be a paretrim.Task")
    return cast(Task, made)


def outputs_for(task: Task, classes: int) -> int:
    """How many outputs a network is built with for data of this many classes."""
    return 1 if task == REGRESSION else classes


def _numbers(outputs: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([output.float().flatten(1) for output in outputs], dim=1)
