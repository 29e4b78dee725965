"""Makes the export of a large network faster, without changing its program.

Most of the time of an export is spent on single tensors. A BatchNorm has five, and torch decomposes each BatchNorm into a dozen
operations before it knows the shape of the result, which is that of the input. So in a BatchNorm, also one that computes more
(timm's have an activation), stand-ins take the place of the tensors, and its ``F.batch_norm`` is traced as one operation. It is
restored afterwards. If anything goes wrong, the export is repeated without this shortcut.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule
from torch.fx import Node as FxNode
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.nn import functional as F

_PARAMETERS, _BUFFERS = ("weight", "bias"), ("running_mean", "running_var", "num_batches_tracked")

_ROLES = ("running_mean", "running_var", "weight", "bias")
"""The tensors that ``F.batch_norm`` takes, in this order, after its input."""

_LIBRARY = torch.library.Library("paretrim", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("batch_norm(Tensor input, str layer, float momentum, float eps) -> Tensor")  # type: ignore[no-untyped-call]
_LIBRARY.impl("batch_norm", lambda images, *_: torch.empty_like(images), "Meta")  # type: ignore[no-untyped-call]

_STACK_TRACES = "do_not_emit_stack_traces"

_NORM = inspect.signature(F.batch_norm)


class UnusualUse(Exception):
    """A tensor of a BatchNorm is used in another way than by ``F.batch_norm`` in eval mode; never shown to a user."""


@dataclass(frozen=True)
class NormTensor:
    """Stands for a tensor of a BatchNorm: ``F.batch_norm`` is one operation with it, and nothing else takes it."""

    path: str
    role: str
    channels: int

    @classmethod
    def __torch_function__(
        cls, function: object, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> Tensor:
        """The operation in place of ``F.batch_norm``."""
        if function is not F.batch_norm:
            raise UnusualUse(f"{function} is given a tensor of a BatchNorm")
        given = _NORM.bind(*args, **(kwargs or {}))
        given.apply_defaults()
        images, held = given.arguments["input"], [given.arguments[role] for role in _ROLES]
        first = next(one for one in held if isinstance(one, NormTensor))
        if held != [NormTensor(first.path, role, first.channels) for role in _ROLES] or given.arguments["training"]:
            raise UnusualUse(f"F.batch_norm is given other tensors than those of '{first.path}', or trains")
        if images.dtype != torch.float32 or images.dim() != 4 or images.shape[1] != first.channels:
            raise UnusualUse(f"'{first.path}' is given an input of another type or shape")
        found = torch.ops.paretrim.batch_norm(images, first.path, given.arguments["momentum"], given.arguments["eps"])
        assert isinstance(found, Tensor)
        return found

    def __getattr__(self, name: str) -> object:
        raise UnusualUse(f"'{self.path}.{self.role}.{name}' is read")

    def __bool__(self) -> bool:
        raise UnusualUse(f"'{self.path}.{self.role}' is taken as true or false")


def make_norms_opaque(module: nn.Module) -> dict[str, Mapping[str, Tensor]]:
    """Put stand-ins for the tensors of every BatchNorm inside, in place; returns the tensors by the norms' paths."""
    norms = {path: part for path, part in module.named_modules() if path and _has_its_tensors(part)}
    held: dict[str, Mapping[str, Tensor]] = {}
    for path, norm in norms.items():
        tensors: dict[str, Tensor] = {**norm._parameters, **norm._buffers}
        channels = len(tensors[_ROLES[0]])
        norm.__dict__.update(_parameters={}, _buffers={}, **{role: NormTensor(path, role, channels) for role in tensors})
        held[path] = tensors
    return held


def _has_its_tensors(part: nn.Module) -> bool:
    """Whether it is a BatchNorm, also one that computes more, in eval mode with all its tensors and no others."""
    if not isinstance(part, nn.BatchNorm2d) or part.training:
        return False
    whole = all(tensor is not None for tensor in (*part._parameters.values(), *part._buffers.values()))
    return whole and tuple(part._parameters) == _PARAMETERS and tuple(part._buffers) == _BUFFERS


def put_norms_back(program: GraphModule, norms: Mapping[str, Mapping[str, Tensor]]) -> dict[FxNode, tuple[str, Tensor]]:
    """Restore ``aten.batch_norm`` operations in a program; returns the name and tensor of every input added for that."""
    graph, added = program.graph, dict[FxNode, tuple[str, Tensor]]()
    inputs: dict[str, list[FxNode]] = {}
    for node in graph.find_nodes(op="call_function", target=torch.ops.paretrim.batch_norm.default):
        source, path, momentum, eps = node.args
        if path not in inputs:
            names = (*_PARAMETERS, *_BUFFERS[:2])
            inputs[path] = [_input(graph, f"{path}.{name}", norms[path][name], added) for name in names]
        node.target = torch.ops.aten.batch_norm.default
        node.args = (source, *inputs[path], False, momentum, eps, torch.backends.cudnn.enabled)
    return added


def _input(graph: fx.Graph, name: str, tensor: Tensor, added: dict[FxNode, tuple[str, Tensor]]) -> FxNode:
    with graph.inserting_before(next(iter(graph.nodes))):
        node = graph.placeholder(name.replace(".", "_"))
    node.meta["val"] = tensor
    added[node] = name, tensor
    return node


@contextmanager
def without_collections() -> Iterator[None]:
    """Within the context garbage collection is off: a program has millions of objects, and every collection looks at them all."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def only_what_is_needed() -> Iterator[None]:
    """Within the context, torch records no stack traces and compiles no programs."""
    before = vars(fx.config).get(_STACK_TRACES, False)
    setattr(fx.config, _STACK_TRACES, True)
    try:
        with _use_lazy_graph_module(True):
            yield
    finally:
        setattr(fx.config, _STACK_TRACES, before)
