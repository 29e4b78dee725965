"""Values computed only from parameters, for example weights that are normalised each time they are used.

The result is a constant like any other, so such a network is captured with the weights that it convolves with. From then on these
weights are trained, pruned and quantized, in place of the parameters that they were computed from.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch.fx import Node as FxNode
from torch.fx.node import map_arg

from paretrim.capture.call import call_of, is_in_place, is_random, operation_of
from paretrim.capture.work import Constant, Work

FILLING: Mapping[str, int | None] = MappingProxyType(
    {
        **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), 0),
        **dict.fromkeys(("ones", "ones_like", "new_ones"), 1),
        **dict.fromkeys(("full", "full_like", "new_full"), None),
    }
)
"""Operations that fill a new tensor with one number; None stands for their argument."""


def is_constant(work: Work, node: FxNode) -> bool:
    """Whether the value of a node does not depend on the image; it is then added to the constants.

    An operation whose inputs are all constants, or that creates a tensor only from its arguments, is computed here.
    """
    if node in work.constants:
        return True
    if (filled := _filled(node)) is not None:
        work.constants[node] = Constant(node.name, filled)
        return True
    if (copied := _copied(work, node)) is not None:
        work.constants[node] = copied
        return True
    sources = node.all_input_nodes
    if not all(source in work.constants for source in sources) or not _is_repeatable(node) or changes_constant(work, node):
        return False
    assert callable(node.target)
    with torch.no_grad():
        args, keywords = map_arg((node.args, node.kwargs), lambda source: work.constants[source].tensor)
        result = node.target(*args, **keywords)  # in program order, so that changes in place take effect
    name = work.constants[sources[0]].name if sources else node.name
    parts = [user for user in node.users if user.target is operator.getitem]
    made = {node: result} if isinstance(result, torch.Tensor) else {part: result[part.args[1]] for part in parts}
    for value, tensor in made.items():
        work.constants[value] = constant = Constant(name, tensor)
        if any(work.constants[source].memory in work.changed for source in sources):
            work.changed.add(constant.memory)
    return node in made or len(parts) == len(node.users)


def _filled(node: FxNode) -> torch.Tensor | None:
    """The result of an operation such as ``torch.zeros_like`` for one image, [1, ...]: it depends only on the input's shape."""
    made = node.meta.get("val")
    if node.op != "call_function" or operation_of(node) not in FILLING or not isinstance(made, torch.Tensor):
        return None
    number = FILLING[operation_of(node)]
    value = call_of(node).arguments["fill_value"] if number is None else number
    batched = made.ndim > 1 and not isinstance(made.shape[0], int)
    if made.dtype != torch.float32 or not isinstance(value, int | float):
        return None
    if not batched:  # such as x.new_zeros(1); what takes no tensor is computed as any other
        fixed = node.all_input_nodes and all(isinstance(side, int) for side in made.shape)
        return torch.full(tuple(made.shape), float(value)) if fixed else None
    sides = [side for side in made.shape[1:] if isinstance(side, int)]
    return torch.full((1, *sides), float(value)) if len(sides) == made.ndim - 1 else None


def _copied(work: Work, node: FxNode) -> Constant | None:
    """A constant copied to the place of an activation, or repeated for every image, for one image."""
    place = {"copy": 1, "expand": 0, "expand_as": 0}.get(operation_of(node)) if node.op == "call_function" else None
    given = node.args[place] if place is not None and not is_in_place(node) else None
    source = work.constants.get(given) if isinstance(given, FxNode) else None
    shape = node.meta["val"].shape if source is not None else ()
    if source is None or not shape or isinstance(shape[0], int) or not all(isinstance(side, int) for side in shape[1:]):
        return None
    return Constant(source.name, source.tensor.expand(1, *shape[1:]))


def changes_constant(work: Work, node: FxNode) -> bool:
    """Whether a node overwrites a parameter or buffer, such as a counter, or writes activations into another constant.

    The overwritten memory is recorded: nothing may read it from then on, because it differs from call to call.
    """
    target = node.args[0] if node.args else None
    if not isinstance(target, FxNode) or target not in work.constants or not is_in_place(node) or _renames(node):
        return False
    memory = work.constants[target].memory
    kept = any(source.op == "placeholder" and constant.memory == memory for source, constant in work.constants.items())
    if not kept and all(source in work.constants for source in node.all_input_nodes):
        return False
    if not kept:
        raise call_of(node).refused(
            f"it writes activations into '{work.constants[target].name}', which does not depend on the image until then; compute "
            "them separately, and join parts with torch.cat"
        )
    work.changed.add(memory)
    work.constants[node] = work.constants[target]
    return True


def _is_repeatable(node: FxNode) -> bool:
    """Whether an operation can be computed in advance: it takes or creates a tensor, and draws no random numbers.

    The inner functions of ``torch.func`` and ``torch.vmap`` work only within a call of these.
    """
    tensor = isinstance(node.meta.get("val"), torch.Tensor)
    known = isinstance(node.target, torch._ops.OpOverload) or getattr(node.target, "__module__", "") in ("_operator", "math")
    return known and (tensor or bool(node.all_input_nodes)) and not is_random(node)


def _renames(node: FxNode) -> bool:
    return str(node.target).startswith("aten.detach")
