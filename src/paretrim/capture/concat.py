"""Concatenation of channels."""

from __future__ import annotations

from torch.fx import Node as FxNode

from paretrim.capture.call import Call
from paretrim.capture.work import Value, Work
from paretrim.graph.types import Attribute


def concat(work: Work, call: Call) -> Value:
    """Channels side by side; zeros in front of or behind the others are padding."""
    shape = call.shape()
    parts = call.arguments["tensors"]
    if call.integer("dim") % (len(shape) + 1) != 1 or not isinstance(parts, list | tuple):
        raise call.refused(f"concatenation along axis {call.arguments['dim']}; only channels (axis 1) are joined")
    first, last = 0, len(parts)
    padded = len(shape) == 3
    while padded and last - first > 1 and _is_zero(work, parts[first]):
        first += 1
    while padded and last - first > 1 and _is_zero(work, parts[last - 1]):
        last -= 1
    if len(parts) == 1:
        return work.view(call, parts[0])
    names = [work.read(call, part) for part in parts[first:last]]
    if (first, last) == (0, len(parts)):
        return work.emit(call, "concat", names, shape=shape)
    channels = [sum(_channels(part) for part in some) for some in (parts[:first], parts[first:last], parts[last:])]
    name = names[0] if len(names) == 1 else work.emit(call, "concat", names, shape=(channels[1], *shape[1:])).name
    still = (0,) * (len(shape) - 1)
    attributes: dict[str, Attribute] = {"before": (channels[0], *still), "after": (channels[2], *still)}
    return work.emit(call, "pad", [name], shape=shape, attributes=attributes)


def _is_zero(work: Work, part: object) -> bool:
    """Whether it is a constant of zeros, such as those that option A of ResNet puts beside the channels."""
    constant = work.constant(part)
    return constant is not None and constant.memory not in work.changed and not bool(constant.tensor.any())


def _channels(part: object) -> int:
    assert isinstance(part, FxNode)
    return int(part.meta["val"].shape[1])
