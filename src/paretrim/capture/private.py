"""A private copy of the user's module: in eval mode, in float32, on the CPU, without wrappers.

``copy.deepcopy`` fails on many attributes of modules: a feature kept from the last forward pass, a lock, an open file. None of
them is needed, so what cannot be copied is shared.
"""

from __future__ import annotations

import copy
import threading
from collections import ChainMap, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType, NoneType
from typing import cast

import torch
from torch import Tensor, nn

from paretrim.errors import UnsupportedOperation, reason_of

WRAPPERS: Mapping[str, str] = MappingProxyType(
    {
        "AveragedModel": "module",
        "DataParallel": "module",
        "DistributedDataParallel": "module",
        "OptimizedModule": "_orig_mod",
    }
)
"""Modules that only call the module inside, and the attribute that it is in."""

_OBSERVING = ("observer", "fake_quantize")
"""Modules of torch.ao with layers that watch or round activations."""

_FLOAT_FORMS = ("FloatFunctional", "FXFloatFunctional")
"""Modules of ``torch.ao.nn.quantized`` that compute in floats, where no observer has been put into them."""

_HELD_BY_MODULES = ("_parameters", "_buffers", "_modules")

_WITHOUT_PARTS = frozenset({bool, int, float, str, NoneType})
"""Types of most attributes of modules; ``copy.deepcopy`` returns such values as they are."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch: averaged, parallel or compiled ones."""
    while type(module).__name__ in WRAPPERS:
        inside = getattr(module, WRAPPERS[type(module).__name__], None)
        if not isinstance(inside, nn.Module):
            break
        module = inside
    return module


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode, in float32, on the CPU, that shares no parameter or buffer with the module.

    Raises:
        UnsupportedOperation: it is not a module, or its weights are not initialised.
    """
    if not isinstance(module, nn.Module):
        raise UnsupportedOperation(f"the model is {_kind(module)}")
    module = unwrapped(module)
    _require_numbers(module)
    with torch.no_grad():
        copied = _copied(module)
    try:
        with torch.no_grad():
            # A layer may override eval(), so call it instead of setting the flag; it need not return the layer.
            with suppress(NotImplementedError):  # what torch.export made has no other mode
                copied.eval()
            copied.cpu()
            copied.float()
    except Exception as error:  # the user's own code
        raise UnsupportedOperation(
            f"{type(module).__name__} could not be put into eval, in float32, on the CPU ({reason_of(error)}); let its eval(), "
            "train(), cpu() and float() do what those of nn.Module do"
        ) from error
    return copied


def _kind(given: object) -> str:
    """What was given in place of a module, and what to give."""
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"the class {given.__name__}; give an object of it, which {given.__name__}(...) makes"
    if isinstance(given, torch.export.ExportedProgram):
        return "of type ExportedProgram; it must be an nn.Module, which its .module() returns"
    if isinstance(given, Mapping):
        return (
            f"of type {type(given).__name__}; it must be an nn.Module: build the network, and load weights with load_state_dict"
        )
    return f"of type {type(given).__name__}; it must be an nn.Module"


def reading_copy(module: nn.Module) -> nn.Module:
    """A copy of a private copy that can run without affecting it: it shares the parameters and nothing else."""
    return _copied(module, tuple(module.parameters()))


def _require_numbers(module: nn.Module) -> None:
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        origin = type(part).__module__
        if type(part).__name__ in _FLOAT_FORMS:
            continue
        if origin.startswith("torch.ao.") and (".quantized" in origin or ".qat" in origin or origin.endswith(_OBSERVING)):
            raise UnsupportedOperation(
                f"'{path}' of the model is a {type(part).__name__} of torch.ao, which quantizes; capture the float model that it "
                "was made from"
            )
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            place = f"{path}.{name}".removeprefix(".")
            if nn.parameter.is_lazy(tensor):
                raise UnsupportedOperation(
                    f"'{place}' of the model has no shape yet, as in Lazy... layers before their first call; call the model on "
                    "one batch first, and load its weights"
                )
            if tensor is not None and (tensor.layout != torch.strided or tensor.is_quantized):
                kind = "quantized" if tensor.is_quantized else "sparse"
                raise UnsupportedOperation(
                    f"'{place}' of the model is a {kind} tensor; capture the model with plain tensors, such as those of "
                    f"{'.dequantize()' if tensor.is_quantized else '.to_dense()'}"
                )
            if tensor is not None and tensor.is_meta:
                raise UnsupportedOperation(
                    f"'{place}' of the model is on the device 'meta', where tensors have no values; call "
                    "model.to_empty(device='cpu') and load its weights"
                )


def _copied(module: nn.Module, shared: Collection[Tensor] = ()) -> nn.Module:
    """A copy with new modules and tensors, and deep copies of everything else that can be copied."""
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    parts = _of_python(module, memo)
    for part in parts:
        memo[id(part)] = object.__new__(part.__class__)  # a class may make others in its own __new__, as GraphModule does
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and id(tensor) not in memo:
                memo[id(tensor)] = _like(tensor)
    for part in parts:
        new = memo[id(part)]
        assert isinstance(new, nn.Module)
        new.__dict__.update({name: _attribute(name, value, memo) for name, value in part.__dict__.items()})
        for name in _slots(type(part)):
            with suppress(AttributeError):  # it was never set
                object.__setattr__(new, name, _attribute(name, object.__getattribute__(part, name), memo))
    copied = memo[id(module)]
    assert isinstance(copied, nn.Module)
    return copied


def _slots(kind: type) -> Iterator[str]:
    """Names of the attributes that a class keeps beside its dictionary."""
    for owner in kind.__mro__:
        named = owner.__dict__.get("__slots__", ())
        for name in (named,) if isinstance(named, str) else named:
            private = name.startswith("__") and not name.endswith("__")
            yield f"_{owner.__name__.lstrip('_')}{name}" if private else name


def _of_python(module: nn.Module, memo: dict[int, object]) -> list[nn.Module]:
    """The modules inside that are not TorchScript; TorchScript modules are copied as a whole."""
    if id(module) in memo:
        return []
    if isinstance(module, torch.jit.ScriptModule):
        memo[id(module)] = copy.deepcopy(module)
        return []
    memo[id(module)] = None
    return [module, *(part for child in module.children() for part in _of_python(child, memo))]


def _like(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    return nn.Parameter(copied, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def _attribute(name: str, value: object, memo: dict[int, object]) -> object:
    """A copy of an attribute, or the attribute itself if it cannot be copied."""
    if name in _HELD_BY_MODULES:
        assert isinstance(value, dict)
        return type(value)((key, memo.get(id(item), item)) for key, item in value.items())
    kind = type(value)
    if kind in _WITHOUT_PARTS or (kind is tuple and all(type(item) in _WITHOUT_PARTS for item in cast(tuple[object], value))):
        return value
    if kind in (dict, OrderedDict) and not value and not getattr(value, "__dict__", None):  # hooks: most modules have none
        return memo.setdefault(id(value), kind())
    _detach_all(value, memo)
    tried: ChainMap[int, object] = ChainMap({}, memo)  # so that a failed attempt does not change memo
    try:
        copied = copy.deepcopy(value, cast(dict[int, object], tried))
    except Exception:  # the copying code of a user's class may raise anything
        return value
    memo.update(tried.maps[0])
    return copied


def _detach_all(value: object, memo: dict[int, object], depth: int = 4) -> None:
    """Register copies of computed tensors, and locks, which deepcopy cannot copy, within plain containers in ``memo``."""
    if id(value) in memo:
        return
    if isinstance(value, Tensor):
        if not value.is_leaf:
            memo[id(value)] = value.detach().clone()
    elif isinstance(value, type(threading.Lock()) | type(threading.RLock())):
        memo[id(value)] = value
    elif depth and isinstance(value, dict | list | tuple | set | frozenset):
        for item in (*value, *(value.values() if isinstance(value, dict) else ())):
            _detach_all(item, memo, depth - 1)
