"""Advice about operations that the graph does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

RANDOM = "it draws random numbers even in eval mode, but a file is deterministic; leave it out in eval mode"
"""Why an operation that draws random numbers is refused."""

_LISTED = "docs/operations.md"
"""The list of supported operations, for users."""

_ATTENTION = (
    "use a convolutional network; attention is not supported, and matrix products of two activations only between maps "
    "[N, C, H, K] and [N, C, K, W]"
)
_CHOICE = (
    "use relu, clamp, maximum or minimum; of comparisons >, >=, < and <= are supported, and selection by them with torch.where"
)
_ROUNDING = "leave the rounding out; paretrim.Quantize rounds values where the file needs it"
_PLACES = "return the logits; compute indices and orders outside of the network"
_WRITING = (
    "join the parts with torch.cat; writing to parts of a value that is read again through another view, or filling all of it, "
    "is not supported"
)
_UNWRITTEN = (
    "join the parts with torch.cat, or start from the value itself, where it makes a tensor of any numbers for others to write "
    "parts of; only writing over all of it at once is known"
)
_MORE_PIXELS = (
    "use upsampling with mode='nearest' and a convolution, nn.ConvTranspose2d or nn.PixelShuffle; this kind of upsampling is not "
    "supported"
)

INSTEAD: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("matmul", "bmm", "mm"), _ATTENTION)
    | dict.fromkeys(("eq", "ne", "heaviside", "isnan", "isinf", "isfinite"), _CHOICE)
    | dict.fromkeys(("round", "floor", "ceil", "trunc", "fake_quantize_per_tensor_affine"), _ROUNDING)
    | dict.fromkeys(("argmax", "argmin", "sort", "argsort", "topk", "one_hot"), _PLACES)
    | dict.fromkeys(("conv_transpose1d", "conv_transpose3d", "grid_sampler"), _MORE_PIXELS)
    | dict.fromkeys(("fill", "zero", "index_put", "masked_scatter"), _WRITING)
    | dict.fromkeys(("empty", "empty_like", "new_empty"), _UNWRITTEN)
    | {
        "item": "compute with the tensor itself, without .item() or float()",
        "fmax": "use torch.maximum; it is the same if nothing is NaN",
        "fmin": "use torch.minimum; it is the same if nothing is NaN",
        "conv3d": "use Conv2d; images have no depth",
        "embedding": "use a network that takes images; embeddings are not supported",
        "unfold": "use a convolution or nn.PixelUnshuffle; overlapping patches are not supported",
        "im2col": "use a convolution or nn.PixelUnshuffle; overlapping patches are not supported",
    }
)
"""Advice for operations that occur in practice, with the reason; :mod:`paretrim.capture.families` has whole families."""


def reason_behind(operations: Collection[str]) -> str | None:
    """Advice for the pattern that a permutation is part of, such as attention, from the operations behind it; None if none."""
    return _ATTENTION if any(INSTEAD.get(operation) == _ATTENTION for operation in operations) else None


_BEHIND = MappingProxyType(
    {
        "where": "choose between values of the network; a choice between two numbers that are 0 is 0",
        "masked_fill": "choose between values of the network; a choice between two numbers that are 0 is 0",
        "einsum": "use nn.Linear, nn.Conv2d, products and sums; einsum is supported only where it is one of these",
    }
)
"""As :data:`INSTEAD`, of operations that are known in part."""


def remedy(operation: str) -> str:
    """Advice for an unsupported operation, by its name without namespace and overload."""
    instead = INSTEAD.get(operation) or _BEHIND.get(operation, "write the layer with other operations; this one is not supported")
    return f"{instead} ({_LISTED} lists the supported ones)"
