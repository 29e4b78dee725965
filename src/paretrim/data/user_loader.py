"""The user's own loader as a source of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.utils.data.distributed import DistributedSampler

from paretrim.data.batches import Batch
from paretrim.errors import DataUnavailable
from paretrim.visible import QUOTED

SUPPORTED = (
    "Without a task of your own Paretrim compresses networks that tell classes apart, one class for each image; "
    "give another task in task=: paretrim.Regression(), or your own (examples/own_task.py)"
)
"""Ends the message for users of other tasks."""


LabelsOfBatch = Callable[[torch.Tensor, int, str], torch.Tensor]
"""From the labels of a batch, its number of images and its name in errors to the labels that the task takes."""


class Loader(Protocol):
    """A ``torch.utils.data.DataLoader``, or anything with a length that can be iterated again and again.

    It yields pairs (inputs, labels) of tensors on any device.
    """

    def __len__(self) -> int:
        """Batches in an epoch."""

    def __iter__(self) -> Iterator[object]:
        """The batches, from the first."""


@dataclass(frozen=True, eq=False)
class LoaderBatches:
    """A loader of (inputs, labels), moved to ``device``; positions are unknown, so ``indices`` are None.

    Inputs are floating point [B, C, H, W], normalised as the network wants them; labels are what ``labels`` takes. Where the
    loader was given a ``generator``, each epoch seeds it from (``seed``, epoch), which makes shuffling and workers repeatable;
    without one, epochs differ from run to run. Make it with :func:`loader_batches`.
    """

    loader: Loader
    sample_shape: tuple[int, int, int]
    device: torch.device | str
    seed: int
    labels: LabelsOfBatch

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, /) -> Iterator[Batch]:
        """The loader's batches of epoch ``number``.

        Raises:
            DataUnavailable: the loader yields something else than described.
        """
        sampler, generator = (getattr(self.loader, name, None) for name in ("sampler", "generator"))
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(number)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(self.seed * 1_000_003 + number)
        position = -1
        for position, item in enumerate(self.loader):
            if position == len(self):  # the learning rate has reached its end
                raise DataUnavailable(f"the loader gives more batches than its length, which is {position}; correct the __len__")
            inputs, labels = _checked(item, position, self.labels)
            if tuple(inputs.shape[1:]) != self.sample_shape:
                raise DataUnavailable(
                    f"batch {position} of the loader has inputs {tuple(inputs.shape[1:])}, the first had {self.sample_shape}; "
                    "they must be alike"
                )
            moved = inputs.to(self.device, torch.float32, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield Batch(moved, labels.to(self.device, non_blocking=True), None)
        if position < 0:
            raise DataUnavailable(
                f"the loader gives no batches in epoch {number + 1} and says it has {len(self)}; "
                "it must be possible to go through its data set again and again"
            )


def class_labels(labels: torch.Tensor, images: int, where: str) -> torch.Tensor:
    """One class for each image, int64 [N].

    Raises:
        DataUnavailable: the labels are something else.
    """
    if labels.shape != (images,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataUnavailable(
            f"{where} has labels {labels.dtype} {list(labels.shape)}; they must be integers "
            f"[{images}]{_task(labels, images)}. {SUPPORTED}"
        )
    return labels.to(torch.int64)


def loader_batches(
    loader: Loader, *, device: torch.device | str = "cpu", seed: int = 0, labels: LabelsOfBatch = class_labels
) -> LoaderBatches:
    """Wrap a loader; reads one batch to learn the shape. ``labels`` checks those of every batch.

    Raises:
        DataUnavailable: it gives no batches, has no length, is empty, can be gone through only once, or does not yield
            (inputs, labels) as described.
    """
    if not isinstance(loader, Iterable):
        raise DataUnavailable(
            f"the loader is of type {type(loader).__name__}; it must be a torch.utils.data.DataLoader, or something else "
            "of a length that gives batches"
        )
    try:
        count = len(loader)
    except TypeError as error:
        raise DataUnavailable(
            "the loader has no length (an iterable data set without __len__); give its data set a __len__"
        ) from error
    if not count:
        raise DataUnavailable("the loader has no batches; its data set is empty or smaller than a batch with drop_last")
    if isinstance(loader, Iterator):
        raise DataUnavailable(
            f"the loader is an iterator ({type(loader).__name__}), which ends after one epoch; give an object whose __iter__ "
            "starts again, for example a DataLoader"
        )
    inputs, _ = _checked(next(iter(loader)), 0, labels)
    _, channels, height, width = inputs.shape
    return LoaderBatches(loader, (channels, height, width), device, seed, labels)


def _checked(item: object, position: int, labels_of: LabelsOfBatch) -> tuple[torch.Tensor, torch.Tensor]:
    where = f"batch {position} of the loader"
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not all(isinstance(part, torch.Tensor) for part in item):
        raise DataUnavailable(
            f"{where} is of type {type(item).__name__}; it must be a pair of tensors (inputs, labels){_parts(item)}. {SUPPORTED}"
        )
    inputs, labels = item
    if inputs.ndim != 4 or not inputs.is_floating_point():
        raise DataUnavailable(
            f"{where} has inputs {inputs.dtype} {list(inputs.shape)}; they must be floating point [B, C, H, W], normalised"
        )
    if not bool(torch.isfinite(inputs.float().sum())):
        raise DataUnavailable(f"{where} has NaN or infinity among its inputs; fix or remove those images, or their normalisation")
    labels = labels_of(labels, len(inputs), where)
    if labels.shape[:1] != inputs.shape[:1]:
        raise DataUnavailable(f"{where} has {len(inputs)} inputs and labels {list(labels.shape)}; the first axis is the image")
    return inputs, labels


def _parts(item: object) -> str:
    """What a batch that is no pair of tensors holds, and which task has such batches."""
    if isinstance(item, Mapping):
        return f", and has the keys {', '.join(map(str, item))[:QUOTED]}"
    if not isinstance(item, (tuple, list)):
        return ""
    held = f", and holds {', '.join(type(part).__name__ for part in item[:4])}"
    return f"{held}, as for object detection" if any(isinstance(part, (tuple, list, Mapping)) for part in item) else held


def _task(labels: torch.Tensor, images: int) -> str:
    """The task that has labels of this shape and type."""
    if labels.ndim >= 3:
        return "; these are as for segmentation or another task with a target for every pixel"
    if labels.ndim == 2 and labels.shape[1] > 1 and len(labels) == images:
        return "; several numbers for each image are as for multi-label classification, soft labels or boxes"
    if labels.is_floating_point() and len(labels) == images:
        return "; these are as for regression or binary classification with one output"
    return ""
