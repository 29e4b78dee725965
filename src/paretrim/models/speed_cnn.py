"""A small convolutional network that trains fast: the shape of the CIFAR-10 speed-run records.

The first layer whitens patches of 2x2 pixels. The records compute its filters from the training images. Natural images make
that step unnecessary: their patch statistics are close to those of a first-order Markov process along each axis, whose principal
components are cosines, so the filters are written down in closed form here and train like every other weight.

Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498), section 3; Page 2018, "How to train
your ResNet", part 8 (patch whitening). Ahmed, Natarajan & Rao 1974, "Discrete cosine transform" (cosines and the Markov process).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paretrim.models.initialise import initialise

CORRELATION = 0.93
"""Between neighbouring pixels, and between neighbouring colour channels, of normalised natural images."""

LEAST_VARIANCE = 5e-4
"""Added to the variance of every component before it is scaled to 1, so that noise is not amplified without bound."""

LOGITS = 1 / 9
"""Factor of the logits. The last layer's weights then move slowly beside the others at one learning rate."""


class SpeedCnn(nn.Module):
    """Whitening, three groups of two 3x3 convolutions with BatchNorm, one linear layer.

    [B, channels, H, W] -> logits [B, classes]; H and W at least 16. Activations are GELU, as in the records: in INT8 each is one
    look-up in a table of 256 values.
    """

    def __init__(self, widths: tuple[int, int, int], *, classes: int, channels: int) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(channels, 8 * channels, kernel_size=2)
        self.gelu = nn.GELU()
        inputs = 8 * channels
        groups = []
        for width in widths:
            groups.append(_group(inputs, width))
            inputs = width
        self.groups = nn.Sequential(*groups)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.linear = nn.Linear(inputs, classes)
        initialise(self)
        for group in self.groups.children():
            for layer in group.children():
                if isinstance(layer, nn.Conv2d):
                    nn.init.dirac_(layer.weight[: layer.in_channels])  # the first outputs begin as copies of the inputs
        with torch.no_grad():
            self.whiten.weight.copy_(whitening_filters(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes]."""
        x = self.groups(self.gelu(self.whiten(x)))
        logits: Tensor = self.linear(torch.flatten(self.pool(x), 1)) * LOGITS
        return logits


def _group(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, kernel_size=3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(width),
        nn.GELU(),
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    )


def whitening_filters(channels: int) -> Tensor:
    """Filters [8 * channels, channels, 2, 2] whose outputs have variance 1 on natural images, each followed by its negative.

    The two signs keep what the GELU after them would cut off.
    """
    bases = [_cosines(channels), _cosines(2), _cosines(2)]
    basis = torch.einsum("ax,by,cz->abcxyz", *bases).reshape(-1, channels, 2, 2)
    covariances = [_markov(channels), _markov(2), _markov(2)]
    variance = torch.einsum("nxyz,xu,yv,zw,nuvw->n", basis, *covariances, basis)
    filters = basis / (variance + LEAST_VARIANCE).sqrt()[:, None, None, None]
    return torch.cat((filters, -filters)).float()


def _cosines(size: int) -> Tensor:
    """The orthonormal discrete cosine basis, a row each; float64 [size, size]."""
    index = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(torch.pi / size * index[:, None] * (index + 0.5))
    return nn.functional.normalize(rows, dim=1)


def _markov(size: int) -> Tensor:
    """Covariance of neighbours whose correlation falls by ``CORRELATION`` a step; float64 [size, size]."""
    index = torch.arange(size, dtype=torch.float64)
    return CORRELATION ** (index[:, None] - index).abs()


def speed_cnn(*, classes: int, channels: int = 3) -> SpeedCnn:
    """Widths 64, 256, 256: 1,972,802 parameters with 10 classes, 118 million multiply-adds on 32x32 pixels."""
    return SpeedCnn((64, 256, 256), classes=classes, channels=channels)
