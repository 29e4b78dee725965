"""Pruned weights that keep their values behind the mask while a stage trains, and may be restored with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import WeightedLayer, hold_masks_, key_of, replace_mask_, set_mask_
from paretrim.train.training import Training


class Memory(nn.Module):
    """A stage's state for a layer: ``alive``, the weights that were not pruned before it began."""

    alive: Tensor

    def __init__(self, layer: WeightedLayer) -> None:
        super().__init__()
        alive = torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask.clone()
        self.register_buffer("alive", alive)


def give_masks_(layers: Mapping[str, WeightedLayer]) -> None:
    """Give layers without a mask a mask of ones, so that its shape is known from the first step."""
    for layer in layers.values():
        if layer.mask is None:
            set_mask_(layer, torch.ones_like(layer.weight, dtype=torch.bool))


def hide_(layers: Mapping[str, WeightedLayer], *, hidden: bool) -> None:
    """Set whether pruned weights keep their values behind the mask; if they no longer do, they become 0."""
    for layer in layers.values():
        layer.holds = not hidden
    hold_masks_(layers.values())


def put_masks_(layers: Mapping[str, WeightedLayer], masks: Mapping[str, Tensor]) -> None:
    """Replace masks; restored weights have their former values."""
    for name, mask in masks.items():
        replace_mask_(layers[name], mask)


def memory_of(training: Training, name: str, layer: WeightedLayer) -> Memory:
    """The stage's state for a layer.

    Raises:
        InvalidRecipe: the layer has lost channels since the stage began.
    """
    memory = cast(Memory, training.extra[key_of(name)])
    if memory.alive.shape != layer.weight.shape:
        raise InvalidRecipe(
            f"layer '{name}' had shape {tuple(memory.alive.shape)} when this stage began and has {tuple(layer.weight.shape)}"
            " now; remove channels in an earlier stage"
        )
    return memory
