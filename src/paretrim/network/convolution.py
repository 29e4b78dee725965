"""A convolution as torch computes it, and faster where the map is very small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from paretrim.graph.operations.attributes import Settings
from paretrim.graph.taps import covered

MOST_POSITIONS = 4
"""Up to so many output pixels an image, each is computed as a linear layer of the pixels that it reads.

oneDNN vectorizes over pixels, so one output pixel an image takes it as long as many. Its kernel may also lie mostly on padding:
eight of the nine taps of a 3x3 kernel on a map of one pixel, as at the end of a ResNet-18 with ImageNet stem on 32x32 images.
"""

FEW_IMAGES = 8
"""Fewer images are convolved as torch does: it takes no time, and rounds as in the user's module, with which capture compares."""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, settings: Settings) -> Tensor:
    """The convolution of a ``conv2d`` node.

    Args:
        x: [N, C, H, W].
        weight: [O, C / groups, kernel height, kernel width].
        bias: [O], or None.
        settings: ``stride``, ``padding``, ``dilation`` and ``groups`` of the node.

    Returns:
        [N, O, H', W'].
    """
    (top, left, bottom, right), groups = settings.edges("padding"), settings.integer("groups")
    stride, dilation = settings.pair("stride"), settings.pair("dilation")
    if groups == 1 and len(x) >= FEW_IMAGES:  # on every device, so that all train alike
        rows = _reads(x.shape[2], weight.shape[2], stride[0], dilation[0], (top, bottom))
        columns = _reads(x.shape[3], weight.shape[3], stride[1], dilation[1], (left, right))
        if rows and columns and len(rows) * len(columns) <= MOST_POSITIONS:
            return _pixel_by_pixel(x, weight, bias, rows, columns)
    inside = (top, left)
    if (top, left) != (bottom, right):  # torch pads both sides alike, so pad first
        x, inside = F.pad(x, (left, right, top, bottom)), (0, 0)
    return F.conv2d(x, weight, bias, stride, inside, dilation, groups)


Read = tuple[slice, slice]
"""What one output row or column reads: pixels of the map, and the taps of the kernel that lie on them."""


def _reads(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]) -> tuple[Read, ...]:
    """For every output row or column. Empty if there are more than :data:`MOST_POSITIONS`, or one reads padding alone."""
    before, after = padding
    if (before + size + after - dilation * (kernel - 1) - 1) // stride >= MOST_POSITIONS:
        return ()
    found = []
    for position, taps in enumerate(covered(size, kernel, stride, dilation, padding)):
        if not taps:
            return ()
        start = position * stride - before
        first, last = start + taps[0] * dilation, start + taps[-1] * dilation
        found.append((slice(first, last + 1, dilation), slice(taps[0], taps[-1] + 1)))
    return tuple(found)


def _pixel_by_pixel(x: Tensor, weight: Tensor, bias: Tensor | None, rows: tuple[Read, ...], columns: tuple[Read, ...]) -> Tensor:
    pixels = []
    for high, upper in rows:
        for wide, across in columns:
            read = x[:, :, high, wide].permute(0, 2, 3, 1).flatten(1)  # channels last, as both are laid out in training
            taps = weight[:, :, upper, across].permute(0, 2, 3, 1).flatten(1)
            pixels.append(F.linear(read, taps, bias))
    return torch.stack(pixels, dim=1).reshape(x.shape[0], len(rows), len(columns), -1).permute(0, 3, 1, 2)
