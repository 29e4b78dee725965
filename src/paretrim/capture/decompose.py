"""Operations without a converter, rewritten as operations with one, by torch's own decompositions.

This covers aliases such as ``torch.concat`` and ``x.narrow``, and many functions that torch defines by simpler ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch._C import DispatchKey
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule
from torch.fx import Node as FxNode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import Argument, map_arg

from paretrim.capture import own_forms
from paretrim.capture.call import FIXED, is_in_place, is_random, operation_of
from paretrim.capture.einsum import einsum

OWN: Mapping[OpOverload, Callable[..., object]] = MappingProxyType(
    {
        torch.ops.aten.einsum.default: einsum,
        torch.ops.aten.cosine_similarity.default: own_forms.cosine_similarity,
        torch.ops.aten.logsumexp.default: own_forms.logsumexp,
        torch.ops.aten.logaddexp.default: own_forms.logaddexp,
        torch.ops.aten.logaddexp2.default: own_forms.logaddexp2,
        torch.ops.aten.hypot.default: own_forms.hypot,
        torch.ops.aten.xlogy.Tensor: own_forms.xlogy,
        torch.ops.aten.xlogy.Scalar_Self: own_forms.xlogy,
        torch.ops.aten.xlogy.Scalar_Other: own_forms.xlogy_of_number,
        torch.ops.aten.special_xlog1py.default: own_forms.xlog1py,
        torch.ops.aten.cumsum.default: own_forms.cumsum,
        torch.ops.aten.logit.default: own_forms.logit,
        torch.ops.aten.bilinear.default: own_forms.bilinear,
        torch.ops.aten.conv_transpose1d.default: own_forms.conv_transpose1d,
        torch.ops.aten.im2col.default: own_forms.im2col,
        torch.ops.aten.col2im.default: own_forms.col2im,
    }
)
"""Operations that are written out in another way than torch does it."""

Result = FxNode | tuple[FxNode, ...]


def written_out(node: FxNode, known: Collection[str]) -> tuple[list[FxNode], Result] | None:
    """New nodes in front of ``node`` that compute the same with known operations, and the ones that are its result.

    Returns None and adds nothing if torch has no decomposition into known operations.
    """
    program = _decomposed(node)
    if program is None:
        return None
    made: list[FxNode] = []
    places: dict[FxNode, Result] = dict(zip(program.graph.find_nodes(op="placeholder"), node.all_input_nodes, strict=True))
    result: Result | None = None
    for part in program.graph.nodes:
        if part.op == "output":
            found = part.args[0]
            result = _all_of(found, places) if isinstance(found, list | tuple) else places[found]
        elif isinstance(part.target, type):  # some decompositions give their results as a tuple with named fields
            places[part] = _all_of(part.all_input_nodes, places)
        elif part.target is operator.getitem and isinstance(several := places[part.args[0]], tuple):
            places[part] = several[part.args[1]]
        elif part.op != "placeholder":
            new = _copied(part, node, places) if part.op == "call_function" else None
            inner = None if new is None else _known(new, known)
            if new is None or inner is None:
                _erase(made if new is None else [*made, new])
                return None
            made += inner[0]
            places[part] = inner[1]
    assert result is not None
    return made, result


def _all_of(parts: Iterable[FxNode], places: dict[FxNode, Result]) -> tuple[FxNode, ...]:
    found = tuple(places[part] for part in parts)
    assert all(isinstance(item, FxNode) for item in found), "what has several results is only taken apart"
    return cast(tuple[FxNode, ...], found)


def _decomposed(node: FxNode) -> GraphModule | None:
    """The operation's decomposition for tensors of these shapes."""
    target = out_of_place(node)
    if target is None:
        return None
    composite = target.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)
    own = OWN.get(target)
    function = own or (target if composite else decomposition_table.get(target))
    if function is None:
        return None
    sources = node.all_input_nodes

    def call(*tensors: Argument) -> object:
        given = dict(zip(sources, tensors, strict=True))
        args, keywords = map_arg((node.args, node.kwargs), given.__getitem__)
        return function(*args, **keywords)

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            program = make_fx(call, pre_dispatch=own is not None)(*(_example(source) for source in sources))
    except Exception:  # of dozens of types; whatever the reason, torch cannot decompose this operation
        return None
    program.graph.eliminate_dead_code()
    same = any(part.target is target for part in program.graph.nodes)
    return None if same else program


def out_of_place(node: FxNode) -> OpOverload | None:
    """The operation itself, or for an in-place operation its out-of-place form."""
    target = node.target
    if not isinstance(target, OpOverload) or not is_in_place(node):
        return target if isinstance(target, OpOverload) else None
    packet = getattr(torch.ops.aten, operation_of(node), None)
    return getattr(packet, target._overloadname, None)


def _example(source: FxNode) -> object:
    """A tensor, or a size, as in the export of the program."""
    value = source.meta["val"]
    if isinstance(value, torch.Tensor):
        return torch.empty([_size(extent) for extent in value.shape], dtype=value.dtype)
    return _size(value)


def _size(extent: object) -> int:
    return int(extent.node.hint) if isinstance(extent, torch.SymInt) else operator.index(extent)  # type: ignore[arg-type]


def _copied(part: FxNode, node: FxNode, places: dict[FxNode, Result]) -> FxNode:
    args, keywords = map_arg((part.args, part.kwargs), places.__getitem__)
    assert callable(part.target)
    with node.graph.inserting_before(node):
        new = node.graph.call_function(part.target, args, keywords)
    new.meta = {**node.meta, "val": part.meta.get("val")}
    return new


def _known(new: FxNode, known: Collection[str]) -> tuple[list[FxNode], Result] | None:
    """The node itself if its operation is known, else its decomposition, which replaces it."""
    of_size = not isinstance(new.meta["val"], torch.Tensor | list | tuple)
    fixed = not is_random(new) and all(source.meta.get(FIXED) for source in new.all_input_nodes)
    new.meta[FIXED] = fixed
    if new.target is operator.getitem or operation_of(new) in known or of_size or fixed:
        return [new], new
    inner = written_out(new, known)
    if inner is not None:
        new.graph.erase_node(new)
    return inner


def _erase(nodes: list[FxNode]) -> None:
    for node in reversed(nodes):
        node.graph.erase_node(node)
