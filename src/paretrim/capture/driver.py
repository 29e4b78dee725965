"""Walks an exported program and converts it to a float graph.

A network is captured once, before anything else happens to it; every stage then works on the captured form. So an unsupported
operation is rejected by name before any training time is spent, and what is trained is what is frozen.
To support another ATen operation, add a function and a row to one of the tables of converters. The function reads every argument
of the operation, or declares that it has no effect. Arguments that it does not read must have their default, or the network is
rejected.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import nn
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule
from torch.fx import Node as FxNode

from paretrim.capture.activations import FUNCTIONS
from paretrim.capture.arrange import COPIES, VIEWS
from paretrim.capture.call import Call, call_of, is_aten, is_in_place, is_random, layer_of, operation_of
from paretrim.capture.called_from import call_site_of
from paretrim.capture.checks import check_classes, check_weights, without_dead
from paretrim.capture.choices import CHOICES, COMPARISONS
from paretrim.capture.constants import changes_constant, is_constant
from paretrim.capture.decompose import written_out
from paretrim.capture.elementwise import ELEMENTWISE
from paretrim.capture.families import by_family, refuse_other_families
from paretrim.capture.filled import write_into_new_ones_
from paretrim.capture.layers import LAYERS, SAME
from paretrim.capture.norms import NORMS
from paretrim.capture.numbers_read import put_numbers_in_
from paretrim.capture.pooling import POOLING
from paretrim.capture.private import private_copy
from paretrim.capture.program import program_of, silence
from paretrim.capture.quick import without_collections
from paretrim.capture.remedies import INSTEAD, RANDOM, remedy
from paretrim.capture.returned import outputs_of, results_of
from paretrim.capture.scattered import WRITING
from paretrim.capture.softmax import SOFTMAX
from paretrim.capture.stacked import PARTS, STACKED
from paretrim.capture.stacked_first import stack_behind_the_batch_
from paretrim.capture.transposed import TRANSPOSED
from paretrim.capture.work import Constant, Value, View, Work
from paretrim.capture.written_parts import write_into_parts_
from paretrim.errors import ParetrimError, UnsupportedOperation, reason_of
from paretrim.graph.outputs import LOGITS
from paretrim.graph.taps import without_weights_on_padding
from paretrim.graph.types import INPUT, Graph, InputSpec
from paretrim.remark import remark
from paretrim.torch_settings import alone, usual_settings

CONVERTERS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        **COMPARISONS,
        **CHOICES,
        **LAYERS,
        **TRANSPOSED,
        **NORMS,
        **ELEMENTWISE,
        **FUNCTIONS,
        **POOLING,
        **STACKED,
        **SOFTMAX,
        **COPIES,
        **WRITING,
        **VIEWS,
        **PARTS,
    }
)
"""The converter of every supported operation."""

SHARING = frozenset({*VIEWS, *PARTS, *SAME})
"""Operations whose result may share the memory of their input."""

_WITHOUT_VALUE = ("aten.sym_size", "aten._assert", "aten.sym_constrain")
"""Operations on sizes: the graph's batch size is free, and its other sizes are fixed."""


@usual_settings()
@without_collections()
def capture(module: nn.Module, shape: tuple[int, ...], *, classes: Sequence[str] = ()) -> Graph:
    """Convert an ``nn.Module`` to a float graph. The module itself is not changed.

    Args:
        module: takes float32 [N, C, H, W] (normalised images), returns logits [N, K]; or several tensors [N, ...] in a tuple,
            list or dictionary, which become the outputs in their order, named by the keys of the dictionary or ``output_0``,
            ``output_1`` and so on.
        shape: [C, H, W] of one image; the captured network takes normalised images.
        classes: names of the K classes, stored in the deployed file of a network with one output.

    Raises:
        UnsupportedOperation: the module cannot be exported, or uses an operation that the graph does not have; the message names
            the layer.
    """
    return look_at(module, shape, classes=classes).graph


@dataclass(frozen=True, eq=False)
class CaptureResult:
    """A captured network, with the module and program that it was captured from.

    Attributes:
        graph: the network.
        module: a private copy of the module that has not run yet.
        program: the operations of the module as a flat list.
        inputs: the parameters and buffers that the program takes, in order; None stands for the images.
        values: the value in the graph for every operation of the program.
        left_out: operations at the end of the module, in order, that the graph omits because they do not change the class.
    """

    graph: Graph
    module: nn.Module
    program: GraphModule
    inputs: tuple[torch.Tensor | None, ...]
    values: Mapping[FxNode, View]
    left_out: tuple[str, ...]


def look_at(module: nn.Module, shape: tuple[int, ...], *, classes: Sequence[str] = ()) -> CaptureResult:
    """Like :func:`capture`, but also returns what is needed to compare the graph with the module."""
    private = private_copy(module)
    with alone():
        program = program_of(private, shape)
    graph = program.module.graph
    put_numbers_in_(graph, program.tensors)
    write_into_parts_(graph, program.tensors)
    write_into_new_ones_(graph)
    stack_behind_the_batch_(graph)
    work = Work({node: Constant(*named) for node, named in program.tensors.items()})
    work.shapes[INPUT] = shape
    values: dict[FxNode, View] = {}
    names, results = results_of(graph.find_nodes(op="output")[0], program)
    work.returned = len(results)
    outputs: tuple[str, ...] = ()
    refuse_other_families(needed := _needed(graph, set(work.constants)))
    _require_no_new_data(graph)
    for node in graph.nodes:
        if node.op == "placeholder" and node not in program.tensors:
            work.known[node] = View(INPUT, shape)
        elif node.op == "call_function" and not is_constant(work, node) and not changes_constant(work, node) and node in needed:
            try:
                _converted(work, node)
            except UnsupportedOperation as error:
                raise by_family(work, needed, _called(error, node, private, shape), node) from error
            if isinstance(value := work.known.get(node), View) and node not in work.left_out:
                values[node] = value
        elif node.op == "output":
            outputs = outputs_of(work, node, results_of(node, program)[1])  # again: those that were written out are other nodes
    several = len(outputs) > 1
    if classes and not several:
        check_classes(work.shapes[outputs[0]], len(classes))
    left_out = tuple(operation_of(node) for node in work.left_out)
    for difference in _differences(work, program.results, names, left_out):
        remark(difference)
    whole = Graph(InputSpec(shape), tuple(work.nodes), outputs, () if several else tuple(classes), names if several else ())
    captured = without_dead(whole)
    check_weights(captured)
    captured = without_weights_on_padding(captured)
    inputs = tuple(program.tensors[node][1] if node in program.tensors else None for node in graph.find_nodes(op="placeholder"))
    return CaptureResult(captured, private, program.module, inputs, values, left_out)


def _called(error: UnsupportedOperation, node: FxNode, module: nn.Module, shape: tuple[int, ...]) -> UnsupportedOperation:
    """The error of an operation with the user's own line."""
    with silence():
        site = call_site_of(node, module, shape)
    return error if site is None else UnsupportedOperation(f"{error}; it is called as {site.in_words()}")


def _differences(work: Work, all_names: Sequence[str], names: Sequence[str], left_out: Sequence[str]) -> Iterator[str]:
    """Warnings about how the captured network differs from the module."""
    if left_out:
        yield (
            f"the network ends in {' and '.join(left_out)}, which is left out: the trained and deployed network returns the "
            "logits before it, and predicts the same classes"
        )
    if work.repeated:
        yield (
            f"the weight {_quoted(work.repeated)} is used more than once: every use becomes a layer with its own copy of the "
            "weight; the copies start equal, are trained and pruned separately, and each takes space in the file"
        )
    if missing := [name for name in all_names if name not in names]:
        returned = _quoted(names) if len(names) > 1 else f"one value, '{LOGITS}'"
        yield f"the network returns None as {_quoted(missing)}, which is left out: the file returns {returned}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _require_no_new_data(graph: FxGraph) -> None:
    """Reject ``x.data = y``, which an exported program records but does not execute."""
    for node in graph.nodes:
        if is_aten(node) and operation_of(node) == "_has_compatible_shallow_copy_type":
            raise call_of(node).refused(
                f"it assigns to the .data of '{node.args[0]}', which is lost when the network is captured; assign the result to "
                "a new name"
            )


def _needed(graph: FxGraph, buffers: Collection[FxNode]) -> dict[FxNode, None]:
    """The nodes that the output depends on, and all that overwrite a tensor other than a buffer, in order."""
    needed: set[FxNode] = set()
    for node in reversed(graph.nodes):
        overwrites = is_in_place(node)
        if overwrites and _memory_of(node) in buffers:
            continue
        if node.op == "output" or node in needed or overwrites:
            needed.update((node, *node.all_input_nodes))
    return {node: None for node in graph.nodes if node in needed}


def _memory_of(node: FxNode) -> FxNode:
    """The value whose memory an operation overwrites or shares, as far as that is known."""
    while is_in_place(node) or (node.op == "call_function" and operation_of(node) in SHARING):
        source = node.args[0]
        if not isinstance(source, FxNode):
            break
        node = source
    return node


def _converted(work: Work, node: FxNode) -> None:
    """Write a node down; where that fails by a fault of ours, say so and name the layer."""
    try:
        _convert(work, node)
    except (ParetrimError, MemoryError):
        raise
    except Exception as error:
        raise UnsupportedOperation(
            f"layer '{layer_of(node) or 'the network itself'}' ({node.target}) could not be captured ({reason_of(error)}); write "
            "it another way, and please report this"
        ) from error


def _convert(work: Work, node: FxNode) -> None:
    if node.target is operator.getitem:
        _take_element(work, node)
        return
    name = str(node.target)
    if name.startswith(_WITHOUT_VALUE):
        return
    if not name.startswith("aten."):
        if isinstance(node.meta.get("val"), torch.Tensor):
            name = name if name.isprintable() and "<" not in name else getattr(node.target, "__name__", name)
            if name.endswith("_batch_dim"):
                raise UnsupportedOperation(
                    "the network calls torch.vmap, which is not supported; write out what it computes, for all images at once"
                )
            raise UnsupportedOperation(f"'{name}' of the network is not an ATen operation; write it with operations of torch")
        return
    call = call_of(node)
    for source in node.all_input_nodes:
        if (constant := work.constant(source)) is not None and constant.memory in work.changed:
            raise call.refused(
                f"it reads '{constant.name}', which the network itself changes at every call; a file has no state between calls, "
                "so do not change it in eval mode"
            )
    if any(isinstance(one, torch.Tensor) and one.is_complex() for one in _values(node)):
        raise call.refused("it computes with complex numbers, which a file does not have; write it with real numbers")
    converter = CONVERTERS.get(call.operation)
    if converter is None:
        _write_out(work, call)
        return
    if (found := call.result_dtype()) != torch.float32 and not (found == torch.bool and _is_mask(call)):
        counts = any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in _values(node)[1:])
        instead = (
            "make the mask a number first, with .float()"
            if counts
            else "capture a float32 network: leave the cast out, and call .float() on it"
        )
        raise call.refused(f"activations are cast to {found}; {instead}")
    before = _before(work, call)
    value = converter(work, call)
    call.require_all_read()
    work.known[node] = value
    if is_in_place(node):
        work.overwrite(call, value, before)
    same = is_in_place(node) or call.operation in SAME
    if same or call.operation in SHARING:
        work.share_memory(node, call.source, same=same)


def _values(node: FxNode) -> list[object]:
    """The result of an operation and what it is computed from, as the program knows them."""
    return [node.meta.get("val"), *(source.meta.get("val") for source in node.all_input_nodes)]


def _is_mask(call: Call) -> bool:
    """Whether a result is true or false by a comparison, or shows one that is; a cast to bool is neither."""
    source = next(iter(call.node.all_input_nodes), None)
    shows = call.operation in VIEWS or call.operation in PARTS or call.operation in ("cat", "clone", "slice_scatter", "copy")
    return call.operation in COMPARISONS or (shows and source is not None and source.meta["val"].dtype == torch.bool)


def _before(work: Work, call: Call) -> Value | None:
    """The value of the first argument so far."""
    return work.known.get(call.source) if isinstance(call.source, FxNode) else None


def _write_out(work: Work, call: Call) -> None:
    """Replace an unknown operation by torch's decomposition of it."""
    node = call.node
    if not is_random(node) and not any(isinstance(source.meta.get("val"), torch.Tensor) for source in node.all_input_nodes):
        return  # computed from sizes; a reader that needs an activation rejects it
    found = None if call.operation in INSTEAD else written_out(node, CONVERTERS)
    if found is None and is_random(node) and call.operation not in INSTEAD:
        raise call.refused(RANDOM)
    if found is None:
        raise call.refused(remedy(call.operation))
    made, result = found
    before = _before(work, call)
    if isinstance(result, FxNode):
        node.replace_all_uses_with(result)
    for user in list(node.users):
        index = user.args[1]
        assert isinstance(result, tuple), "of one result all uses are replaced"
        assert isinstance(index, int)
        user.replace_all_uses_with(result[index])
        node.graph.erase_node(user)
    for part in made:
        if not is_constant(work, part):
            _convert(work, part)
    if is_in_place(node):
        assert isinstance(result, FxNode), "an operation that overwrites one tensor has one result"
        work.overwrite(call, work.known[result], before)
        work.share_memory(result, call.source, same=True)


def _take_element(work: Work, node: FxNode) -> None:
    source, index = node.args
    parts = work.known.get(source) if isinstance(source, FxNode) else None
    assert isinstance(parts, tuple), "an unknown operation that returns several values is refused"
    assert isinstance(index, int)
    if index >= len(parts):  # indices of a pooling, which come after its values
        return
    work.known[node] = parts[index]
    work.share_memory(node, source)
