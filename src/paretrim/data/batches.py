"""Batches for training and evaluation: from memory, or from the user's own loader.

Images stay on the training device as uint8; everything per sample is done there, a batch at a time. An epoch
is a function of (seed, epoch) alone: the same on every device, at any batch size, and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch

from paretrim.data.augment import alternated, crop_and_flip, cut_out, draw, normalisation_table, normalise, toned
from paretrim.data.split import balanced
from paretrim.data.types import Augmentation, Flip, ImageSet, Splits
from paretrim.errors import InvalidRecipe


class Batch(NamedTuple):
    """Inputs float32 [B, C, H, W], normalised; labels [B, ...], int64 [B] for classes; positions int64 [B] in the set.

    Positions are None if they are not known.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor | None


class Batches(Protocol):
    """What training and evaluation need."""

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one input."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, number: int, /) -> Iterator[Batch]:
        """The batches of epoch ``number``, counted from 0."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainBatches:
    """Shuffled, augmented batches of an :class:`ImageSet`.

    Each image is shifted by up to ``crop_padding`` pixels (filled with its reflection), mirrored with probability 1/2 if
    ``flip`` (in every second epoch if that is ``"alternating"``), changed in tone by up to ``jitter``, normalised,
    and a square of side ``cutout`` is set to zero. The last, smaller batch is kept unless ``drop_last``.

    Raises:
        InvalidRecipe: a setting does not fit the images.
    """

    images: ImageSet
    batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: Flip = False
    cutout: int = 0
    jitter: float = 0.0
    seed: int = 0
    device: torch.device | str = "cpu"
    drop_last: bool = False

    def __post_init__(self) -> None:
        _require_batches(self.images, self.batch_size, self.mean, self.std)
        _, height, width = self.sample_shape
        if not 0 <= self.crop_padding < min(height, width):
            raise InvalidRecipe(
                f"crop_padding is {self.crop_padding}; images of {height}x{width} allow 0 to {min(height, width) - 1}"
            )
        if self.cutout < 0:
            raise InvalidRecipe(f"cutout is {self.cutout}; it is the side of a square in pixels and must be 0 or more")
        if not 0 <= self.jitter <= 1:
            raise InvalidRecipe(f"jitter is {self.jitter}; brightness and contrast vary by a share from 0 to 1")
        if self.seed < 0:
            raise InvalidRecipe(f"seed is {self.seed}; it must be 0 or more")
        if self.drop_last and len(self.images) < self.batch_size:
            raise InvalidRecipe(
                f"batch_size {self.batch_size} with drop_last leaves no batch of {len(self.images)} images; make it smaller"
            )
        object.__setattr__(self, "images", self.images.to(self.device))

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one input."""
        return self.images.sample_shape

    def __len__(self) -> int:
        count, size = len(self.images), self.batch_size
        return count // size if self.drop_last else -(-count // size)

    def epoch(self, number: int, /) -> Iterator[Batch]:
        """The batches of epoch ``number``; every image once, in that epoch's order and with its variations."""
        count = len(self.images)
        _, height, width = self.sample_shape
        device = self.images.images.device
        random = np.random.Generator(np.random.PCG64([self.seed, number]))
        order = torch.from_numpy(random.permutation(count))
        augmentation = Augmentation(self.crop_padding, self.flip, self.cutout)
        draws = draw(random, count, augmentation, height=height, width=width)
        if self.flip == "alternating":
            draws = replace(draws, mirrored=alternated(count, number, seed=self.seed))
        table = normalisation_table(self.mean, self.std).to(device)
        for batch in range(len(self)):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            indices = chosen.to(device)
            drawn = draws.at(chosen, device)
            pixels = self.images.images[indices]
            if self.crop_padding or self.flip:
                pixels = crop_and_flip(pixels, drawn.shift, drawn.mirrored)
            if self.jitter:
                pixels = toned(pixels, drawn.tone, self.jitter)
            inputs = normalise(pixels, table)
            if self.cutout:
                inputs = cut_out(inputs, drawn.hole, self.cutout)
            yield Batch(inputs, self.images.labels[indices], indices)


@dataclass(frozen=True, eq=False, kw_only=True)
class EvalBatches:
    """Every image once, in order, normalised and otherwise as it is; the same in every epoch.

    Raises:
        InvalidRecipe: a setting does not fit the images.
    """

    images: ImageSet
    batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        _require_batches(self.images, self.batch_size, self.mean, self.std)
        object.__setattr__(self, "images", self.images.to(self.device))

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one input."""
        return self.images.sample_shape

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def epoch(self, _number: int = 0, /) -> Iterator[Batch]:
        """All batches; the epoch's number changes nothing."""
        device = self.images.images.device
        table = normalisation_table(self.mean, self.std).to(device)
        for start in range(0, len(self.images), self.batch_size):
            indices = torch.arange(start, min(start + self.batch_size, len(self.images)), device=device)
            yield Batch(normalise(self.images.images[indices], table), self.images.labels[indices], indices)


def train_batches(
    splits: Splits, *, batch_size: int, seed: int, device: torch.device | str, drop_last: bool = False
) -> TrainBatches:
    """Batches of the training images with the data set's own augmentation and normalisation."""
    return TrainBatches(
        images=splits.train,
        batch_size=batch_size,
        mean=splits.mean,
        std=splits.std,
        crop_padding=splits.augmentation.crop_padding,
        flip=splits.augmentation.flip,
        cutout=splits.augmentation.cutout,
        jitter=splits.augmentation.jitter,
        seed=seed,
        device=device,
        drop_last=drop_last,
    )


def validation_batches(splits: Splits, *, batch_size: int, device: torch.device | str) -> EvalBatches:
    """Batches of the validation images."""
    return EvalBatches(images=splits.validation, batch_size=batch_size, mean=splits.mean, std=splits.std, device=device)


def calibration_set(splits: Splits, count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` training images without augmentation, classes in equal parts, and their labels; both on the CPU.

    Returns:
        Normalised images float32 [count, C, H, W] and labels int64 [count].

    Raises:
        DataUnavailable: ``count`` is below 1 or above the number of training images.
    """
    chosen = torch.from_numpy(balanced(splits.train.labels.cpu().numpy(), count, seed=seed))
    found = splits.train.select(chosen).to("cpu")  # training images may be on a GPU already
    return normalise(found.images, normalisation_table(splits.mean, splits.std)), found.labels


def _require_batches(images: ImageSet, batch_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if batch_size < 1:
        raise InvalidRecipe(f"batch_size is {batch_size}; it must be 1 or more")
    if not len(images):
        raise InvalidRecipe("there are no images to make batches of; give at least one")
    channels = images.sample_shape[0]
    if len(mean) != channels or len(std) != channels:
        raise InvalidRecipe(f"{channels} channels need as many means and deviations; given {mean} and {std}")
