"""Augmentation and normalisation of whole batches of uint8 images [B, C, H, W], per sample, on the images' device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from paretrim.data.types import Augmentation


@dataclass(frozen=True, eq=False)
class Draws:
    """One epoch's random choices for every image of a set, on the CPU.

    ``shift`` int64 [N, 2] (down, right), ``mirrored`` bool [N], ``hole`` int64 [N, 2] (row and column of the cutout's centre),
    ``tone`` float32 [N, 3], uniform in [-1, 1] (brightness, contrast, saturation).
    """

    shift: torch.Tensor
    mirrored: torch.Tensor
    hole: torch.Tensor
    tone: torch.Tensor

    def at(self, indices: torch.Tensor, device: torch.device) -> Draws:
        """The choices for some of the images, on ``device``."""
        parts = (self.shift, self.mirrored, self.hole, self.tone)
        return Draws(*(values[indices].to(device, non_blocking=True) for values in parts))


def draw(random: np.random.Generator, count: int, augmentation: Augmentation, *, height: int, width: int) -> Draws:
    """Choose shifts, mirrorings, holes and tones.

    All are always drawn, the newer kinds last, so that switching one on does not change the others.
    """
    padding = augmentation.crop_padding
    shift = random.integers(-padding, padding, size=(count, 2), endpoint=True)
    mirrored = random.random(count) < 0.5
    hole = random.integers(0, (height, width), size=(count, 2))
    tone = random.uniform(-1, 1, size=(count, 3)).astype(np.float32)
    flipped = torch.from_numpy(mirrored & bool(augmentation.flip))
    return Draws(torch.from_numpy(shift), flipped, torch.from_numpy(hole), torch.from_numpy(tone))


def alternated(count: int, epoch: int, *, seed: int) -> torch.Tensor:
    """Which of ``count`` images are mirrored in an epoch (bool [count]) in which each is mirrored every second time.

    Chance decides for each image whether it is in the even or in the odd epochs. So two epochs in a row show every image both
    ways, where independent draws show half of them the same way twice.

    Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section 3.6.
    """
    even = (
        np.random.Generator(np.random.PCG64([seed, 0, 1])).random(count) < 0.5
    )  # a third number, so that no epoch has this stream
    return torch.from_numpy(even ^ bool(epoch % 2))


def crop_and_flip(images: torch.Tensor, shift: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Shift each image, filling with its own reflection (the edge pixel is not repeated), then mirror the chosen ones.

    The same as padding by reflection and cropping, without making the padded images: one gather. ``images`` [B, C, H, W] of any
    dtype, ``shift`` int64 [B, 2] smaller than the sides, ``mirrored`` bool [B].
    """
    batch, channels, height, width = images.shape
    rows = _reflected(torch.arange(height, device=images.device) + shift[:, :1], height)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    columns = _reflected(columns + shift[:, 1:], width)
    source = (rows * width)[:, :, None] + columns[:, None, :]
    flat = source.view(batch, 1, height * width).expand(batch, channels, height * width)
    return images.reshape(batch, channels, height * width).gather(2, flat).view_as(images)


def _reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    """Positions mirrored at 0 and at ``size - 1``."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def toned(images: torch.Tensor, tone: torch.Tensor, strength: float) -> torch.Tensor:
    """Images uint8 [B, C, H, W] with other brightness, contrast and saturation; ``tone`` float32 [B, 3] in [-1, 1].

    Each is scaled by ``1 + strength * tone``: pixels, their distance from the mean of the image, and of images with three
    channels their distance from grey (ITU-R BT.601). Rounded and clipped once.
    """
    brightness, contrast, saturation = (1 + strength * tone).T[:, :, None, None, None]
    found = images.float() * brightness
    mean = found.mean((1, 2, 3), keepdim=True)
    found = mean + (found - mean) * contrast
    if images.shape[1] == 3:
        grey = (found * found.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)
        found = grey + (found - grey) * saturation
    varied: torch.Tensor = found.round().clamp(0, 255)
    return varied.to(torch.uint8)


def cut_out(inputs: torch.Tensor, hole: torch.Tensor, side: int) -> torch.Tensor:
    """Set a square around each ``hole`` (int64 [B, 2]) to zero, in normalised inputs [B, C, H, W]; the image's border clips it.

    Source: DeVries & Taylor 2017, "Improved regularization of convolutional neural networks with cutout", arXiv 1708.04552.
    """
    _, _, height, width = inputs.shape
    top_left = hole - side // 2
    row = torch.arange(height, device=inputs.device) - top_left[:, :1]
    column = torch.arange(width, device=inputs.device) - top_left[:, 1:]
    inside = ((row >= 0) & (row < side))[:, None, :, None] & ((column >= 0) & (column < side))[:, None, None, :]
    return inputs.clone().masked_fill_(inside, 0.0)  # keeps the channels-last layout, which masked_fill does not


_LOOKED_UP = 2**20
"""Pixels looked up at once on a CPU: the indices of more would take fresh memory every time, and clearing it takes longer."""


def normalisation_table(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """float32 [C, 256]: ``(p / 255 - mean) / std`` in float64, rounded once; what the deployed graph's ``normalize`` computes."""
    pixels = np.arange(256, dtype=np.float64) / 255
    table = (pixels - np.array(mean, np.float64)[:, None]) / np.array(std, np.float64)[:, None]
    return torch.from_numpy(table.astype(np.float32))


def normalise(images: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """uint8 [B, C, H, W] -> float32 [B, C, H, W] in channels-last memory, by looking up ``table`` [C, 256]."""
    count, channels, height, width = images.shape
    first = torch.arange(channels, device=images.device) * 256
    found = table.new_empty(count, height, width, channels)
    at_once = max(1, _LOOKED_UP // (channels * height * width)) if images.device.type == "cpu" else max(1, count)
    for part, result in zip(torch.split(images, at_once), torch.split(found, at_once), strict=True):
        torch.take(table, part.permute(0, 2, 3, 1).to(torch.int64) + first, out=result)
    return found.permute(0, 3, 1, 2)
