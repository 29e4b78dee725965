"""A data set in memory.

The test images live in :class:`Dataset` alone. Training gets a :class:`Splits`, which has no field for them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch

from paretrim.errors import DataUnavailable


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images uint8 [N, C, H, W] with their labels int64 [N], on one device.

    Raises:
        DataUnavailable: shapes or dtypes differ from these.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataUnavailable(f"images must be uint8 [N, C, H, W]; given are {self.images.dtype} {list(self.images.shape)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataUnavailable(
                f"labels must be int64 [{len(self.images)}], one per image; "
                f"given are {self.labels.dtype} {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def select(self, indices: torch.Tensor) -> ImageSet:
        """The images at ``indices`` (int64 [M]), copied."""
        return ImageSet(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set on another device; no copy if it is there already."""
        return ImageSet(self.images.to(device), self.labels.to(device))


Flip = bool | Literal["alternating"]


@dataclass(frozen=True)
class Augmentation:
    """How training images vary: shift by up to ``crop_padding`` pixels, mirror, erase a square of side ``cutout``.

    ``jitter`` is by how much brightness, contrast and, in colour images, saturation vary: factors from 1 - jitter to 1 + jitter.

    ``flip`` is ``"alternating"`` if an image is mirrored in every second epoch, starting with a random one of the first two.
    """

    crop_padding: int = 0
    flip: Flip = False
    cutout: int = 0
    jitter: float = 0.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A whole data set. ``mean`` and ``std`` are per channel, in units of pixel / 255.

    ``resize`` is the short side in pixels that images were resized to before their centre was cropped, 0 if they were not.
    ``digest`` is the SHA-256 of class names, images and labels; ``broken`` names image files that could not be read and were left
    out.

    Raises:
        DataUnavailable: parts do not fit each other, a label is out of range, or a part is empty.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    digest: str
    broken: tuple[str, ...] = ()
    resize: int = 0

    def __post_init__(self) -> None:
        for part, images in (("training", self.train), ("test", self.test)):
            if not len(images):
                raise DataUnavailable(f"{self.name}: there are no {part} images; add some, or choose another data set")
            low, high = int(images.labels.min()), int(images.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataUnavailable(
                    f"{self.name}: {part} labels span {low}..{high}, but classes are numbered 0..{len(self.classes) - 1}; "
                    "correct the labels"
                )
        if self.train.sample_shape != self.test.sample_shape:
            raise DataUnavailable(
                f"{self.name}: training images are {self.train.sample_shape}, test images {self.test.sample_shape}; "
                "they must be alike"
            )
        channels = self.train.sample_shape[0]
        if len(self.mean) != channels or len(self.std) != channels:
            raise DataUnavailable(
                f"{self.name}: {channels} channels need as many means and deviations; given {self.mean} and {self.std}"
            )


@dataclass(frozen=True, eq=False)
class Splits:
    """What training may see of a data set: no test image can be reached from here.

    ``validation`` was taken from the official training images; every choice on the way is made on it.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    validation: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    digest: str


def images_digest(classes: tuple[str, ...], *sets: ImageSet) -> str:
    """SHA-256 over class names, shapes, pixels and labels; about 0.2 s for CIFAR."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for images in sets:
        digest.update(repr(tuple(images.images.shape)).encode())
        digest.update(images.images.contiguous().cpu().numpy().data)
        digest.update(images.labels.contiguous().cpu().numpy().data)
    return digest.hexdigest()
