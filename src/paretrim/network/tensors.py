"""Tensors in the order of memory, from a file (checked before they are used), and between forward and backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class AutogradContext(Protocol):
    """What the forward pass of a ``torch.autograd.Function`` saves for its backward pass."""

    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]:
        """What was saved."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Save tensors."""


def in_memory_order(x: Tensor) -> Tensor:
    """All elements as one row [numel], without a copy if the tensor is dense in either layout.

    Reductions over channels_last tensors by their logical order are several times slower than over plain memory.
    """
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)


def vector(tensors: Mapping[str, Tensor], key: str, count: int) -> Tensor | None:
    """The float32 vector of ``count`` elements under ``key``, if there is one.

    Raises:
        ValueError: it is of another type or length.
    """
    found = typed(tensors, key, torch.float32)
    if found is not None and found.shape != (count,):
        raise ValueError(f"'{key}' has shape {tuple(found.shape)} and must have {(count,)}")
    return found


def typed(tensors: Mapping[str, Tensor], key: str, dtype: torch.dtype) -> Tensor | None:
    """The tensor under ``key``, if there is one; its type must match, since it decides how it is computed with.

    Raises:
        ValueError: it is of another type.
    """
    found = tensors.get(key)
    if found is not None and found.dtype is not dtype:
        raise ValueError(f"'{key}' is {found.dtype} and must be {dtype}")
    return found
