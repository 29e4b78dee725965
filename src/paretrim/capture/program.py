"""The program of a module: its ATen operations as one flat list."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import nn
from torch._export.utils import _compiling_state_context
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule
from torch.fx import Node as FxNode
from torch.utils._pytree import TreeSpec, tree_flatten_with_path, tree_unflatten

from paretrim.capture.called_from import CallSite, call_site_in, first_fixed_batch
from paretrim.capture.private import reading_copy
from paretrim.capture.quick import make_norms_opaque, only_what_is_needed, put_norms_back
from paretrim.capture.remedies import INSTEAD, remedy
from paretrim.capture.scripted import INSTEAD_OF_SCRIPTS, ScriptModule, open_scripts
from paretrim.errors import UnsupportedOperation, reason_of
from paretrim.graph.names import free_name, printable
from paretrim.graph.types import INPUT
from paretrim.visible import visible

_LINE = re.compile(r'File "([^"]+)", line (\d+)')
"""A place in the user's code, as torch.export names it."""

_ONE_NUMBER = "Constraints violated"
"""Text in errors of torch.export about the number of images."""

_GUARDS = ("data-dependent", _ONE_NUMBER, "unbacked")
"""Texts in errors of torch.export if control flow or a size depends on the images or the batch size."""

_NO_FORM = re.compile(r"^aten\.(\w+?)(?:_cachemask)?\.\w+$")
"""An error of torch.export that is nothing but the name of an operation without a form for sizes alone."""

_DATA = "fake tensor in the exported program constant"
"""Text in errors of torch.export if the ``.data`` of an activation is read."""

_NUMPY = ".numpy() is not supported for tensor subclasses"
"""Text in errors of torch.export if an activation is turned into a NumPy array."""

_MORE = " For more information"
"""Beginning of torch's advice to its own developers in the first line of an error."""

_TYPES = ("should be the same", "have the same dtype", "expected scalar type", "same data type")
"""Texts in errors of torch if float32 meets another type."""

_CONTROL_FLOW = ("cond", "while_loop", "map", "map_impl", "scan", "associative_scan", "flex_attention")


@dataclass(frozen=True, eq=False)
class Program:
    """The operations of a module.

    Attributes:
        module: its graph has the operations. tensors: name and value of every input of the graph that is a parameter, buffer or
        constant; the other input is the images.
        signature: the kinds of the graph's outputs.
        results: name of everything that the module returns, from the keys of dictionaries and the positions in tuples.
    """

    module: GraphModule
    tensors: Mapping[FxNode, tuple[str, torch.Tensor]]
    signature: ExportGraphSignature
    results: tuple[str, ...]


_UNKNOWN_RESULT = "which is not a known type"


def program_of(module: nn.Module, shape: tuple[int, ...]) -> Program:
    """Export a private copy with a free batch size. Blocks such as ``torch.no_grad()`` are inlined.

    The copy itself is not run.

    Raises:
        UnsupportedOperation: torch cannot export it, or it contains control flow.
    """
    _require_one_input(module)
    private = open_scripts(reading_copy(module))
    norms = make_norms_opaque(private)
    with silence(), refusing_to_end(module), only_what_is_needed():
        try:
            exported = _export(private, shape)
        except Exception:  # exporting again without shortcuts gives the error message
            exported = None
    if exported is None:
        exported, norms = _exported(open_scripts(reading_copy(module)), shape), {}
    _inline(exported.graph_module)
    state, signature = {**exported.state_dict, **exported.constants}, exported.graph_signature
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    inputs = exported.graph.find_nodes(op="placeholder")
    tensors = {node: (sources[node.name], state[sources[node.name]]) for node in inputs if node.name in sources}
    if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for _, tensor in tensors.values()):
        raise UnsupportedOperation(
            f"{type(module).__name__} calls a function of torch.func, such as grad, while it runs, which is not supported; write "
            "out what it computes"
        )
    tensors |= put_norms_back(exported.graph_module, norms)
    return Program(exported.graph_module, MappingProxyType(tensors), signature, _result_names(exported.call_spec.out_spec))


def _require_one_input(module: nn.Module) -> None:
    """Refuse a module that cannot be called with images alone."""
    try:
        taken = inspect.signature(module.forward)
    except ValueError:  # TorchScript tells nothing
        return
    try:
        taken.bind(None)
    except TypeError as error:
        raise UnsupportedOperation(
            f"forward{taken} of {type(module).__name__} takes no images alone ({error}); a network takes one batch of images, so "
            "wrap it in a module whose forward(images) passes the rest"
        ) from error


def _result_names(spec: TreeSpec | None) -> tuple[str, ...]:
    if spec is None:
        return ()
    leaves, _ = tree_flatten_with_path(tree_unflatten(range(spec.num_leaves), spec))
    names: list[str] = []
    for path, _ in leaves:
        first, *others = [str(getattr(key, "idx", getattr(key, "key", getattr(key, "name", key)))) for key in path] or [""]
        name = ".".join((f"output_{first}" if first.isdecimal() else first, *others))
        names.append(free_name(printable(name) or "output", {INPUT, *names}))
    return tuple(names)


def _export(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    batch = {0: torch.export.Dim("batch", min=1)}
    sizes = ((batch,),) if _is_variadic(module) else (batch,)
    with torch.no_grad():  # as it will run: the network may check whether gradients are enabled
        return torch.export.export(module, (torch.zeros(2, *shape),), dynamic_shapes=sizes)


def _exported(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    with silence(), refusing_to_end(module), first_fixed_batch(module) as fixed:
        try:
            return _export(module, shape)
        except UnsupportedOperation:
            raise
        except MemoryError as error:
            raise UnsupportedOperation(
                f"memory ran out while {type(module).__name__} was captured; free some, or raise the limit of this process"
            ) from error
        except Exception as error:  # torch.export raises dozens of types; the first line has the reason
            text = str(error)
            first = visible(next(iter(text.strip().splitlines()), type(error).__name__)).partition(_MORE)[0].rstrip("!. ")
            lines = _LINE.findall(text)
            place = f" (file '{lines[-1][0]}', line {lines[-1][1]})" if lines else ""
            if site := call_site_in(error.__traceback__, module):
                place = f" (at {site.with_layer()})"
            call = fixed[0] if fixed and _ONE_NUMBER in text else None
            first, hint = _advice(module, shape, first, text, call)
            place = "" if call else place
            raise UnsupportedOperation(
                f"{type(module).__name__} could not be captured with one input of shape [N, {', '.join(map(str, shape))}] and a "
                f"free batch size: {first}{place}{hint}"
            ) from error


def _advice(module: nn.Module, shape: tuple[int, ...], first: str, text: str, fixing: CallSite | None) -> tuple[str, str]:
    """What an error of torch.export says in its first line, perhaps in other words, and what to do about it.

    ``fixing`` is the call that allows only some numbers of images, if that is the error.
    """
    hint = ""
    if not _runs(module, torch.zeros(2, *shape)):
        casts = any(sign in text for sign in _TYPES)
        usual = "an input that is no single tensor, other image sizes and fixed batch sizes are the usual causes"
        instead = "leave out casts such as .double(), .half() and .to(dtype), and call .float() on the module"
        hint = f". It also fails when run on 2 such images, with its weights and images in float32: {instead if casts else usual}"
    elif _DATA in text:
        first, hint = "it reads the .data of an activation", "; use .detach(), which shares memory in the same way"
    elif _NUMPY in text:
        first, hint = "it turns an activation into a NumPy array", "; use the functions of torch, and return tensors"
    elif fixing is not None:
        first = f"{fixing.with_layer()}, works for some numbers of images only"
        general = "loops over the images, len(x) of a tensor (write x.shape[0]) and fixed batch sizes are the usual causes"
        hint = f"; {remedy(fixing.function) if fixing.function in INSTEAD else general}"
    elif any(sign in text for sign in _GUARDS):
        hint = (
            ". Data-dependent control flow, also by the value of a buffer, numbers read from one (float(), int(), .tolist()), "
            "len(x) of a tensor (write x.shape[0]), loops over the images and fixed batch sizes are the usual causes"
        )
    if (alone := _NO_FORM.match(first)) is not None:
        first, hint = f"'{alone[1]}' cannot be captured", f"; {remedy(alone[1])}"
    if _UNKNOWN_RESULT in text:
        first, hint = (
            first.split(_UNKNOWN_RESULT)[0] + _UNKNOWN_RESULT,
            "; return tensors, in a tuple, a list or a dictionary",
        )
    hooked = [name for name, part in module.named_modules() if part._forward_hooks or part._forward_pre_hooks]
    if hooked and not isinstance(module, GraphModule):  # those of torch.export are torch's own
        hint += f". It has hooks, on '{hooked[0]}': remove those that only record or print values"
    if any(isinstance(part, ScriptModule) for part in module.modules()):
        hint += f". If a TorchScript layer is the cause, {INSTEAD_OF_SCRIPTS}"
    return first, hint


def _runs(module: nn.Module, images: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            module(images)
    except Exception:  # the user's own code
        return False
    return True


def _is_variadic(module: nn.Module) -> bool:
    """Whether ``forward`` takes its image as part of ``*args``."""
    first = next(iter(inspect.signature(module.forward).parameters.values()), None)
    return first is not None and first.kind is inspect.Parameter.VAR_POSITIONAL


@contextlib.contextmanager
def captured_flags() -> Iterator[None]:
    """Make ``torch.compiler.is_compiling()`` and ``is_exporting()`` return what they return during capture."""
    with _compiling_state_context():
        yield


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Silence torch's warnings, logs and printed programs: the error has the relevant part."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def refusing_to_end(module: nn.Module) -> Iterator[None]:
    """Turn ``sys.exit`` and the like in a module's code into an error; Ctrl-C passes through."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as end:
        raise UnsupportedOperation(
            f"the code of {type(module).__name__} ended the program while it was captured ({reason_of(end)}); remove sys.exit "
            "from its forward"
        ) from end


def _inline(owner: GraphModule) -> None:
    """Replace blocks with nested graphs by the operations of these graphs."""
    for node in list(owner.graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, torch._ops.HigherOrderOperator):
            continue
        name = str(node.target)
        if name in _CONTROL_FLOW:
            raise UnsupportedOperation(
                f"the network branches or loops at run time with torch's '{name}', but a file is one fixed list of operations; "
                "write the branch that is taken in eval mode without it"
            )
        nested = [item for item in node.args if isinstance(item, FxNode) and item.op == "get_attr"]
        if name == "wrap_with_autocast" and node.args[0] == "cpu" and node.args[2]:
            raise UnsupportedOperation(
                f"the network computes in {node.args[1]} inside torch.autocast, but is captured in float32; use autocast "
                "around the call of the network, not inside it"
            )
        if len(nested) != 1 or not isinstance(inner := owner.get_submodule(str(nested[0].target)), GraphModule):
            raise UnsupportedOperation(f"the network uses torch's '{name}', which is not supported; write its operations out")
        _inline(inner)
        given = node.args[node.args.index(nested[0]) + 1 :]
        _replace(owner.graph, node, inner, given)
    owner.graph.lint()


def _replace(graph: FxGraph, node: FxNode, inner: GraphModule, given: tuple[object, ...]) -> None:
    """Copy a nested graph in front of its block, and redirect the users of the block's results to the copies."""
    inputs = [item for item in inner.graph.nodes if item.op == "placeholder"]
    copies: dict[FxNode, FxNode] = {}
    for placeholder, value in zip(inputs, given, strict=True):
        assert isinstance(value, FxNode)
        copies[placeholder] = value
    with graph.inserting_before(node):
        results = graph.graph_copy(inner.graph, copies)
    for user in list(node.users):
        index = user.args[1]
        assert user.target is operator.getitem
        assert isinstance(index, int)
        assert isinstance(results, tuple | list)
        user.replace_all_uses_with(results[index])
        graph.erase_node(user)
    graph.erase_node(node)
