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
_WHOLE_NUMBERS = ("round", "floor", "ceil", "trunc", "frac", "fmod", "remainder", "floor_divide")
_QUANTIZING = ("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine")
_PLACES = "return the logits; compute indices and orders outside of the network"
_ORDER = (
    "use the maximum or the mean (amax, mean, nn.AdaptiveMaxPool2d), or compute it outside of the network; a file does not order "
    "values"
)
_RUNNING = (
    "use a sum, maximum or mean of the whole axis, or a convolution; running products, maxima and minima are not supported, "
    "running sums over channels, height or width are"
)
_DISTANCES = (
    "write out the squared distances of vectors x [N, K] to prototypes p [M, K] as F.linear(x, -2 * p, p.square().sum(1)) + "
    "x.square().sum(1, keepdim=True), or put a sum over differences in its place; torch.cdist is not supported"
)
_GATHERING = (
    "use index_select or x[:, indices] with fixed indices, the same for all images and pixels; choosing by the values of an "
    "image is not supported"
)
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
    | dict.fromkeys((*_WHOLE_NUMBERS, *_QUANTIZING), _ROUNDING)
    | dict.fromkeys(("argmax", "argmin", "argsort", "one_hot", "nonzero", "histc", "bucketize", "searchsorted"), _PLACES)
    | dict.fromkeys(("sort", "topk", "kthvalue", "median", "nanmedian", "mode", "quantile", "nanquantile", "msort"), _ORDER)
    | dict.fromkeys(("cumprod", "cummax", "cummin", "logcumsumexp"), _RUNNING)
    | dict.fromkeys(("gather", "take", "take_along_dim", "scatter"), _GATHERING)
    | dict.fromkeys(("conv_transpose3d", "grid_sampler", "affine_grid_generator", "max_unpool2d"), _MORE_PIXELS)
    | dict.fromkeys(("fill", "zero", "index_put", "masked_scatter"), _WRITING)
    | dict.fromkeys(("empty", "empty_like", "new_empty"), _UNWRITTEN)
    | {
        "item": "compute with the tensor itself, without .item() or float()",
        "cdist": _DISTANCES,
        "fmax": "use torch.maximum; it is the same if nothing is NaN",
        "fmin": "use torch.minimum; it is the same if nothing is NaN",
        "conv3d": "use Conv2d; images have no depth",
        "embedding": "use a network that takes images; embeddings are not supported",
        "unfold": "use a convolution, F.unfold or nn.PixelUnshuffle; x.unfold is not supported",
        "kron": "use nn.Upsample(mode='nearest') for blocks of equal pixels, or nn.ConvTranspose2d; torch.kron is not supported",
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
        "einsum": "use nn.Linear, nn.Conv2d, matmul, products and sums; einsum is supported only where it is one of these",
        "cumsum": _RUNNING,
        "conv_transpose1d": "use nn.ConvTranspose2d on maps of one row: x.unsqueeze(2), and kernels (1, K)",
        "bilinear": "use nn.Bilinear of vectors [N, K], or multiply two convolutions",
        "im2col": "use a convolution or nn.PixelUnshuffle; these patches are not supported",
        "col2im": "use nn.PixelShuffle or nn.ConvTranspose2d; these patches are not supported",
    }
)
"""As :data:`INSTEAD`, of operations that are known in part."""


def remedy(operation: str) -> str:
    """Advice for an unsupported operation, by its name without namespace and overload."""
    instead = INSTEAD.get(operation) or _BEHIND.get(operation, "write the layer with other operations; this one is not supported")
    return f"{instead} ({_LISTED} lists the supported ones)"
