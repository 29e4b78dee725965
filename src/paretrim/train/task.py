"""What a network is for: what it learns, what it decides, and the number that judges its decisions.

Nothing else in the package knows what outputs and labels mean. Classification is the default, ``tasks.py`` has others by name,
and ``examples/own_task.py`` one of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from paretrim.data.user_loader import SUPPORTED, class_labels
from paretrim.errors import DataUnavailable, UnsupportedOperation
from paretrim.metric import ACCURACY, Metric
from paretrim.plain_settings import FilledText, plain_settings

TaskArray = npt.NDArray[Any]


@runtime_checkable
class Task(Protocol):
    """What the whole run asks of a task. Outputs are always a tuple: one tensor or array [N, ...] for each output of the network.

    Labels are one tensor of any type whose first axis is the image; where images have different numbers of targets they are
    padded. Decisions and scores are arrays whose first axis is the image, too. Judging takes two steps: ``score`` looks at each
    image by itself, ``value`` makes one number of the scores of any set of images. A drop between two networks is therefore
    judged image by image, even if the metric is not a mean (``docs/decisions``, "A task").
    """

    @property
    def name(self) -> str:
        """Part of the key under which results are kept: a task with another name or other settings is another task."""
        ...

    @property
    def metric(self) -> Metric:
        """What ``value`` returns."""
        ...

    def batch_labels(self, labels: Tensor, images: int, where: str, /) -> Tensor:
        """The labels of one batch of a user's loader, converted to what the task works with.

        Raises:
            DataUnavailable: they cannot be; the message begins with ``where``, which names the batch.
        """
        ...

    def check_labels(self, labels: Tensor, shapes: Sequence[tuple[int, ...]], where: str, /) -> None:
        """Refuse labels [N, ...] that do not fit outputs of these shapes (without the batch).

        Raises:
            DataUnavailable: they do not; ``where`` says whose labels they are.
        """
        ...

    def loss(self, outputs: tuple[Tensor, ...], labels: Tensor, /, *, label_smoothing: float) -> Tensor:
        """What training minimises: a scalar in float32, mean over the batch."""
        ...

    def imitation(self, outputs: tuple[Tensor, ...], teacher: tuple[Tensor, ...], /, *, temperature: float) -> Tensor:
        """What distillation minimises: the distance of the outputs from a teacher's, a scalar in float32."""
        ...

    def running(self, outputs: tuple[Tensor, ...], labels: Tensor, /) -> Tensor:
        """What is shown while training, summed over a batch, on the device; its mean over images approximates the metric."""
        ...

    def decide(self, outputs: tuple[TaskArray, ...], /) -> TaskArray:
        """The network's decision for each image, [N, ...]."""
        ...

    def agreement(self, ours: TaskArray, theirs: TaskArray, /) -> TaskArray:
        """For each image, how far two decisions agree, in [0, 1], [N]."""
        ...

    def score(self, decisions: TaskArray, labels: TaskArray, /) -> TaskArray:
        """The contribution of each image to the metric, [N, ...]: bools [N] if the metric is a share of images."""
        ...

    def value(self, scores: TaskArray, /) -> float:
        """The metric over the images that have these scores."""
        ...


@plain_settings()
class Classification:
    """One class for each image: logits [N, K], labels int64 [N]."""

    name: FilledText = "classification"
    metric: Metric = ACCURACY

    def batch_labels(self, labels: Tensor, images: int, where: str, /) -> Tensor:
        """Integers [N], as int64.

        Raises:
            DataUnavailable: they are something else.
        """
        return class_labels(labels, images, where)

    def check_labels(self, labels: Tensor, shapes: Sequence[tuple[int, ...]], where: str, /) -> None:
        """Labels are 0 to K - 1, with K of at least 2, and the one output is a vector of K.

        Raises:
            DataUnavailable: they are not.
        """
        if len(shapes) != 1:
            raise DataUnavailable(
                f"the network returns {len(shapes)} outputs, and classification learns from one; return the logits alone, or say "
                "what the others are for with a task of your own"
            )
        if len(shapes[0]) != 1:
            raise DataUnavailable(
                f"the network returns a map {list(shapes[0])} for each image, and classification learns from logits [N, K]; pool "
                "the map and flatten it, or say what it means with a task of your own (examples/own_pixel_task.py)"
            )
        classes = shapes[0][0]
        if classes == 1:
            raise DataUnavailable(
                "the network returns one number for each image, as for regression or binary classification with one output; "
                f"for two classes give it two outputs. {SUPPORTED}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise DataUnavailable(
                f"{where} labels {low}..{high} and the network has {classes} outputs (0..{classes - 1}); "
                "number the classes from 0, or give the network as many outputs as there are classes"
            )

    def loss(self, outputs: tuple[Tensor, ...], labels: Tensor, /, *, label_smoothing: float) -> Tensor:
        """Cross-entropy; smoothing as Szegedy et al. 2016, section 7."""
        return functional.cross_entropy(outputs[0].float(), labels, label_smoothing=label_smoothing)

    def imitation(self, outputs: tuple[Tensor, ...], teacher: tuple[Tensor, ...], /, *, temperature: float) -> Tensor:
        """The divergence of softened logits. Source: Hinton et al. 2015, section 2."""
        return softened_kl(outputs[0], teacher[0], temperature)

    def running(self, outputs: tuple[Tensor, ...], labels: Tensor, /) -> Tensor:
        """The number of right classes."""
        return (outputs[0].argmax(1) == labels).sum()

    def decide(self, outputs: tuple[TaskArray, ...], /) -> TaskArray:
        """Top-1 classes int64 [N].

        Raises:
            UnsupportedOperation: there are several outputs.
        """
        if len(outputs) != 1:
            raise UnsupportedOperation(
                f"the network returns {len(outputs)} outputs, and classes are decided from one; write a task of your own"
            )
        return np.asarray(outputs[0].argmax(1), np.int64)

    def agreement(self, ours: TaskArray, theirs: TaskArray, /) -> TaskArray:
        """1 where the classes are the same."""
        return np.asarray(ours == theirs)

    def score(self, decisions: TaskArray, labels: TaskArray, /) -> TaskArray:
        """Whether each image is classified right."""
        return np.asarray(decisions == labels)

    def value(self, scores: TaskArray, /) -> float:
        """The share that is right."""
        return float(scores.mean())


CLASSIFICATION = Classification()
"""The task of every run that does not name another."""


def is_right(scores: TaskArray) -> bool:
    """Whether the score of an image is only right or wrong."""
    return scores.dtype == np.bool_ and scores.ndim == 1


def agreement(task: Task, ours: TaskArray, theirs: TaskArray) -> float:
    """The share of the decisions that are the same, mean over images."""
    return float(task.agreement(ours, theirs).mean())


def softened_kl(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))``, mean over the batch. Source: Hinton et al. 2015, section 2."""
    student = functional.log_softmax(logits.float() / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits.float() / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
