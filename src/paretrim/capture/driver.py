"""Walks an exported program and writes it down as a float graph.

A network is captured once, before anything else happens to it; every stage then works on the captured form. So an operation
outside the graph is refused by name before a minute has been spent training, and what is trained is what is frozen.
To support a further ATen operation add a function and a row to one of the tables of converters. The function reads every argument
of the operation, or says that it has no effect: one that it leaves unread must be at its default, or the network is refused.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node as FxNode

from paretrim.capture.arrange import COPIES, VIEWS
from paretrim.capture.call import Arguments, Call, call_of, is_in_place
from paretrim.capture.constants import is_constant
from paretrim.capture.elementwise import ELEMENTWISE
from paretrim.capture.layers import LAYERS, SAME
from paretrim.capture.pooling import POOLING
from paretrim.capture.stacked import PARTS, STACKED
from paretrim.capture.work import Constant, Value, View, Work
from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import INPUT, Graph, InputSpec

CONVERTERS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {**LAYERS, **ELEMENTWISE, **POOLING, **STACKED, **COPIES, **VIEWS, **PARTS}
)
"""How every known operation is written down."""

_LINE = re.compile(r'File "([^"]+)", line (\d+)')
"""A place in the user's code, as torch.export names it."""

_NORM = "statistics of the image itself cannot be folded into a layer, use BatchNorm"
_ATTENTION = "attention and other products of matrices of activations have no place in it, take a network of convolutions"

_INSTEAD: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm", "var", "var_mean", "std"), _NORM)
    | dict.fromkeys(("matmul", "bmm", "mm", "einsum", "scaled_dot_product_attention"), _ATTENTION)
    | {
        "adaptive_max_pool2d": "use a max pooling with the window written out",
        "upsample_bilinear2d": "use mode='nearest'",
        "upsample_bicubic2d": "use mode='nearest'",
        "conv_transpose2d": "use an upsampling with mode='nearest' and a convolution",
        "prelu": "use a leaky ReLU, whose slope is fixed",
    }
)
"""What to do about operations that are met in practice."""

_WITHOUT_VALUE = ("aten.sym_size", "aten._assert", "aten.sym_constrain")
"""Operations on sizes: the graph's batch is free, and its other sizes are fixed."""


def capture(module: nn.Module, shape: tuple[int, ...], *, classes: Sequence[str] = ()) -> Graph:
    """Write an ``nn.Module`` down as a float graph. The module itself is not touched.

    Args:
        module: takes float32 [N, C, H, W] (normalised images), returns logits [N, K].
        shape: [C, H, W] of one image; the captured network takes it normalised.
        classes: names of the K classes, kept in the deployed file.

    Raises:
        UnsupportedOperation: the module cannot be exported, or uses an operation the graph does not have; the message names the
            layer.
    """
    exported = _export(module, shape)
    state = {**exported.state_dict, **exported.constants}
    signature = exported.graph_signature
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
    work = Work({node: Constant(sources[node.name], state[sources[node.name]]) for node in placeholders if node.name in sources})
    work.shapes[INPUT] = shape
    output = ""
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name not in sources:
            work.known[node] = View(INPUT, shape)
        elif node.op == "call_function":
            _convert(work, node)
        elif node.op == "output":
            output = _output(work, node, signature.user_outputs)
    _check_logits(work.shapes[output], len(classes))
    return _without_dead(Graph(InputSpec(shape), tuple(work.nodes), output, tuple(classes)))


def _export(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    private = copy.deepcopy(module).cpu().float().eval()
    sample = torch.zeros(2, *shape)
    with _silence():
        try:
            return torch.export.export(private, (sample,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        except MemoryError as error:
            raise UnsupportedOperation(
                f"memory ran out while {type(module).__name__} was captured; free some, or raise the limit of this process"
            ) from error
        except Exception as error:  # torch.export raises dozens of kinds; the first line says what it met
            first = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(". ")
            lines = _LINE.findall(str(error))
            place = f" (file '{lines[-1][0]}', line {lines[-1][1]})" if lines else ""
            raise UnsupportedOperation(
                f"{type(module).__name__} could not be captured with one input of shape [N, {', '.join(map(str, shape))}] and a "
                f"free batch size: {first}{place}. Data-dependent control flow and fixed batch sizes are the usual causes"
            ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep torch's warnings, log and print-outs of whole programs away: what matters of them stands in the error."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _convert(work: Work, node: FxNode) -> None:
    if is_constant(work, node):
        return
    if node.target is operator.getitem:
        _take_element(work, node)
        return
    name = str(node.target)
    if name.startswith(_WITHOUT_VALUE):
        return
    if not name.startswith("aten."):
        if isinstance(node.meta.get("val"), torch.Tensor):
            raise UnsupportedOperation(f"'{name}' of the network is not an ATen operation; only those are known")
        return
    call = call_of(node)
    converter = CONVERTERS.get(call.operation)
    if converter is None:
        instead = _INSTEAD.get(call.operation, "write the layer with these")
        raise call.refused(f"the operation is outside the graph; known are {', '.join(sorted(CONVERTERS))}; {instead}")
    if strange := call.result_dtypes() - {torch.float32}:
        raise call.refused(f"activations are cast to {strange.pop()}; capture a float32 network")
    value = converter(work, call)
    call.require_all_read()
    work.known[node] = value
    if is_in_place(node):
        work.overwrite(call, value)
    same = is_in_place(node) or call.operation in SAME
    if same or call.operation in VIEWS or call.operation in PARTS:
        work.share_memory(node, call.source, same=same)


def _take_element(work: Work, node: FxNode) -> None:
    source, index = node.args
    parts = work.known.get(source) if isinstance(source, FxNode) else None
    assert isinstance(parts, tuple), "what gives a tuple and is no split is refused where it stands"
    assert isinstance(index, int)
    work.known[node] = parts[index]
    work.share_memory(node, source)


def _output(work: Work, node: FxNode, wanted: Sequence[object]) -> str:
    returned = node.args[0]
    results = (
        [item for item in returned if isinstance(item, FxNode) and item.name in wanted] if isinstance(returned, tuple) else []
    )
    if len(results) != 1 or len(wanted) != 1:
        raise UnsupportedOperation(f"the network returns {len(wanted)} values; it must return the logits [N, classes] alone")
    return work.read(Call(node, Arguments({})), results[0])


def _check_logits(shape: tuple[int, ...], classes: int) -> None:
    if len(shape) != 1:
        raise UnsupportedOperation(
            f"the network returns a tensor [N, {', '.join(map(str, shape))}]; it must return logits [N, classes]"
        )
    if classes and shape[0] != classes:
        raise UnsupportedOperation(
            f"the network returns {shape[0]} logits and the data has {classes} classes; build the network with {classes} outputs"
        )


def _without_dead(graph: Graph) -> Graph:
    alive = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.name in alive))
