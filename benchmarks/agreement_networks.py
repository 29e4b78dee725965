"""Small networks of common families for 8x8 images, built as in their papers, for ``agreement.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def unit(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, active: bool = True) -> nn.Sequential:
    """A convolution, its BatchNorm, and perhaps a ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU()] if active else []))


class Classifier(nn.Module):
    """A stem of 16 channels, a body, global average pooling and a linear layer."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.stem, self.body, self.head = unit(1, 16), body, nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of images [N, 1, 8, 8]."""
        return torch.as_tensor(self.head(self.body(self.stem(x)).mean((2, 3))))


class ShuffleUnit(nn.Module):
    """Half of the channels go through three convolutions; then all are shuffled (ShuffleNetV2, arXiv 1807.11164, figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(unit(half, half, 1), unit(half, half, groups=half, active=False), unit(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        first, second = x.chunk(2, 1)
        return F.channel_shuffle(torch.cat([first, self.branch(second)], 1), 2)


def shufflenet_v2() -> nn.Module:
    """Four units; the maps are halved in between."""
    return Classifier(
        nn.Sequential(ShuffleUnit(16), ShuffleUnit(16), unit(16, 32, stride=2), ShuffleUnit(32), ShuffleUnit(32)), 32
    )


class PnasCell(nn.Module):
    """Five sums of two operations each, side by side (PNASNet-5, arXiv 1712.00559, figure 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before, self.now = unit(channels, 8, 1), unit(channels, 8, 1)
        kernels = {"a": 5, "b": 7, "c": 5, "d": 3, "e": 3}
        self.separable = nn.ModuleDict({name: self._twice(kernel) for name, kernel in kernels.items()})
        self.pool, self.join = nn.MaxPool2d(3, 1, 1), unit(40, channels, 1)

    @staticmethod
    def _twice(kernel: int) -> nn.Sequential:
        parts = [
            nn.Sequential(nn.ReLU(), unit(8, 8, kernel, groups=8, active=False), unit(8, 8, 1, active=False)) for _ in (0, 1)
        ]
        return nn.Sequential(*parts)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Takes the two latest values; returns the second of them and the result."""
        before, now = self.before(inputs[0]), self.now(inputs[1])
        sums = [
            self.separable["a"](before) + self.pool(before),
            self.separable["b"](now) + self.pool(now),
            self.separable["c"](now) + self.separable["d"](now),
            self.pool(now) + before,
        ]
        sums.append(self.separable["e"](sums[0]) + now)
        return inputs[1], self.join(torch.cat(sums, 1))


class Pnas(nn.Module):
    """Two cells."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Sequential(PnasCell(16), PnasCell(16))

    def forward(self, x: Tensor) -> Tensor:
        """The last result."""
        return torch.as_tensor(self.cells((x, x))[1])


class Inverted(nn.Module):
    """An inverted bottleneck with a gate over the channels (MobileNetV3, arXiv 1905.02244, figure 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 3 * channels
        self.widen = nn.Sequential(unit(channels, wide, 1, active=False), nn.Hardswish())
        self.depthwise = nn.Sequential(unit(wide, wide, 5, groups=wide, active=False), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 8, 1), nn.ReLU(), nn.Conv2d(8, wide, 1), nn.Hardsigmoid()
        )
        self.narrow = unit(wide, channels, 1, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        inside = self.depthwise(self.widen(x))
        return torch.as_tensor(x + self.narrow(inside * self.gate(inside)))


def mobilenet_v3() -> nn.Module:
    """Three blocks; the maps are halved in between."""
    return Classifier(nn.Sequential(Inverted(16), unit(16, 24, stride=2), Inverted(24), Inverted(24)), 24)


class DenseLayer(nn.Module):
    """Appends 8 channels to its input (DenseNet, arXiv 1608.06993)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, 8, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Eight channels more."""
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


def densenet() -> nn.Module:
    """Two blocks of three layers with a transition."""
    first = [DenseLayer(16 + 8 * i) for i in range(3)]
    second = [DenseLayer(20 + 8 * i) for i in range(3)]
    return Classifier(nn.Sequential(*first, unit(40, 20, 1), nn.AvgPool2d(2), *second), 44)


class Hourglass(nn.Module):
    """Downsamples, upsamples by a transposed convolution, and concatenates the earlier map (U-Net, arXiv 1505.04597)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low = unit(16, 32, stride=2), unit(32, 32)
        self.up, self.join = nn.ConvTranspose2d(32, 16, 2, 2), unit(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        """32 channels of the same size."""
        return torch.as_tensor(self.join(torch.cat([x, F.relu(self.up(self.low(self.down(x))))], 1)))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "ShuffleNetV2-like": shufflenet_v2,
        "PNASNet-like": lambda: Classifier(Pnas(), 16),
        "MobileNetV3-like": mobilenet_v3,
        "DenseNet-like": densenet,
        "U-Net-like": lambda: Classifier(Hourglass(), 32),
    }
)
