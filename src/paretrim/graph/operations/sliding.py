"""Output sizes of sliding windows."""

from __future__ import annotations

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations.attributes import LARGEST, Pair, Settings


def slide(op: str, shape: tuple[int, int, int], window: Pair, settings: Settings, *, inside: bool) -> Pair:
    """Extents after sliding a window; ``inside`` requires every window to touch the image itself.

    Raises:
        UnsupportedOperation: the window does not fit.
    """
    stride, (top, left, bottom, right) = settings.pair("stride"), settings.edges("padding")
    dilation = settings.pair("dilation") if "dilation" in settings.values else (1, 1)
    result = []
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        extent, reach = shape[axis + 1], (window[axis] - 1) * dilation[axis] + 1
        padded = extent + before + after
        if padded > LARGEST or reach > padded:
            raise UnsupportedOperation(
                f"{op} with a window that reaches {reach} does not fit an extent of {extent} padded to {padded}; "
                "use a smaller window or larger images"
            )
        if inside and max(before, after) >= reach:
            raise UnsupportedOperation(
                f"{op} pads {before} and {after}; a window that reaches {reach} would see padding only, so pad less"
            )
        result.append((padded - reach) // stride[axis] + 1)
    padded_size = shape[0] * (shape[1] + top + bottom) * (shape[2] + left + right)
    if padded_size > LARGEST:
        raise UnsupportedOperation(f"{op} pads its input to {padded_size} elements, more than int32 can index; pad less")
    return result[0], result[1]
