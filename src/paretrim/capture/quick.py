"""Makes the export of a large network faster, without changing its program.

Most of the time of an export is spent on single tensors. A BatchNorm has five, and torch decomposes each BatchNorm into a dozen
operations before it knows the shape of the result, which is that of the input. So plain BatchNorms are traced as one operation
without tensors and restored afterwards. If anything goes wrong, the export is repeated without this shortcut.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule
from torch.fx import Node as FxNode
from torch.fx._lazy_graph_module import _use_lazy_graph_module

_PARAMETERS, _BUFFERS = ("weight", "bias"), ("running_mean", "running_var", "num_batches_tracked")

_LIBRARY = torch.library.Library("paretrim", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("batch_norm(Tensor input, str layer) -> Tensor")  # type: ignore[no-untyped-call]
_LIBRARY.impl("batch_norm", lambda images, _: torch.empty_like(images), "Meta")  # type: ignore[no-untyped-call]

_STACK_TRACES = "do_not_emit_stack_traces"


class UnusualUse(Exception):
    """A BatchNorm is used in other ways than being called in eval mode; never shown to a user."""


class OpaqueNorm(nn.BatchNorm2d):
    """A BatchNorm in eval mode that is traced as one operation; its tensors cannot be accessed."""

    path: str
    held: Mapping[str, Tensor]

    def forward(self, input: Tensor) -> Tensor:
        """The operation in place of the norm."""
        if self.training or input.dtype != torch.float32 or input.dim() != 4 or input.shape[1] != len(self.held["running_mean"]):
            raise UnusualUse(f"'{self.path}' is called in training or with an input of another shape")
        found = torch.ops.paretrim.batch_norm(input, self.path)
        assert isinstance(found, Tensor)
        return found

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        if name in _PARAMETERS or name in _BUFFERS:
            raise UnusualUse(f"'{self.path}.{name}' is read outside of its layer")
        return super().__getattr__(name)


def make_norms_opaque(module: nn.Module) -> dict[str, OpaqueNorm]:
    """Replace every plain BatchNorm inside by one operation, in place; returns them by their paths."""
    norms = {path: part for path, part in module.named_modules() if path and _is_plain(part)}
    opaque: dict[str, OpaqueNorm] = {}
    for path, norm in norms.items():
        held = {**norm._parameters, **norm._buffers}
        norm.__dict__.update(_parameters={}, _buffers={}, path=path, held=held)
        norm.__class__ = OpaqueNorm
        assert isinstance(norm, OpaqueNorm)
        opaque[path] = norm
    return opaque


def _is_plain(part: nn.Module) -> bool:
    """Whether it is torch's own BatchNorm, in eval mode, with all its tensors and no overrides."""
    if type(part) is not nn.BatchNorm2d or part.training or "forward" in part.__dict__:
        return False
    whole = all(tensor is not None for tensor in (*part._parameters.values(), *part._buffers.values()))
    return whole and tuple(part._parameters) == _PARAMETERS and tuple(part._buffers) == _BUFFERS


def put_norms_back(program: GraphModule, norms: Mapping[str, OpaqueNorm]) -> dict[FxNode, tuple[str, Tensor]]:
    """Restore ``aten.batch_norm`` operations in a program; returns the name and tensor of every input added for that."""
    graph, added = program.graph, dict[FxNode, tuple[str, Tensor]]()
    inputs: dict[str, list[FxNode]] = {}
    for node in graph.find_nodes(op="call_function", target=torch.ops.paretrim.batch_norm.default):
        source, path = node.args
        norm = norms[path]
        if path not in inputs:
            names = (*_PARAMETERS, *_BUFFERS[:2])
            inputs[path] = [_input(graph, f"{path}.{name}", norm.held[name], added) for name in names]
        node.target = torch.ops.aten.batch_norm.default
        node.args = (source, *inputs[path], False, norm.momentum or 0.0, norm.eps, torch.backends.cudnn.enabled)
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
