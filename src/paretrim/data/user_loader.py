"""The user's own DataLoader as a source of batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from paretrim.data.batches import Batch
from paretrim.errors import DataUnavailable


@dataclass(frozen=True, eq=False)
class LoaderBatches:
    """A DataLoader of (inputs, labels), moved to ``device``; positions are unknown, so ``indices`` are None.

    Inputs are floating point [B, C, H, W], normalised as the network wants them; labels are integers [B]. Where the loader
    was given a ``generator``, each epoch seeds it from (``seed``, epoch), which makes shuffling and workers repeatable;
    without one, epochs differ from run to run. Make it with :func:`loader_batches`.
    """

    loader: DataLoader[Any]
    sample_shape: tuple[int, int, int]
    device: torch.device | str
    seed: int

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, /) -> Iterator[Batch]:
        """The loader's batches of epoch ``number``.

        Raises:
            DataUnavailable: the loader yields something else than described.
        """
        if isinstance(self.loader.sampler, DistributedSampler):
            self.loader.sampler.set_epoch(number)
        generator: torch.Generator | None = self.loader.generator
        if generator is not None:
            generator.manual_seed(self.seed * 1_000_003 + number)
        for position, item in enumerate(self.loader):
            inputs, labels = _checked(item, position)
            if tuple(inputs.shape[1:]) != self.sample_shape:
                raise DataUnavailable(
                    f"batch {position} of the loader has inputs {tuple(inputs.shape[1:])}, the first had {self.sample_shape}; "
                    "they must be alike"
                )
            moved = inputs.to(self.device, torch.float32, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield Batch(moved, labels.to(self.device, torch.int64, non_blocking=True), None)


def loader_batches(loader: DataLoader[Any], *, device: torch.device | str = "cpu", seed: int = 0) -> LoaderBatches:
    """Wrap a DataLoader; reads one batch to learn the shape.

    Raises:
        DataUnavailable: the loader has no length, is empty, or does not yield (inputs, labels) as described.
    """
    try:
        count = len(loader)
    except TypeError as error:
        raise DataUnavailable(
            "the loader has no length (an iterable data set without __len__); give its data set a __len__"
        ) from error
    if not count:
        raise DataUnavailable("the loader has no batches; its data set is empty or smaller than a batch with drop_last")
    inputs, _ = _checked(next(iter(loader)), 0)
    _, channels, height, width = inputs.shape
    return LoaderBatches(loader, (channels, height, width), device, seed)


def _checked(item: object, position: int) -> tuple[torch.Tensor, torch.Tensor]:
    where = f"batch {position} of the loader"
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not all(isinstance(part, torch.Tensor) for part in item):
        raise DataUnavailable(f"{where} is of type {type(item).__name__}; it must be a pair of tensors (inputs, labels)")
    inputs, labels = item
    if inputs.ndim != 4 or not inputs.is_floating_point():
        raise DataUnavailable(
            f"{where} has inputs {inputs.dtype} {list(inputs.shape)}; they must be floating point [B, C, H, W], normalised"
        )
    if labels.shape != inputs.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataUnavailable(f"{where} has labels {labels.dtype} {list(labels.shape)}; they must be integers [{len(inputs)}]")
    return inputs, labels
