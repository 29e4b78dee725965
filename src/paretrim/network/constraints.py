"""How masks and fake quantizers are attached to a layer; no other module knows.

Whatever the order of stages, the effective weight is ``fake_quantize(mask * weight)`` with weight zero point 0, so a pruned
weight is exactly integer 0 and masks and quantizers commute. A mask holds in the weight and, through the product, in the
gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from paretrim.network.grids import PacedValue, WeightGrid


class WeightedLayer(nn.Module):
    """A convolution or linear layer: ``weight`` [Co, ...], ``bias`` [Co] or None, and its constraints."""

    mask: Tensor | None
    alive: Tensor | None
    """1 for output channels that compute, 0 for those silenced ahead of their removal; [Co]."""
    bias: nn.Parameter | None
    quantizer: WeightGrid | None
    dense_gradients: bool
    """Whether gradients reach pruned weights too, as if there were no mask; a training step sets it for its backward pass."""
    holds: bool
    """Whether pruned weights are held at 0. If not, they keep their values behind the mask and may come back with them; a stage
    that wants this clears it at every ``advance`` and sets it again at the last."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))
        self.register_buffer("mask", None)
        self.register_buffer("alive", None)
        self.register_module("quantizer", None)
        self.dense_gradients = False
        self.holds = True

    def masked_weight(self) -> Tensor:
        """The weight [Co, ...] with pruned weights 0, before it is rounded to a grid."""
        if self.mask is None:
            return self.weight
        if self.dense_gradients:
            return torch.where(self.mask, self.weight, self.weight - self.weight.detach())
        return self.weight * self.mask

    def effective_weight(self) -> Tensor:
        """The weight [Co, ...] that the layer computes with: masked, then rounded to its grid."""
        weight = self.masked_weight()
        return weight if self.quantizer is None else self.quantizer(weight)

    def effective_bias(self) -> Tensor | None:
        """The bias [Co] of the channels that compute."""
        return self.bias if self.bias is None or self.alive is None else self.bias * self.alive


def set_mask_(layer: WeightedLayer, mask: Tensor) -> None:
    """Prune: weights where ``mask`` is False become and stay zero. Masks only ever shrink.

    Raises:
        ValueError: the mask would bring a pruned weight back, is not of True and False, or has another shape than the weight.
    """
    if layer.mask is not None and _brings_back(mask, layer.mask):
        raise ValueError("the mask would bring a pruned weight back; combine it with the present mask")
    replace_mask_(layer, mask)


def _brings_back(mask: Tensor, before: Tensor) -> bool:
    """Whether a mask of the same form keeps a weight that the previous one does not; other forms are refused elsewhere."""
    fits = mask.dtype == torch.bool and mask.shape == before.shape
    return fits and bool((mask.to(before.device) & ~before).any())


def replace_mask_(layer: WeightedLayer, mask: Tensor) -> None:
    """Replace a layer's mask, for methods that drop weights and grow others while they train.

    A weight that comes back is 0 and trains from there, unless its layer does not hold pruned weights at 0. All other stages
    use :func:`set_mask_`.

    Raises:
        ValueError: the mask is not of True and False, or has another shape than the weight.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask of {mask.dtype}; a mask is torch.bool")
    if mask.shape != layer.weight.shape:
        raise ValueError(f"a mask of shape {tuple(mask.shape)} for a weight of shape {tuple(layer.weight.shape)}")
    layer.mask = mask.to(layer.weight.device)
    hold_masks_([layer])


def paced_values(module: nn.Module) -> list[PacedValue]:
    """What its grids train by small steps: scales, each by its own size, and what a grid names as ``paced``.

    A grid of the user's own need not have either.
    """
    found: list[PacedValue] = []
    for one in module.modules():
        if (scale := getattr(one, "trained_scale", None)) is not None:
            found.append(PacedValue(scale, scale.abs))
        found.extend(getattr(one, "paced", ()))
    return found


def hold_masks_(layers: Iterable[WeightedLayer]) -> None:
    """Reset pruned weights to zero where they are held there: momentum may have moved them in the optimizer step."""
    with torch.no_grad():
        for layer in layers:
            if layer.mask is not None and layer.holds:
                layer.weight.mul_(layer.mask)


_PLAIN = nn.ModuleDict()


def key_of(name: str) -> str:
    """The key in an ``nn.ModuleDict`` for a value of any name.

    A dot becomes a slash, since keys may hold none; ``~`` escapes a slash, ``~`` itself, and names that are attributes of the
    dictionary, such as ``keys``.
    """
    key = name.replace("~", "~0").replace("/", "~1").replace(".", "/")
    return f"~{key}" if not key or hasattr(_PLAIN, key) else key


def name_of(key: str) -> str:
    """The name of the value that :func:`key_of` gives this key."""
    reserved = key.startswith("~") and key[1:2] not in ("0", "1")
    return key[reserved:].replace("/", ".").replace("~1", "/").replace("~0", "~")


def weighted_layers(network: nn.Module) -> dict[str, WeightedLayer]:
    """Every layer with a prunable weight by its name, in the order of the network."""
    return dict(_weighted(network))


def _weighted(network: nn.Module) -> Iterator[tuple[str, WeightedLayer]]:
    layers = cast(Mapping[str, nn.Module], network.layers)
    for key, module in layers.items():
        if isinstance(module, WeightedLayer):
            yield name_of(key), module


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinity, told by the minimum and maximum in one pass that allocates nothing."""
    return tensor.numel() == 0 or all(bool(torch.isfinite(bound)) for bound in torch.aminmax(tensor.detach()))


def first_not_finite(network: nn.Module) -> str | None:
    """The first parameter or buffer that holds NaN or infinity, by the name of the user's layer; None if all are finite."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not all_finite(tensor):
            return ".".join(name_of(key) for key in name.removeprefix("layers.").split("."))
    return None


def zeros_and_weights(network: nn.Module) -> tuple[int, int]:
    """Number of zero effective weights and of all weights, biases and BatchNorm left out."""
    zeros = total = 0
    with torch.no_grad():
        for layer in weighted_layers(network).values():
            zeros += int((layer.effective_weight() == 0).sum())
            total += layer.weight.numel()
    return zeros, total


def living_weights(layer: WeightedLayer) -> int:
    """Number of weights of a layer that are not pruned."""
    return layer.weight.numel() if layer.mask is None else int(layer.mask.sum())


def sparsity(network: nn.Module) -> float:
    """Share of zero weights in [0, 1]."""
    zeros, total = zeros_and_weights(network)
    return zeros / total if total else 0.0


def weight_bits(network: nn.Module) -> int:
    """Bits of the widest weight: 32 as long as any layer is not quantized."""
    return max(layer_bits(network).values(), default=32)


def layer_bits(network: nn.Module) -> dict[str, int]:
    """Bits of every layer's weight by name; 32 where it is not quantized."""
    layers = weighted_layers(network).items()
    return {name: 32 if layer.quantizer is None else layer.quantizer.bits for name, layer in layers}
