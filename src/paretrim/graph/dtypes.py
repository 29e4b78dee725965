"""Element types of values and tensors. To add one: a row here, and its meaning in the operations that compute on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ElementType:
    """``bits`` of one element in memory; ``on_grid``: it is an integer that represents a number on an affine grid."""

    bits: int
    on_grid: bool


ELEMENT_TYPES: Mapping[str, ElementType] = {"float32": ElementType(32, on_grid=False), "uint8": ElementType(8, on_grid=True)}
"""Element types by name."""

KNOWN = " or ".join(ELEMENT_TYPES)
"""For errors."""

TENSOR_TYPES: Mapping[str, np.dtype[np.generic]] = {
    "float32": np.dtype(np.float32),
    "uint8": np.dtype(np.uint8),
    "int8": np.dtype(np.int8),
    "int32": np.dtype(np.int32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
}
"""Element types of tensors by name. NumPy has no bfloat16, so its bits are kept in a uint16."""

PIECE = 2**20
"""Most elements of one of the :func:`pieces` of a tensor."""

_NAMES = {dtype: name for name, dtype in TENSOR_TYPES.items()}


def type_name(tensor: npt.NDArray[np.generic]) -> str:
    """The name of a tensor's element type; NumPy's name if graphs have no such tensors."""
    return _NAMES.get(tensor.dtype, str(tensor.dtype))


def widened(tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """The numbers in a tensor as float32; exact for floats of 16 bits and int8."""
    if tensor.dtype == TENSOR_TYPES["bfloat16"]:
        return (tensor.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return tensor.astype(np.float32)


def pieces(tensor: npt.NDArray[np.generic]) -> Iterator[tuple[slice, npt.NDArray[np.generic]]]:
    """Views [rows, elements] of at most :data:`PIECE` elements that cover a tensor, each with the rows (first extent) it is from.

    For what is computed from a large tensor in a wider type: a copy of all of it would take several times its memory.
    """
    if not tensor.size:
        return
    flat = tensor.reshape(len(tensor) if tensor.ndim else 1, -1)
    width = min(flat.shape[1], PIECE)
    height = PIECE // width
    for top in range(0, len(flat), height):
        for left in range(0, flat.shape[1], width):
            yield slice(top, top + height), flat[top : top + height, left : left + width]


def real_weight(tensors: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    """The weight [Co, ...] of a float layer as float32: its numbers, times the scales of output channels if there are any."""
    weight = widened(tensors["weight"])
    if "weight_scale" not in tensors:
        return weight
    return weight * tensors["weight_scale"].astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))


def count_zeros(tensor: npt.NDArray[np.generic]) -> int:
    """How many numbers in a tensor are 0 or -0; the bits of a bfloat16 -0 are not 0."""
    exact = tensor.dtype != TENSOR_TYPES["bfloat16"]
    return sum(int(part.size - np.count_nonzero(part if exact else widened(part))) for _, part in pieces(tensor))


def all_represented_finite(tensors: Mapping[str, npt.NDArray[np.generic]]) -> bool:
    """Whether :func:`real_weight` of such tensors holds neither NaN nor infinity, without all of it in memory."""
    scales = tensors["weight_scale"].astype(np.float32).reshape(-1, 1)
    return all(all_finite(widened(part) * scales[rows]) for rows, part in pieces(tensors["weight"]))


def all_finite(numbers: npt.NDArray[np.generic]) -> bool:
    """Whether there is neither NaN nor infinity among floats; without an array of answers, which may take 100 MB."""
    with np.errstate(invalid="ignore"):
        return not numbers.size or bool(np.isfinite(numbers.min()) and np.isfinite(numbers.max()))
