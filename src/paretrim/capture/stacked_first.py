"""Values stacked along any axis and reduced again at once, as in ``torch.stack(branches).sum(0)`` and ``.mean(-1)``."""

from __future__ import annotations

import torch
from torch.fx import Graph as FxGraph
from torch.fx import Node as FxNode

from paretrim.capture.call import call_of, is_aten, operation_of

_REDUCTIONS = frozenset(("sum", "mean", "amax", "amin", "max", "min", "select"))
"""Operations that leave nothing of the axis that they take."""


def stack_behind_the_batch_(graph: FxGraph) -> None:
    """Let what is stacked along one axis and only read along it be stacked along axis 1 instead; the results are the same."""
    for node in graph.nodes:
        if not (is_aten(node) and operation_of(node) == "stack" and node.users):
            continue
        rank = node.meta["val"].ndim
        axis = _axis(node, rank)
        if axis is None or axis == 1 or not all(_takes(user, axis, rank) for user in node.users):
            continue
        _along_the_second_(node)
        for user in list(node.users):
            _along_the_second_(user)
        stacked = node.meta["val"]
        assert isinstance(stacked, torch.Tensor)
        node.meta = {**node.meta, "val": stacked.movedim(axis, 1)}


def _axis(node: FxNode, rank: int) -> int | None:
    """The one axis that an operation takes of a value of this rank; None if there is none, or more."""
    axis = call_of(node).arguments.get("dim")
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    return axis % rank if isinstance(axis, int) else None


def _takes(node: FxNode, axis: int, rank: int) -> bool:
    """Whether an operation reduces this axis and leaves nothing of it."""
    if not is_aten(node) or operation_of(node) not in _REDUCTIONS:
        return False
    return _axis(node, rank) == axis and not call_of(node).arguments.get("keepdim", False)


def _along_the_second_(node: FxNode) -> None:
    """Give an operation axis 1."""
    assert isinstance(node.target, torch._ops.OpOverload)
    place = [argument.name for argument in node.target._schema.arguments].index("dim")
    listed = isinstance(call_of(node).arguments["dim"], list | tuple)
    axis = [1] if listed else 1
    if place < len(node.args):
        node.update_arg(place, axis)
    else:
        node.update_kwarg("dim", axis)
