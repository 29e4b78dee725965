"""One node of a graph and the types of its values; :mod:`paretrim.graph.types` has the whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from paretrim.graph.dtypes import ELEMENT_TYPES

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Array = npt.NDArray[np.generic]
Dtype = str
"""The name of an element type in :data:`paretrim.graph.dtypes.ELEMENT_TYPES`."""
Attribute = int | float | str | bool | tuple[int, ...]


@dataclass(frozen=True)
class ValueType:
    """Type of one value: shape without the batch, element type and, for integers, the affine grid.

    ``real = scale * (quantized - zero_point)``; ``scale`` is a float that float32 holds exactly.
    """

    shape: tuple[int, ...]
    dtype: Dtype = "float32"
    scale: float = 1.0
    zero_point: int = 0

    @property
    def quantized(self) -> bool:
        """Whether its elements are integers on a grid."""
        return self.dtype in ELEMENT_TYPES and ELEMENT_TYPES[self.dtype].on_grid  # others are refused where graphs are checked

    @property
    def size(self) -> int:
        """Elements of one image's value."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of one image's value in memory."""
        return -(-self.size * ELEMENT_TYPES[self.dtype].bits // 8)


@dataclass(frozen=True)
class InputSpec:
    """What the deployed network takes.

    With ``mean`` and ``std`` (one number per channel, in units of pixel / 255) it takes uint8 pixels [N, C, H, W] and
    normalises them itself: ``(pixel / 255 - mean) / std``. Without them it takes float32 [N, C, H, W], already normalised.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def takes_pixels(self) -> bool:
        """Whether it takes uint8 pixels and normalises them itself."""
        return bool(self.std)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    ``op`` names one of :data:`paretrim.graph.operations.table.OPERATIONS`; ``layer`` is the path of the user's module.
    ``attributes`` are small plain values (strides, window sizes); ``tensors`` are arrays (weight, bias, table).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    type: ValueType
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)
    layer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    def __deepcopy__(self, memo: object) -> Node:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Callable[..., Node], tuple[object, ...]]:
        """Pickle what it was made of: read-only mappings cannot be pickled."""
        made_of = self.name, self.op, self.inputs, self.type, dict(self.attributes), dict(self.tensors), self.layer
        return Node, made_of
