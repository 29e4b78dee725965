"""Ternary weights: -1, 0 and 1 times a scale per output channel.

Source: Li & Liu 2016, "Ternary weight networks" (arXiv 1605.04711), section 2.2, channel by channel instead of by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_ROW, SMALLEST_SCALE, Facts, PlainGrid, WeightSettings
from paretrim.network.rounding import straight_through

THRESHOLD = 0.7
"""Weights below this share of the mean magnitude of their channel become 0."""

METHODS = (
    Method(
        name="ternary",
        kind="weight grid",
        source="Li & Liu 2016, arXiv 1605.04711, section 2.2",
        what="-1, 0 and 1 times a scale for each output channel",
        formula="w' = a sign(w) where |w| > 0.7 mean |w|, else 0; a = mean of |w| over the weights that are not 0",
        recipe="ternary",
        settings=("quantize.formats",),
    ),
)


class TernaryWeights(nn.Module, PlainGrid):
    """``scale * sign(w)`` where ``|w|`` is above ``0.7 mean |w|`` of its channel, 0 elsewhere.

    The scale is the mean magnitude of those above. Pruned weights have no part in the mean. The gradient passes straight through.
    """

    widths: ClassVar[range] = range(2, 3)
    bits: int = 2

    @classmethod
    def fitted(cls, _weight: Tensor, _settings: WeightSettings) -> Self:
        """The same for every weight: everything follows from the weight."""
        return cls()

    @classmethod
    def restored(cls, _facts: Mapping[str, object], _weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """The same for every weight."""
        return cls()

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; zeros stay zero."""
        with torch.autocast(weight.device.type, enabled=False), torch.no_grad():
            levels, scale = _ternary(weight)
            chosen = levels * scale.reshape(-1, *[1] * (weight.dim() - 1))
        return straight_through(weight, chosen)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co]."""
        levels, scale = _ternary(weight.detach())
        return levels.to(torch.int8), scale

    def rows(self, _outputs: Tensor, _inputs: Tensor) -> Self:
        """The same for all channels."""
        return type(self)()

    def facts(self) -> Facts:
        """Its name."""
        return {"grid": "ternary"}


def _ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Levels -1, 0 and 1 [Co, ...] float32, and scales [Co]."""
    rows = weight.reshape(len(weight), -1).abs()
    peak, largest = rows.amax(1), rows.amax()
    shares = rows / torch.where(peak > 0, peak, 1.0)[:, None]  # sums of sizes of any unit stay in float32
    threshold = THRESHOLD * shares.sum(1) / (shares > 0).sum(1).clamp_min(1)
    above = shares > threshold[:, None]
    scale = (shares * above).sum(1) / above.sum(1).clamp_min(1) * peak
    # In a layer of zeros any scale will do until training moves them; this one fits weights of the usual initial size.
    least = torch.where(largest > 0, largest * SMALLEST_ROW, float(rows.shape[1]) ** -0.5)
    return above.reshape(weight.shape) * weight.sign(), scale.maximum(least).clamp_min(SMALLEST_SCALE)
