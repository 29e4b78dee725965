"""Writing to a part of a tensor, as in ``x[:, :2] = y``, in its out-of-place form: the whole tensor is computed anew."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch.fx import Graph as FxGraph
from torch.fx import Node as FxNode

from paretrim.capture.call import call_of, is_aten, is_in_place, is_random, operation_of
from paretrim.capture.constants import FILLING
from paretrim.capture.decompose import out_of_place
from paretrim.capture.filled import EMPTY

_PARTS = frozenset(("slice", "select", "narrow"))
"""Operations that show a part of their input."""

_SPLITS = frozenset(("split", "split_with_sizes", "chunk", "unbind"))
"""Operations that show their input in several parts."""

_SAME = frozenset(("alias", "detach"))

_VIEWS = _PARTS | _SAME | _SPLITS | {"view", "unsqueeze", "squeeze", "permute", "transpose", "expand", "view_as"}
"""Operations whose result is always in the memory of their input."""

_MAYBE_VIEWS = frozenset(("reshape", "flatten", "contiguous", "to", "_to_copy", "dropout", "expand_as", "reshape_as"))
"""Operations whose result may be in the memory of their input."""

_ZEROS: Mapping[str, torch._ops.OpOverload] = {
    "empty": torch.ops.aten.zeros.default,
    "empty_like": torch.ops.aten.zeros_like.default,
    "new_empty": torch.ops.aten.new_zeros.default,
}

Slices = list[tuple[int, int, int, int]]
"""A part of a tensor: axis, start, stop and step of one slice after the other."""

_WHOLE_AXIS = 2**31
"""A slice that ends here or later ends with its axis."""


def write_into_parts_(graph: FxGraph, fixed: Collection[FxNode]) -> None:
    """Replace operations that overwrite a part of a tensor by ones that compute the whole, for all later readers.

    ``fixed`` are the placeholders of parameters and buffers. What cannot be replaced stays, and is refused later.
    """
    for node in list(graph.nodes):
        if not (is_aten(node) and is_in_place(node)) or is_random(node) or (form := _form(node)) is None:
            continue
        found = _part_of(node.args[0])
        if found is None:
            continue
        whole, box, dropped = found
        same = list(_same_as(whole))
        root = _root(same[-1])
        stale = _stale(root, same, node)
        if root in fixed or stale is None:
            continue
        _drop_repetition_(node)
        new = _inserted(graph, node, form, (whole, box, dropped))
        _replace_(graph, node, new, same, stale)
        if is_aten(root) and operation_of(root) in EMPTY:
            root.target = _ZEROS[operation_of(root)]


def _form(node: FxNode) -> torch._ops.OpOverload | None:
    """The out-of-place form of an operation that overwrites its first argument."""
    if operation_of(node) in ("fill", "zero"):
        return torch.ops.aten.copy.default
    return out_of_place(node)


def _part_of(target: object) -> tuple[FxNode, Slices, list[int]] | None:
    """The tensor that a value is a part of, where in it, and which of its axes the value lacks; None where it is all of it."""
    chain: list[FxNode] = []
    while isinstance(target, FxNode) and (source := _source_of_part(target)) is not None:
        chain.append(target)
        target = source
    if not isinstance(target, FxNode) or not chain:
        return None
    axes = list(range(target.meta["val"].dim()))
    box: Slices = []
    dropped: list[int] = []
    for part in reversed(chain):
        source = _source_of_part(part)
        assert source is not None
        taken = _taken(part, source)
        if taken is None:
            return None
        dim, places, extent = taken
        axis = axes[dim]
        if part.meta["val"].dim() < source.meta["val"].dim():
            axes.remove(axis)
            dropped.append(axis)
        if places != range(extent):
            box.append((axis, places.start, places.stop, places.step))
    return (target, box, sorted(dropped)) if box else None


def _source_of_part(node: FxNode) -> FxNode | None:
    """The value that a node shows a part of."""
    if node.target is operator.getitem:
        several = node.args[0]
        assert isinstance(several, FxNode)
        node = several if is_aten(several) and operation_of(several) in _SPLITS else node
    elif not is_aten(node) or operation_of(node) not in _PARTS:
        return None
    source = node.args[0] if is_aten(node) else None
    return source if isinstance(source, FxNode) else None


def _taken(part: FxNode, source: FxNode) -> tuple[int, range, int] | None:
    """The axis along which a part is taken, its places there and the number of them; None where they are not fixed.

    A slice of the whole batch is all of one image.
    """
    several = part.args[0] if part.target is operator.getitem else part
    assert isinstance(several, FxNode)
    call = call_of(several)
    dim = call.integer("dim")
    extent = source.meta["val"].shape[dim]
    if operation_of(several) == "slice" and not isinstance(extent, int):
        start, end = call.arguments["start"], call.arguments["end"]
        return (dim, range(1), 1) if start in (None, 0) and (not isinstance(end, int) or end >= _WHOLE_AXIS) else None
    if not isinstance(extent, int):
        return None
    if part is not several:
        index = part.args[1]
        assert isinstance(index, int)
        sizes = [1 if each.dim() < source.meta["val"].dim() else int(each.shape[dim]) for each in several.meta["val"]]
        return dim, range(sum(sizes[:index]), sum(sizes[: index + 1])), extent
    fixed = [call.arguments.get(name) for name in ("start", "end", "index", "length")]
    if not all(bound is None or isinstance(bound, int) for bound in fixed):
        return None
    if operation_of(several) == "select":
        place = call.integer("index") % extent
        return dim, range(place, place + 1), extent
    if operation_of(several) == "narrow":
        start = call.integer("start") % extent
        return dim, range(start, start + call.integer("length")), extent
    start, end = fixed[:2]
    return dim, range(*slice(start, end, call.integer("step")).indices(extent)), extent


def _same_as(node: FxNode) -> Iterator[FxNode]:
    """A value and all that are the same tensor under another name, from the last to the first."""
    yield node
    while is_aten(node) and (is_in_place(node) or operation_of(node) in _SAME):
        source = node.args[0]
        if not isinstance(source, FxNode):
            return
        yield source
        node = source


def _root(node: FxNode) -> FxNode:
    """The first value in whose memory a value may be."""
    while is_aten(node) and (is_in_place(node) or operation_of(node) in _VIEWS | _MAYBE_VIEWS):
        source = node.args[0]
        if not isinstance(source, FxNode):
            break
        node = source
    return node


def _stale(root: FxNode, same: Sequence[FxNode], node: FxNode) -> list[FxNode] | None:
    """Views of a tensor made before a node overwrites a part of it and read behind it, with those that they are views of.

    None if they are not certainly views, or views of something that the tensor itself is a view of.
    """
    met: dict[FxNode, bool] = {root: root in same}  # whether it is the tensor or certainly a view of it
    order = [root]
    for value in root.graph.nodes:
        if value is node:
            break
        source = value.args[0] if value.args else None
        if not isinstance(source, FxNode) or source not in met or value.op != "call_function":
            continue
        known = (is_aten(value) and operation_of(value) in _VIEWS) or value.target is operator.getitem
        if known or is_in_place(value) or (is_aten(value) and operation_of(value) in _MAYBE_VIEWS):
            met[value] = value in same or (met[source] and known)
            order.append(value)
    read: set[FxNode] = set()
    for value in reversed(order):
        if any((node < user and _reads(user, value)) or (user in read and user not in same) for user in value.users):
            if value not in same and not met[value]:
                return None
            read.add(value)
    return [value for value in order if value in read and value not in same]


def _reads(user: FxNode, value: FxNode) -> bool:
    """Whether a node reads the numbers of a value, not only its shape."""
    name = str(user.target)
    return not (
        name.startswith("aten.sym_size")
        or (is_aten(user) and operation_of(user) in FILLING)
        or (is_aten(user) and operation_of(user) in ("view_as", "reshape_as", "expand_as") and user.args[0] is not value)
    )


def _drop_repetition_(node: FxNode) -> None:
    """Erase the copy of a result to where it already is: ``x[:, :2] += y`` adds in place and then assigns the part to itself."""
    for user in list(node.users):
        if not (is_aten(user) and operation_of(user) == "copy" and is_in_place(user) and user.args[1] is node):
            continue
        if _part_of(user.args[0]) == _part_of(node.args[0]):
            user.replace_all_uses_with(node)
            node.graph.erase_node(user)


def _inserted(graph: FxGraph, node: FxNode, form: torch._ops.OpOverload, part: tuple[FxNode, Slices, list[int]]) -> FxNode:
    """The whole tensor after the write, computed in front of it."""
    whole, box, dropped = part
    target = node.args[0]
    assert isinstance(target, FxNode)

    def made(function: torch._ops.OpOverload, args: tuple[object, ...], value: object) -> FxNode:
        new = graph.call_function(function, args)  # type: ignore[arg-type]
        new.meta = {**node.meta, "val": value}
        return new

    with graph.inserting_before(node):
        if operation_of(node) == "zero" or (operation_of(node) == "fill" and not isinstance(node.args[1], FxNode)):
            number = node.args[1] if operation_of(node) == "fill" else 0.0
            new = made(torch.ops.aten.full_like.default, (target, number), target.meta["val"])
        else:
            new = graph.call_function(form, (target, *node.args[1:]), node.kwargs)
            new.meta = {**node.meta, "val": target.meta["val"]}
        for axis in dropped:
            new = made(torch.ops.aten.unsqueeze.default, (new, axis), new.meta["val"].unsqueeze(axis))
        parts = [whole]
        for axis, *bounds in box[:-1]:
            shown = parts[-1].meta["val"]
            shown = shown[(slice(None),) * axis + (slice(*bounds),)]
            parts.append(made(torch.ops.aten.slice.Tensor, (parts[-1], axis, *bounds), shown))
        for (axis, *bounds), around in zip(reversed(box), reversed(parts), strict=True):
            new = made(torch.ops.aten.slice_scatter.default, (around, new, axis, *bounds), around.meta["val"])
    return new


def _replace_(graph: FxGraph, node: FxNode, new: FxNode, same: Sequence[FxNode], stale: Sequence[FxNode]) -> None:
    """Let everything behind a node read the new tensor, itself and through views, and erase the node."""
    target = node.args[0]
    assert isinstance(target, FxNode)
    instead = dict.fromkeys(same, new)
    shown = list(stale)
    if node.users and target not in shown:
        shown += [*reversed(list(_chain(target, same)))]
    with graph.inserting_before(node):
        for value in dict.fromkeys(shown):
            if value not in instead:
                instead[value] = graph.node_copy(value, instead.__getitem__)
    if node.users:
        node.replace_all_uses_with(instead[target])
    for old, value in instead.items():
        for user in list(old.users):
            if node < user:
                user.replace_input_with(old, value)
    graph.erase_node(node)


def _chain(target: FxNode, same: Sequence[FxNode]) -> Iterator[FxNode]:
    while target not in same:
        yield target
        source = target.args[0]
        assert isinstance(source, FxNode)
        target = source
