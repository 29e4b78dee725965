"""The user's own loader as a source of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import IterableDataset
from torch.utils.data.distributed import DistributedSampler

from paretrim.data.batches import Batch
from paretrim.errors import DataUnavailable
from paretrim.torch_settings import callers_device
from paretrim.visible import QUOTED

SUPPORTED = (
    "Without a task of your own Paretrim compresses networks that tell classes apart, one class for each image; "
    "give another task in task=: paretrim.Regression(), or your own (examples/own_task.py)"
)
"""End of the error for users of other tasks."""


LabelsOfBatch = Callable[[torch.Tensor, int, str], torch.Tensor]
"""From the labels of a batch, its number of images and its name in errors to the labels that the task takes."""


class Loader(Protocol):
    """A ``torch.utils.data.DataLoader``, or anything with a length that can be iterated again and again.

    It yields pairs (inputs, labels) of tensors on any device, or triples (inputs, labels, positions), as that of an
    :class:`IndexedDataset` data set does.
    """

    def __len__(self) -> int:
        """Batches in an epoch."""

    def __iter__(self) -> Iterator[object]:
        """The batches, from the first."""


class Samples(Protocol):
    """A data set by position, as ``torch.utils.data.Dataset`` has them."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, position: int, /) -> Any:  # noqa: ANN401 - torch leaves it open
        """A pair (input, label)."""


@dataclass(frozen=True, eq=False)
class IndexedDataset:
    """A data set whose samples also say which one they are: (input, label, position).

    Losses that remember something about every training image, such as the memory bank of CRD, need it. Give it to a DataLoader
    in place of the data set: ``DataLoader(IndexedDataset(dataset), ...)``; shuffling and samplers work as before. It must be
    outermost, as in ``IndexedDataset(ConcatDataset([a, b]))``: around each part it would count every part from 0.

    Raises:
        DataUnavailable: the data set cannot be read by position, or a sample is not a pair.

    >>> IndexedDataset([("input", 3), ("other input", 5)])[1]
    ('other input', 5, 1)
    """

    dataset: Samples

    def __post_init__(self) -> None:
        if isinstance(self.dataset, (IterableDataset, IndexedDataset)) or not isinstance(self.dataset, Sized):
            raise DataUnavailable(
                f"IndexedDataset was given an object of type {type(self.dataset).__name__}; it needs a data set of a length "
                "whose samples, pairs (input, label), are read by position"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[Any, Any, int]:
        sample = self.dataset[position]
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            held = f" of {len(sample)} parts" if isinstance(sample, (tuple, list)) else ""
            raise DataUnavailable(
                f"sample {position} of the data set in IndexedDataset is of type {type(sample).__name__}{held}; it must be a "
                "pair (input, label)"
            )
        return sample[0], sample[1], position


@dataclass(frozen=True, eq=False)
class LoaderBatches:
    """A loader of (inputs, labels) or (inputs, labels, positions), moved to ``device``.

    Positions int64 [B] count from 0 in the loader's data set of ``images``; without them both are None. Inputs are floating point
    [B, C, H, W], normalised as the network wants them; labels are what ``labels`` takes. If the loader was given a
    ``generator``, each epoch seeds it from (``seed``, epoch), which makes shuffling and workers repeatable; without one, epochs
    differ from run to run. Make it with :func:`loader_batches`.
    """

    loader: Loader
    sample_shape: tuple[int, int, int]
    device: torch.device | str
    seed: int
    labels: LabelsOfBatch
    images: int | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, /) -> Iterator[Batch]:
        """The loader's batches of epoch ``number``.

        Raises:
            DataUnavailable: the loader yields something other than described.
        """
        sampler, generator = (getattr(self.loader, name, None) for name in ("sampler", "generator"))
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(number)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(self.seed * 1_000_003 + number)
        position = -1
        for position, item in enumerate(_batches_of(self.loader)):
            if position == len(self):  # the learning-rate schedule ends here
                raise DataUnavailable(f"the loader gives more batches than its length, which is {position}; correct the __len__")
            inputs, labels, indices = _checked(item, position, self.labels, self.images)
            if tuple(inputs.shape[1:]) != self.sample_shape:
                raise DataUnavailable(
                    f"batch {position} of the loader has inputs {tuple(inputs.shape[1:])}, the first had {self.sample_shape}; "
                    "they must be alike"
                )
            moved = inputs.to(self.device, torch.float32, non_blocking=True).contiguous(memory_format=torch.channels_last)
            labels = labels.to(self.device, non_blocking=True)
            yield Batch(moved, labels, None if indices is None else indices.to(self.device, non_blocking=True))
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
        DataUnavailable: it gives no batches, has no length, is empty, can be iterated only once, or does not yield
            (inputs, labels), or (inputs, labels, positions), as described.
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
    first = next(_batches_of(loader))
    images = _length_of_data(loader) if isinstance(first, (tuple, list)) and len(first) == 3 else None
    inputs, _, _ = _checked(first, 0, labels, images)
    _, channels, height, width = inputs.shape
    return LoaderBatches(loader, (channels, height, width), device, seed, labels, images)


def _batches_of(loader: Loader) -> Iterator[object]:
    """What the loader gives, in the order it gives it; its code sees the caller's default device."""
    with callers_device():
        batches = iter(loader)
    while True:
        with callers_device():
            try:
                item = next(batches)
            except StopIteration:
                return
        yield item


def _length_of_data(loader: Loader) -> int:
    """How many images the positions of a loader count."""
    dataset = getattr(loader, "dataset", None)
    if not isinstance(dataset, Sized):
        raise DataUnavailable(
            "the loader gives positions of its images and has no data set of a length, as loader.dataset; give a DataLoader of a "
            "data set with __len__ (paretrim.IndexedDataset makes one), or leave the positions out"
        )
    return len(dataset)


def _checked(
    item: object, position: int, labels_of: LabelsOfBatch, images: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    where = f"batch {position} of the loader"
    wanted = ("inputs", "labels") if images is None else ("inputs", "labels", "positions")
    tensors = isinstance(item, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in item)
    if not isinstance(item, (tuple, list)) or not tensors or len(item) != len(wanted):
        what = "a pair of tensors" if images is None else "like the first batch, a triple of tensors"
        raise DataUnavailable(
            f"{where} is of type {type(item).__name__}; it must be {what} ({', '.join(wanted)}){_parts(item)}. {SUPPORTED}"
        )
    inputs, labels = (_plain(part) for part in item[:2])
    if inputs.ndim != 4 or not inputs.is_floating_point():
        raise DataUnavailable(
            f"{where} has inputs {inputs.dtype} {list(inputs.shape)}; they must be floating point [B, C, H, W], normalised"
        )
    if not bool(torch.isfinite(inputs.float().sum())):
        raise DataUnavailable(f"{where} has NaN or infinity among its inputs; fix or remove those images, or their normalisation")
    labels = labels_of(labels, len(inputs), where)
    if labels.shape[:1] != inputs.shape[:1]:
        raise DataUnavailable(f"{where} has {len(inputs)} inputs and labels {list(labels.shape)}; the first axis is the image")
    return inputs, labels, None if images is None else _positions(item[2], len(inputs), images, where)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without its gradient; training cannot keep one that was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _positions(found: torch.Tensor, count: int, images: int, where: str) -> torch.Tensor:
    """Positions of a batch, int64 [B]."""
    whole = not found.is_floating_point() and found.dtype != torch.bool and found.shape == (count,)
    if not whole or (count and not 0 <= int(found.min()) <= int(found.max()) < images):
        spread = f", from {int(found.min())} to {int(found.max())}" if whole else ""
        raise DataUnavailable(
            f"{where} has positions {found.dtype} {list(found.shape)}{spread}; they must be integers [{count}], the places of "
            f"the images in the data set, 0 to {images - 1}"
        )
    return found.to(torch.int64)


def _parts(item: object) -> str:
    """What a batch that is not a pair of tensors holds, and which task has such batches."""
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
