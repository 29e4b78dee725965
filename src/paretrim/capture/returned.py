"""What a network returns: outputs of the graph, with their names."""

from __future__ import annotations

import torch
from torch.export.graph_signature import OutputKind
from torch.fx import Node as FxNode

from paretrim.capture.call import Arguments, Call
from paretrim.capture.program import Program
from paretrim.capture.work import View, Work
from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import INPUT


def results_of(node: FxNode, program: Program) -> tuple[tuple[str, ...], tuple[object, ...]]:
    """Names and values of the module's outputs, flattened from tuples, lists and dictionaries, without None."""
    returned = node.args[0]
    assert isinstance(returned, tuple)
    kinds = [result.kind for result in program.signature.output_specs]
    found = [item for item, kind in zip(returned, kinds, strict=True) if kind is OutputKind.USER_OUTPUT]
    kept = [(name, item) for name, item in zip(program.results, found, strict=True) if item is not None]
    return tuple(name for name, _ in kept), tuple(item for _, item in kept)


def outputs_of(work: Work, node: FxNode, results: tuple[object, ...]) -> tuple[str, ...]:
    """Names of the values of the graph that the network returns, in order.

    Raises:
        UnsupportedOperation: one is no tensor, is of another type, or has a shape that no value of the graph has.
    """
    call = Call(node, Arguments({}))
    if not results:
        raise UnsupportedOperation("the network returns nothing; it must return logits [N, classes], or tensors [N, ...]")
    outputs: list[str] = []
    for place, item in enumerate(results):
        if not isinstance(item, FxNode):
            raise UnsupportedOperation(
                f"output {place} of the network is {item!r}; outputs are tensors [N, ...], so leave it out"
            )
        if (dtype := item.meta["val"].dtype) != torch.float32:
            raise UnsupportedOperation(f"output {place} of the network is of type {dtype}; return the float32 values behind it")
        _require_shape(work, item, place)
        name = work.read(call, item)
        if name == INPUT or name in outputs:
            what = "the images themselves" if name == INPUT else f"the same as output {outputs.index(name)}"
            raise UnsupportedOperation(f"output {place} of the network is {what}; leave it out")
        outputs.append(name)
    return tuple(outputs)


def _require_shape(work: Work, item: FxNode, place: int) -> None:
    view = work.known.get(item)
    if isinstance(view, View) and (view.turned or view.last or len(view.shape) not in (1, 3)):
        shape, order = ", ".join(("N", *map(str, view.shape))), " with permuted axes" if view.turned or view.last else ""
        if not view.shape:
            raise UnsupportedOperation(
                f"output {place} of the network is [N], one number for each image without an axis; return [N, 1], so leave out "
                "squeeze(1), flatten(0), view(-1) or the index at its end, and give a sum or mean at its end keepdim=True"
            )
        raise UnsupportedOperation(
            f"output {place} of the network is [{shape}]{order}; return vectors [N, K] or maps [N, C, H, W], and reshape or "
            "permute the output of the deployed file"
        )
