"""Softmax: left out where it only ends the network, otherwise written with exponentials, sums and products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from types import MappingProxyType

from torch.fx import Node as FxNode

from paretrim.capture.call import Call, operation_of
from paretrim.capture.elementwise import combine, larger, pointwise
from paretrim.capture.pooling import largest, reduced, total
from paretrim.capture.stacked import part_of
from paretrim.capture.work import Value, View, Work


def _softmax(work: Work, call: Call) -> Value:
    """Left out at the end of the network; between two alternatives a sigmoid of their difference."""
    view = work.view(call, call.source, may_be_last=True)
    call.no_effect("dtype")
    axis = call.integer("dim") % (len(view.shape) + 1)
    of_classes = axis == 1 and len(view.shape) in (1, 3) and not view.last
    if of_classes and _ends(call.node):
        if work.returned > 1:
            raise call.refused(
                f"{call.operation} at the end of one of {work.returned} outputs; return its input, and apply it to the output of "
                "the deployed file"
            )
        work.left_out.append(call.node)
        return view
    stacked = axis == 1 and len(view.shape) > 1 and view.plain and view.shape[0] < work.shapes[view.name][0]
    if stacked or (axis == 1 and len(view.shape) > 1 and view.shape[0] == 2 and view.plain):
        return _of_alternatives(work, call, view)
    value, axes = reduced(work, call, call.operation)
    if value.shape != work.shapes[value.name]:
        raise call.refused(f"{call.operation} over groups {list(view.shape)} of channels; split them into maps first")
    below = _minus(work, call, value, largest(work, call, value, axes))
    shares = pointwise(work, call, below, "exp")
    sums = total(work, call, shares, axes)
    if call.operation == "log_softmax":
        made = _minus(work, call, below, pointwise(work, call, sums, "log"))
    else:
        made = combine(work, call, "mul", shares, pointwise(work, call, sums, "power", -1.0))
    return View(made.name, view.shape, last=view.last)


def _of_alternatives(work: Work, call: Call, view: View) -> View:
    """Of maps or vectors stacked in a value, at every place."""
    parts = [part_of(work, call, view, index) for index in range(view.shape[0])]
    if call.operation == "log_softmax":
        raise call.refused("log_softmax over stacked maps; use softmax, and take the logarithm outside")
    if len(parts) == 2:
        difference = _minus(work, call, *parts)
        opposite = pointwise(work, call, difference, "mul_constant", -1.0)
        shares = [pointwise(work, call, chosen, "sigmoid") for chosen in (difference, opposite)]
    else:
        most = reduce(lambda first, second: larger(work, call, first, second), parts)
        powers = [pointwise(work, call, _minus(work, call, part, most), "exp") for part in parts]
        sums = reduce(lambda first, second: combine(work, call, "add", first, second), powers)
        inverse = pointwise(work, call, sums, "power", -1.0)
        shares = [combine(work, call, "mul", power, inverse) for power in powers]
    names = [work.settled(call, replace(share, shape=work.shapes[share.name])) for share in shares]
    return View(work.emit(call, "concat", names, shape=work.shapes[view.name]).name, view.shape)


def _minus(work: Work, call: Call, first: View, second: View) -> View:
    return combine(work, call, "add", first, pointwise(work, call, second, "mul_constant", -1.0))


def _ends(node: FxNode) -> bool:
    """Whether nothing between a value and the network's output changes the order of the classes."""
    return all(
        user.op == "output" or (operation_of(user) in ("log", "detach", "alias", "clone", "contiguous") and _ends(user))
        for user in node.users
    )


def _log(work: Work, call: Call) -> Value:
    """The logarithm of a softmax that is omitted at the end is omitted too."""
    source = call.source
    if isinstance(source, FxNode) and source in work.left_out:
        work.left_out.append(call.node)
        return work.view(call, source)
    return pointwise(work, call, work.elements(call, source), "log")


SOFTMAX: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {"softmax": _softmax, "log_softmax": _softmax, "log": _log}
)
"""Operations whose result is a new tensor."""
