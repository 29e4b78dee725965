"""Converters of sums, products and other binary functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.last import over_channels
from paretrim.capture.scale_shift import affine, numbers_of, widened
from paretrim.capture.work import Constant, Value, View, Work
from paretrim.graph.types import Attribute


def pointwise(work: Work, call: Call, source: View, function: str, constant: float | None = None) -> View:
    """A pointwise function, by its name in the graph."""
    attributes: dict[str, Attribute] = {"function": function}
    if constant is not None:
        attributes["constant"] = constant
    return each(work, call, "pointwise", source, attributes=attributes, name=f"{call.layer}.{function}".removeprefix("."))


def each(
    work: Work, call: Call, op: str, source: View, *, attributes: Mapping[str, Attribute] | None = None, name: str = ""
) -> View:
    """An elementwise node, viewed with the shape of ``source``."""
    made = work.emit(call, op, [source.name], shape=work.shapes[source.name], attributes=attributes, name=name)
    return replace(source, name=made.name)


def _arithmetic(*, scales: bool, inverts: bool) -> Callable[[Work, Call], Value]:
    """Addition or multiplication, or with ``inverts`` their inverses: of two activations, or of one and a constant."""

    def convert(work: Work, call: Call) -> Value:
        left, right = call.source, call.arguments["other"]
        alpha = call.number("alpha") if "alpha" in call.arguments else 1.0
        if not inverts and alpha == 1 and not _is_activation(work, left) and _is_activation(work, right):
            left, right = right, left
        before = work.constant(left)
        if inverts and before is not None and _is_activation(work, right):
            negative = work.operand(call, right)
            negative = _reciprocal_of(work, call, negative) if scales else pointwise(work, call, negative, "mul_constant", -alpha)
            return _of_view(work, call, negative, before, scales=scales, inverts=False)
        if isinstance(right, int | float):
            number = alpha * call.finite("other", float(right))
            if scales and inverts and number == 0:
                raise call.refused("it divides by 0; divide by another number")
            if inverts:
                number = 1.0 / number if scales else -number
            return pointwise(work, call, work.elements(call, left), "mul_constant" if scales else "add_constant", number)
        constant = work.constant(right)
        if constant is not None:
            scaled = constant if alpha == 1 else Constant(constant.name, alpha * constant.tensor)
            seen = work.view(call, left, may_be_last=True)
            if not seen.last and not (seen.plain and len(seen.shape) > 1 and len(work.shapes[seen.name]) == 3):
                seen = View(name := work.read(call, left), work.shapes[name])
            return _of_view(work, call, seen, scaled, scales=scales, inverts=inverts)
        first, second = work.operand(call, left), work.operand(call, right)
        if scales and inverts:
            second = _reciprocal_of(work, call, second)
        elif alpha != 1 or inverts:
            second = pointwise(work, call, second, "mul_constant", -alpha if inverts else alpha)
        return _repeated(call, combine(work, call, "mul" if scales else "add", first, second))

    return convert


def _is_activation(work: Work, argument: object) -> bool:
    return any(argument is node for node in work.known)


def _reciprocal_of(work: Work, call: Call, divisor: View) -> View:
    """One over a value; combined with a preceding power, such as that of local response normalisation."""
    before = next((node for node in work.nodes if node.name == divisor.name), None)
    if before is None or before.attributes.get("function") != "power":
        return pointwise(work, call, divisor, "power", -1.0)
    exponent = before.attributes["constant"]
    assert isinstance(exponent, float)
    return pointwise(work, call, View(before.inputs[0], divisor.shape), "power", -exponent)


def combine(work: Work, call: Call, op: str, first: View, second: View) -> View:
    """The sum or product of two activations; axes of size 1 are broadcast, except for [C, 1, 1] in a product."""
    if op == "mul" and first.shape != second.shape and first.shape[-2:] == (1, 1):
        first, second = second, first
    if (pair := _of_groups(work, call, first, second) or _of_groups(work, call, second, first)) is not None:
        groups, value, factor = pair
        return replace(groups, name=combine(work, call, op, value, factor).name)
    if (flat := _flattened(work, first, second)) is not None:
        made = combine(work, call, op, *flat)
        return View(made.name, (made.shape[0], math.prod(made.shape[1:])))
    if first.last and second.last and first.shape != second.shape:
        made = combine(work, call, op, *(View(each.name, work.shapes[each.name]) for each in (first, second)))
        return View(made.name, (*made.shape[1:], made.shape[0]), last=True)
    first, second = _broadcast(work, call, op, first, second)
    wide = work.shapes[first.name]
    return replace(first, name=work.emit(call, op, [first.name, second.name], shape=wide).name)


def _flattened(work: Work, first: View, second: View) -> tuple[View, View] | None:
    """Two maps of the same pixels that are flattened, [C, H * W] and [1, H * W], as the maps themselves."""
    sizes = [work.shapes[view.name] for view in (first, second)]
    fits = all(
        view.plain and len(size) == 3 and view.shape == (size[0], size[1] * size[2])
        for view, size in zip((first, second), sizes, strict=True)
    )
    if not fits or sizes[0] == sizes[1] or sizes[0][1:] != sizes[1][1:]:
        return None
    return View(first.name, sizes[0]), View(second.name, sizes[1])


def _of_groups(work: Work, call: Call, first: View, second: View) -> tuple[View, View, View] | None:
    """Groups of channels [G, ...] and one number for each, [G, 1, ...]: as themselves, as a map, and one for each channel."""
    wide, narrow = work.shapes[first.name], work.shapes[second.name]
    groups, single = first.shape[0], (first.shape[0], *[1] * (len(first.shape) - 1))
    fits = len(wide) == 3 and narrow == (groups, 1, 1) and second.shape == single and wide[0] % groups == 0
    if not (first.plain and second.plain and first.shape not in (wide, single) and fits):
        return None
    of_each = View(second.name, narrow)
    if wide[0] != groups:
        of_each = work.mixed(call, of_each, np.kron(np.eye(groups), np.ones((wide[0] // groups, 1))).astype(np.float32))
    return first, View(first.name, wide), of_each


def _repeated(call: Call, value: View) -> View:
    """The result of two operands that are both broadcast to a larger shape, computed before broadcasting."""
    shape = call.shape()
    return value if value.shape == shape or len(shape) != 3 else replace(value, shape=shape, spread=True)


def _broadcast(work: Work, call: Call, op: str, first: View, second: View) -> tuple[View, View]:
    """Both operands with shapes that the operation supports."""
    wide, narrow = work.shapes[first.name], work.shapes[second.name]
    if first.last != second.last:
        raise call.refused("only one of its operands is channels-last; permute the other one in the same way")
    if first.shape == second.shape and wide == narrow:
        return first, second
    if op == "mul" and len(wide) == 3 and narrow == (wide[0], 1, 1) and second.shape == (*first.shape[:-2], 1, 1):
        return first, second
    if len(first.shape) == len(second.shape) == 1 and 1 in (*first.shape, *second.shape):
        length = max(first.shape, second.shape)
        return (first, work.spread(call, second, length)) if first.shape == length else (work.spread(call, first, length), second)
    if len(first.shape) == len(second.shape) == 3 and first.plain and second.plain:
        first, second = (View(work.settled(call, each), each.shape) for each in (first, second))
        wide, narrow = first.shape, second.shape
    fits = all(1 in pair or pair[0] == pair[1] for pair in zip(wide, narrow, strict=False))
    if (wide, narrow) != (first.shape, second.shape) or not len(wide) == len(narrow) == 3 or not fits:
        raise call.refused(
            f"give both operands the shape [C, H, W], with 1 for axes to broadcast; their shapes are {first.shape} and "
            f"{second.shape}"
        )
    shape = tuple(max(pair) for pair in zip(wide, narrow, strict=True))
    if op == "mul" and wide == shape and narrow[1:] == (1, 1):
        return first, work.spread(call, second, (shape[0], 1, 1))
    return work.spread(call, first, shape), work.spread(call, second, shape)


def _of_view(work: Work, call: Call, seen: View, constant: Constant, *, scales: bool, inverts: bool) -> View:
    """Like :func:`_affine`, for a value that may be seen in another shape or channels-last; the constant then is, too."""
    base = work.shapes[seen.name]
    if seen.last:
        whole = widened(constant, seen.shape) if constant.tensor.dim() > 1 else (1, *seen.shape)
        given = over_channels(constant, seen.shape[-1])
        if given is constant and whole == seen.shape and constant.tensor.numel() > 1:
            numbers = constant.tensor.reshape((1,) * (3 - constant.tensor.dim()) + constant.tensor.shape[-3:])
            given = Constant(constant.name, numbers.permute(2, 0, 1))
        return replace(seen, name=_affine(work, call, seen.name, given, scales=scales, inverts=inverts).name)
    if seen.shape != base and widened(constant, seen.shape) == seen.shape:  # a number for every value, in the order of the map
        numbers = constant.tensor.reshape(constant.tensor.shape[-len(seen.shape) :]).expand(seen.shape).reshape(base)
        constant = Constant(constant.name, numbers)
        return replace(seen, name=_affine(work, call, seen.name, constant, scales=scales, inverts=inverts).name)
    return _affine(work, call, seen.name, constant, scales=scales, inverts=inverts)


def _affine(work: Work, call: Call, source: str, constant: Constant, *, scales: bool, inverts: bool) -> View:
    """A sum or product with constants, one per channel or per pixel, merged with a preceding one."""
    shape = widened(constant, work.shapes[source])
    if shape != work.shapes[source]:
        source = work.spread(call, View(source, work.shapes[source]), shape).name
    operand = numbers_of(call, constant, shape).astype(np.float64)
    if scales and inverts and not operand.all():
        raise call.refused(f"it divides by '{constant.name}', which contains 0; divide by other numbers")
    if scales:
        return affine(work, call, source, 1.0 / operand if inverts else operand, np.zeros_like(operand), joins=True)
    return affine(work, call, source, np.ones_like(operand), -operand if inverts else operand, joins=True)


def larger(work: Work, call: Call, first: View, second: View) -> View:
    """The larger of two values: ``first + relu(second - first)``."""
    difference = combine(work, call, "add", second, pointwise(work, call, first, "mul_constant", -1.0))
    return combine(work, call, "add", first, each(work, call, "relu", difference))


def _operand(work: Work, call: Call, argument: object) -> View:
    """An argument, or a value that was made of one, as an operand."""
    return argument if isinstance(argument, View) else work.operand(call, argument)


def added(work: Work, call: Call, value: View, other: object, *, factor: float = 1.0) -> Value:
    """A value plus an argument, which may be constant, times a number."""
    if (constant := work.constant(other)) is not None:
        scaled = Constant(constant.name, factor * constant.tensor)
        return _of_view(work, call, value, scaled, scales=False, inverts=False)
    term = work.operand(call, other)
    term = term if factor == 1 else pointwise(work, call, term, "mul_constant", factor)
    return _repeated(call, combine(work, call, "add", value, term))


def _beside_constant(work: Work, call: Call, sides: tuple[object, object], sign: float) -> View | None:
    """Maximum (``sign`` 1) or minimum (-1) with a constant: ``c + sign * relu(sign * (x - c))``; None if there is no constant."""
    given = next((constant for side in sides if (constant := work.constant(side)) is not None), None)
    if given is None:
        return None
    other = sides[0] if work.constant(sides[0]) is None else sides[1]
    source = other.name if isinstance(other, View) else work.read(call, other)
    bound = numbers_of(call, given, work.shapes[source])
    signs = np.full_like(bound, sign)
    beyond = each(work, call, "relu", affine(work, call, source, signs, -signs * bound))
    return affine(work, call, beyond.name, signs, bound)


def larger_of(work: Work, call: Call, left: object, right: object) -> Value:
    """The larger of two arguments, one of which may be constant."""
    if (beside := _beside_constant(work, call, (left, right), 1.0)) is not None:
        return beside
    return _repeated(call, larger(work, call, _operand(work, call, left), _operand(work, call, right)))


def smaller_of(work: Work, call: Call, left: object, right: object) -> Value:
    """The smaller of two arguments, one of which may be constant: ``first - relu(first - second)``."""
    if (beside := _beside_constant(work, call, (left, right), -1.0)) is not None:
        return beside
    first, second = _operand(work, call, left), _operand(work, call, right)
    difference = combine(work, call, "add", first, pointwise(work, call, second, "mul_constant", -1.0))
    beyond = pointwise(work, call, each(work, call, "relu", difference), "mul_constant", -1.0)
    return _repeated(call, combine(work, call, "add", first, beyond))


def maximum(work: Work, call: Call) -> Value:
    """The larger of two values."""
    return larger_of(work, call, call.source, call.arguments["other"])


def minimum(work: Work, call: Call) -> Value:
    """The smaller of two values."""
    return smaller_of(work, call, call.source, call.arguments["other"])


def _lerp(work: Work, call: Call) -> Value:
    """Linear interpolation between two activations: ``first + weight * (second - first)``."""
    first, second = work.operand(call, call.source), work.operand(call, call.arguments["end"])
    way = combine(work, call, "add", second, pointwise(work, call, first, "mul_constant", -1.0))
    weight = call.arguments["weight"]
    if (constant := work.constant(weight)) is not None:
        step = _affine(work, call, work.settled(call, way), constant, scales=True, inverts=False)
        assert isinstance(step, View)
    elif isinstance(weight, int | float):
        step = pointwise(work, call, way, "mul_constant", call.number("weight"))
    else:
        step = combine(work, call, "mul", way, work.operand(call, weight))
    return _repeated(call, combine(work, call, "add", first, step))


ELEMENTWISE: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "add": _arithmetic(scales=False, inverts=False),
        "sub": _arithmetic(scales=False, inverts=True),
        "mul": _arithmetic(scales=True, inverts=False),
        "div": _arithmetic(scales=True, inverts=True),
        "lerp": _lerp,
        "maximum": maximum,
        "minimum": minimum,
    }
)
