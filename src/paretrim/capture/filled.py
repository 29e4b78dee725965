"""Sums and products into a tensor that was just filled, as in ``torch.zeros_like(x).add_(y)``: they might make a new one."""

from __future__ import annotations

from torch.fx import Graph as FxGraph
from torch.fx import Node as FxNode

from paretrim.capture.call import is_aten, is_in_place, operation_of
from paretrim.capture.constants import FILLING
from paretrim.capture.decompose import out_of_place


def write_into_new_ones_(graph: FxGraph) -> None:
    """Let what overwrites a filled tensor that nobody has looked at yet make a new tensor, which later readers read instead."""
    for node in list(graph.nodes):
        filled = node.args[0] if node.args else None
        if not (is_aten(node) and is_in_place(node) and isinstance(filled, FxNode) and is_aten(filled)):
            continue
        form = out_of_place(node)
        seen = any(user < node for user in filled.users)
        if form is None or seen or operation_of(filled) not in FILLING:
            continue
        with graph.inserting_before(node):
            new = graph.call_function(form, node.args, node.kwargs)
        new.meta = dict(node.meta)
        for user in [*filled.users, *node.users]:
            if user is not new:
                user.replace_input_with(node, new)
                user.replace_input_with(filled, new)
        graph.erase_node(node)
