"""What to do about operations that the graph does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

RANDOM = "it draws random numbers also in eval, and a file computes the same at every call; leave it out in eval"
"""Why an operation that draws random numbers is refused."""

_LISTED = "docs/operations.md"
"""Where users read which operations there are."""

_NORM = "use BatchNorm; statistics of the image itself cannot be folded into a layer"
_ATTENTION = (
    "take a network of convolutions; attention is not known, and of products of two matrices of activations only those of maps "
    "[N, C, H, K] and [N, C, K, W]"
)
_CHOICE = "use relu, clamp, maximum or minimum; choices by comparison are not known"
_ROUNDING = "leave the rounding out; paretrim.Quantize puts values on grids where the file needs it"
_PLACES = "return the logits; places and orders of numbers are found outside of the network"
_WRITING = "put the parts together with torch.cat; writing into parts of a value, or numbers over all of it, is not known"
_UNWRITTEN = (
    "join the parts with torch.cat, or start from the value itself, where it makes a tensor of any numbers for others to write "
    "parts of; only writing over all of it at once is known"
)
_MORE_PIXELS = (
    "use an upsampling with mode='nearest' and a convolution, nn.ConvTranspose2d or nn.PixelShuffle; this way to more pixels is "
    "not known"
)

INSTEAD: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("rms_norm", "var", "var_mean", "std", "std_mean"), _NORM)
    | dict.fromkeys(("matmul", "bmm", "mm", "einsum"), _ATTENTION)
    | dict.fromkeys(("where", "gt", "ge", "lt", "le", "eq", "ne", "masked_fill", "heaviside"), _CHOICE)
    | dict.fromkeys(("round", "floor", "ceil", "trunc", "sign", "fake_quantize_per_tensor_affine"), _ROUNDING)
    | dict.fromkeys(("argmax", "argmin", "sort", "argsort", "topk", "one_hot"), _PLACES)
    | dict.fromkeys(("conv_transpose1d", "conv_transpose3d", "grid_sampler"), _MORE_PIXELS)
    | dict.fromkeys(("fill", "zero", "index_fill", "index_put", "slice_scatter", "masked_scatter"), _WRITING)
    | dict.fromkeys(("empty", "empty_like", "new_empty"), _UNWRITTEN)
    | {
        "fmax": "use torch.maximum; it is the same where nothing is NaN",
        "fmin": "use torch.minimum; it is the same where nothing is NaN",
        "conv3d": "use Conv2d; images have no depth",
        "embedding": "take a network of images; indices into a table are not known",
        "unfold": "use a convolution or nn.PixelUnshuffle; overlapping patches are not known",
        "im2col": "use a convolution or nn.PixelUnshuffle; overlapping patches are not known",
    }
)
"""What to do about operations that are met in practice, and why; whole families are in :mod:`paretrim.capture.families`."""


def reason_behind(operations: Collection[str]) -> str | None:
    """The remedy for what values are moved for in front of it, such as attention; None where none of these is met."""
    met = {INSTEAD[operation] for operation in operations if operation in INSTEAD}
    return next((reason for reason in (_ATTENTION, _NORM) if reason in met), None)


def remedy(operation: str) -> str:
    """What to do about an unknown operation, and why; names without namespace and overload."""
    instead = INSTEAD.get(operation, "write the layer with other operations; this one is not known")
    return f"{instead} ({_LISTED} lists what is)"
