"""In-place operations on a newly made tensor, as in ``torch.zeros_like(x).add_(y)``, in their out-of-place form."""

from __future__ import annotations

import torch
from torch.fx import Graph as FxGraph
from torch.fx import Node as FxNode

from paretrim.capture.call import call_of, is_aten, is_in_place, is_random, operation_of
from paretrim.capture.constants import FILLING
from paretrim.capture.decompose import out_of_place
from paretrim.capture.remedies import RANDOM

EMPTY = frozenset(("empty", "empty_like", "new_empty"))
"""Operations that make a tensor of any numbers, which something must write over."""


def write_into_new_ones_(graph: FxGraph) -> None:
    """Replace operations that overwrite a new tensor not read before by their out-of-place form, for all later readers.

    Raises:
        UnsupportedOperation: random numbers are written into it.
    """
    for node in list(graph.nodes):
        made = node.args[0] if node.args else None
        if not (is_aten(node) and is_in_place(node) and isinstance(made, FxNode) and is_aten(made)):
            continue
        if any(user < node for user in made.users):
            continue
        new = None
        if operation_of(made) in EMPTY:
            new = _instead_of_empty(graph, node, made)
        elif operation_of(made) in FILLING and (form := out_of_place(node)) is not None:
            with graph.inserting_before(node):
                new = graph.call_function(form, node.args, node.kwargs)
        if new is None:
            continue
        new.meta = dict(node.meta)
        for user in [*made.users, *node.users]:
            if user is not new:
                user.replace_input_with(node, new)
                user.replace_input_with(made, new)
        graph.erase_node(node)


def _instead_of_empty(graph: FxGraph, node: FxNode, made: FxNode) -> FxNode | None:
    """What makes the tensor that a node writes over the whole of one of any numbers; None if it makes none."""
    if is_random(node):
        raise call_of(node).refused(RANDOM)
    call = call_of(node)
    numbers = {"zero": 0.0, "fill": call.arguments.get("value")}
    with graph.inserting_before(node):
        if operation_of(node) == "copy":
            return graph.call_function(torch.ops.aten.copy.default, (node.args[1], node.args[1]))
        number = numbers.get(operation_of(node))
        if not isinstance(number, int | float):
            return None
        if operation_of(made) == "empty":
            return graph.call_function(torch.ops.aten.full.default, (made.args[0], number))
        return graph.call_function(torch.ops.aten.full_like.default, (made.args[0], number))
