"""Comparisons, and choices between two values by a mask.

A mask is 1 where it is true and 0 where it is false, so a choice is a sum of two products, which is exact. In 8 bits a value near
the bound of a comparison may fall to its other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch.fx import Node as FxNode

from paretrim.capture.call import Call
from paretrim.capture.elementwise import added, combine, larger_of, pointwise
from paretrim.capture.remedies import remedy
from paretrim.capture.scale_shift import affine, numbers_of
from paretrim.capture.scattered import index_put
from paretrim.capture.work import Constant, Value, View, Work
from paretrim.graph.types import FloatArray


def _compared(*, swapped: bool, negated: bool) -> Callable[[Work, Call], Value]:
    """``first > second``, with the two in the other order or the answer turned round."""

    def convert(work: Work, call: Call) -> Value:
        other, sign = call.arguments["other"], -1.0 if swapped else 1.0
        value = work.operand(call, call.source)
        if isinstance(other, int | float):
            number = float(np.float32(call.number("other")))
            value = _times(work, call, value, sign)
            above = pointwise(work, call, value, "step", sign * number)
        else:
            difference = added(work, call, value, other, factor=-1.0)
            assert isinstance(difference, View)
            above = pointwise(work, call, _times(work, call, difference, sign), "step", 0.0)
        return _opposite(work, call, above) if negated else above

    return convert


def _times(work: Work, call: Call, value: View, factor: float) -> View:
    return value if factor == 1 else pointwise(work, call, value, "mul_constant", factor)


def _opposite(work: Work, call: Call, mask: View) -> View:
    """1 minus a mask."""
    return pointwise(work, call, pointwise(work, call, mask, "mul_constant", -1.0), "add_constant", 1.0)


def _of_masks(convert: Callable[[Work, Call], Value]) -> Callable[[Work, Call], Value]:
    """What is only known of masks: of other values torch asks first whether they are 0."""

    def checked(work: Work, call: Call) -> Value:
        if any(source.meta["val"].dtype != torch.bool for source in call.node.all_input_nodes):
            raise call.refused("it asks whether numbers are 0; compare them with >, >=, < or <= first")
        return convert(work, call)

    return checked


def _not(work: Work, call: Call) -> Value:
    return _opposite(work, call, work.operand(call, call.source))


def _and(work: Work, call: Call) -> Value:
    first, second = work.operand(call, call.source), work.operand(call, call.arguments["other"])
    return combine(work, call, "mul", first, second)


def _or(work: Work, call: Call) -> Value:
    return larger_of(work, call, call.source, call.arguments["other"])


def _sign(work: Work, call: Call) -> Value:
    """1 above 0, minus 1 below it."""
    value = work.operand(call, call.source)
    below = pointwise(work, call, _times(work, call, value, -1.0), "step", 0.0)
    return combine(work, call, "add", pointwise(work, call, value, "step", 0.0), _times(work, call, below, -1.0))


def _where(work: Work, call: Call) -> Value:
    """One value where a mask is true, another where it is not."""
    return _chosen(work, call, call.arguments["condition"], call.arguments["self"], call.arguments["other"])


def _masked_fill(work: Work, call: Call) -> Value:
    """A number where a mask is true."""
    return _chosen(work, call, call.arguments["mask"], call.arguments["value"], call.source)


def _index_put(work: Work, call: Call) -> Value:
    """``x[mask] = number``, with a mask of the shape of the value, or at fixed channels, rows or columns."""
    if (indexed := index_put(work, call)) is not None:
        return indexed
    places, number = call.arguments["indices"], work.constant(call.arguments["values"])
    call.require("accumulate", False, remedy(call.operation))
    mask = places[0] if isinstance(places, list | tuple) and len(places) == 1 else None
    whole = isinstance(mask, FxNode) and mask.meta["val"].dtype == torch.bool and mask.meta["val"].dim() == len(call.shape()) + 1
    if not whole or number is None or number.tensor.numel() != 1:
        raise call.refused(remedy(call.operation))
    return _chosen(work, call, mask, float(number.tensor), call.source)


def _chosen(work: Work, call: Call, condition: object, yes: object, no: object) -> View:
    shape, fixed = call.shape(), work.constant(condition)
    chosen: FloatArray | View
    if fixed is not None:
        chosen = numbers_of(call, Constant(fixed.name, fixed.tensor.float()), shape)
    else:
        chosen = work.operand(call, condition)
    left = _opposite(work, call, chosen) if isinstance(chosen, View) else 1 - chosen
    parts = [_share_of(work, call, yes, chosen), _share_of(work, call, no, left)]
    views = [part for part in parts if isinstance(part, View)]
    if not views:
        raise call.refused(remedy(call.operation))
    value = views[0] if len(views) == 1 else combine(work, call, "add", *views)
    term = sum(part for part in parts if not isinstance(part, View))
    if not np.any(term):
        return value
    shift = np.asarray(term, np.float32)
    return affine(work, call, value.name, np.ones_like(shift), shift)


def _share_of(work: Work, call: Call, side: object, share: FloatArray | View) -> FloatArray | View:
    """One side of a choice times its share; of numbers with fixed shares the numbers to add."""
    shape = call.shape()
    number = side if isinstance(side, int | float) else None
    constant = work.constant(side)
    if isinstance(share, View):
        if number is not None:
            return _times(work, call, share, call.finite("value", float(number))) if number else np.zeros(1, np.float32)
        if constant is not None:
            factor = numbers_of(call, constant, shape)
            whole = work.spread(call, share, (shape[0], *share.shape[1:]))
            return affine(work, call, whole.name, factor, np.zeros_like(factor)) if factor.any() else np.zeros(1, np.float32)
        return combine(work, call, "mul", work.operand(call, side), share)
    if number is not None:
        return share * np.float32(call.finite("value", float(number)))
    if constant is not None:
        return share * numbers_of(call, constant, shape)
    value = work.operand(call, side)
    wide = shape if share.size > shape[0] else (shape[0], *value.shape[1:])
    name = work.spread(call, value, wide).name if value.shape != wide else value.name
    return affine(work, call, name, share, np.zeros_like(share))


COMPARISONS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "gt": _compared(swapped=False, negated=False),
        "lt": _compared(swapped=True, negated=False),
        "le": _compared(swapped=False, negated=True),
        "ge": _compared(swapped=True, negated=True),
        **dict.fromkeys(("logical_not", "bitwise_not"), _of_masks(_not)),
        **dict.fromkeys(("logical_and", "bitwise_and", "__and__"), _of_masks(_and)),
        **dict.fromkeys(("logical_or", "bitwise_or", "__or__"), _of_masks(_or)),
    }
)
"""Operations whose results are masks."""

CHOICES: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {"where": _where, "masked_fill": _masked_fill, "index_put": _index_put, "sign": _sign}
)
"""Operations that choose between values."""
