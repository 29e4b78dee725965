"""Weights kept as floats: float16, bfloat16, and float32 in layers between integer ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import Array
from paretrim.method import Method
from paretrim.network.grids import Facts, PlainGrid, WeightGrid, WeightSettings
from paretrim.network.rounding import straight_through

TYPES: Mapping[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}

_ROUNDED = "w' = the nearest number of the format, of two the even one; computed in float32"

METHODS = (
    Method(
        name="float16",
        kind="weight grid",
        source="IEEE 754-2019, binary16",
        what="16-bit floats with 11 significant bits, up to 65,504; for float activations",
        formula=_ROUNDED,
        recipe="float16",
        settings=("quantize.formats", "quantize.activations"),
    ),
    Method(
        name="bfloat16",
        kind="weight grid",
        source="Kalamkar et al. 2019, arXiv 1905.12322",
        what="float32 rounded to its first 16 bits; for float activations",
        formula=_ROUNDED,
        recipe="bfloat16",
        settings=("quantize.formats", "quantize.activations"),
    ),
    Method(
        name="float32",
        kind="weight grid",
        source="Krishnamoorthi 2018, arXiv 1806.08342, section 5",
        what="float32 layers beside integer layers",
        formula="w' = w; its input is dequantized before and its result quantized behind it",
        recipe="float-layers",
        settings=("quantize.formats",),
    ),
)


class FloatWeights(nn.Module, PlainGrid):
    """Weights rounded to the nearest number of a float format of 16 bits, of two to the even one. They have no integers.

    The gradient passes unchanged. A BatchNorm after the layer becomes a float32 scale per output channel beside the weight.
    """

    widths: ClassVar[range] = range(16, 17)
    bits: int = 16

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.short = TYPES[name]

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """The format of this name.

        Raises:
            UnsupportedOperation: a weight is beyond the format.
        """
        made = cls(settings.name)
        made.require_room(weight)
        return made

    @classmethod
    def restored(cls, facts: Mapping[str, object], _weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """The format with these :meth:`facts`.

        Raises:
            KeyError: there is no such format.
        """
        return cls(str(facts["grid"]))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the format."""
        with torch.autocast(weight.device.type, enabled=False):
            return straight_through(weight, weight.detach().to(self.short).to(weight.dtype))

    def stored(self, weight: Tensor) -> Array:
        """What a graph holds of a weight [Co, ...]; see :data:`paretrim.graph.dtypes.TENSOR_TYPES`.

        Raises:
            UnsupportedOperation: a weight is beyond the format.
        """
        self.require_room(weight)
        short = weight.detach().cpu().to(self.short) + 0.0  # a pruned weight may be a negative zero, which costs bits
        if self.short == torch.float16:
            return np.asarray(short.numpy())
        return short.view(torch.int16).numpy().view(np.uint16)

    def require_room(self, weight: Tensor) -> None:
        """Refuse weights that would become infinite.

        Raises:
            UnsupportedOperation: there are such weights.
        """
        if not bool(torch.isfinite(weight.detach().to(self.short)).all()):
            reach, end = float(weight.detach().abs().max()), torch.finfo(self.short).max
            raise UnsupportedOperation(
                f"its weights reach {reach:.4g} and {self.name} ends at {end:.4g}; rescale them, or give this "
                "layer another format in formats"
            )

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """There are none.

        Raises:
            UnsupportedOperation: always.
        """
        raise UnsupportedOperation(f"weights of {self.name} {tuple(weight.shape)} have no integers; use activations = 'float32'")

    def rows(self, _outputs: Tensor, _inputs: Tensor) -> Self:
        """The same format."""
        return type(self)(self.name)

    def facts(self) -> Facts:
        """Its name."""
        return {"grid": self.name}


class Float32Weights(nn.Module, PlainGrid):
    """Weights that stay as they are. They have no integers."""

    widths: ClassVar[range] = range(32, 33)
    bits: int = 32

    @classmethod
    def fitted(cls, _weight: Tensor, _settings: WeightSettings) -> Self:
        """The format, whatever the weight is."""
        return cls()

    @classmethod
    def restored(cls, _facts: Mapping[str, object], _weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """The format, whatever the weight is."""
        return cls()

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...]."""
        return weight

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """There are none.

        Raises:
            UnsupportedOperation: always.
        """
        raise UnsupportedOperation(f"weights of float32 {tuple(weight.shape)} have no integers")

    def rows(self, _outputs: Tensor, _inputs: Tensor) -> Self:
        """The same format."""
        return type(self)()

    def facts(self) -> Facts:
        """Its name."""
        return {"grid": "float32"}


def is_float(grid: WeightGrid | None) -> bool:
    """Whether a layer's weights are floats, so that it computes in float32."""
    return isinstance(grid, FloatWeights | Float32Weights)
