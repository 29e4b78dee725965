"""Numbers read from parameters and buffers while the network runs, as in ``x * self.scale.item()``: they are fixed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Graph as FxGraph
from torch.fx import Node as FxNode
from torch.fx.node import map_arg

from paretrim.capture.call import is_in_place

_ARITHMETIC = frozenset((operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pow))


def put_numbers_in_(graph: FxGraph, tensors: Mapping[FxNode, tuple[str, torch.Tensor]]) -> None:
    """Replace what ``.item()`` reads from a tensor that the network never changes, and sums and products of it, by numbers."""
    for node in list(graph.nodes):
        number = _number_of(node, tensors)
        if number is None:
            continue
        put = _put(number, node)
        for user in list(node.users):
            user.args, user.kwargs = map_arg(user.args, put), map_arg(user.kwargs, put)


def _put(number: float | int, node: FxNode) -> Callable[[FxNode], Any]:
    return lambda one: number if one is node else one


def _number_of(node: FxNode, tensors: Mapping[FxNode, tuple[str, torch.Tensor]]) -> float | int | None:
    if node.op != "call_function":
        return None
    if node.target in _ARITHMETIC and node.args and all(type(one) in (int, float) for one in node.args):
        found = node.target(*node.args)
        return found if type(found) in (int, float) else None
    source = node.args[0] if node.args else None
    if node.target is not torch.ops.aten.item.default or not isinstance(source, FxNode) or source not in tensors:
        return None
    if any(is_in_place(user) and user.args[0] is source for user in source.users):
        return None
    found = tensors[source][1].item()
    return found if type(found) in (int, float) else None
