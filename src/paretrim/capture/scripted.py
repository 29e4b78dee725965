"""Opens TorchScript layers: runs the code that TorchScript stores for them as Python."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretrim.capture.script_code import run
from paretrim.errors import UnsupportedOperation

_OF_NUMBERS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "neg", "floordiv")}
    | {
        "div": operator.truediv,
        "remainder": operator.mod,
        "len": len,
        "append": lambda items, item: items.append(item),
        "__is__": operator.is_,
        "__isnot__": operator.is_not,
        "__not__": operator.not_,
        "__and__": operator.and_,
        "__or__": operator.or_,
        "__contains__": operator.contains,
        "__getitem__": operator.getitem,
        "list": list,
    }
)
"""Functions that TorchScript writes as functions of torch even without tensors."""


INSTEAD_OF_SCRIPTS = (
    "build the network with the module that the TorchScript was made from, and load the weights into it with load_state_dict"
)


class ScriptModule(nn.Module):
    """A scripted layer as a Python module, with the same parameters, buffers and submodules."""

    def __init__(self, scripted: torch.jit.ScriptModule) -> None:
        super().__init__()
        for name, parameter in scripted.named_parameters(recurse=False):
            self.register_parameter(name, nn.Parameter(parameter.detach(), requires_grad=False))
        for name, buffer in scripted.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, child in scripted.named_children():
            assert isinstance(child, torch.jit.ScriptModule)
            self.add_module(name, ScriptModule(child))
        self.scripted = scripted._c
        self.training = self.scripted.hasattr("training") and bool(self.scripted.getattr("training"))  # frozen ones have none

    def forward(self, *args: object) -> object:
        """Run the code of ``forward``."""
        return _method(self, "forward")(*args)


def open_scripts(module: nn.Module) -> nn.Module:
    """The module with every scripted layer opened; submodules are replaced in place."""
    if isinstance(module, torch.jit.ScriptModule):
        return ScriptModule(module)
    for name, child in module.named_children():
        if isinstance(child, torch.jit.ScriptModule):
            module._modules[name] = ScriptModule(child)
        else:
            open_scripts(child)
    return module


def _method(owner: ScriptModule, name: str) -> Callable[..., object]:
    """A method of a scripted layer as a Python function."""
    code, constants = owner.scripted._get_method(name).code_with_constants
    names: dict[str, object] = {
        "torch": _Functions(),
        "ops": SimpleNamespace(prim=SimpleNamespace(RaiseException=_refuse_to_go_on), aten=_Functions()),
        "__torch__": _Path(()),
        "CONSTANTS": SimpleNamespace(**constants),
    }
    return lambda *given: run(code, (_Self(owner), *given), names)


class _Self:
    """The ``self`` of a scripted layer's code."""

    def __init__(self, owner: ScriptModule) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> object:
        owner = self._owner
        if name in owner._modules:
            child = owner._modules[name]
            assert isinstance(child, ScriptModule)
            return _Self(child)
        if name == "forward":
            return owner.__call__
        if owner.scripted._has_method(name):
            return _method(owner, name)
        if name in owner._parameters or name in owner._buffers or name == "training":
            return getattr(owner, name)
        return owner.scripted.getattr(name)


class _Functions:
    """The functions of torch by their names in TorchScript."""

    def __getattr__(self, name: str) -> _Function:
        return _Function(name)


class _Function:
    """One of them: Python's for numbers, ATen's for tensors."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: object, **keywords: object) -> object:
        name = self._name
        tensors = any(isinstance(item, Tensor) for given in args for item in (given if isinstance(given, list) else (given,)))
        if name in _OF_NUMBERS and (name == "len" or not tensors):
            return _OF_NUMBERS[name](*args)
        if name == "size":
            shape = list(args[0].shape)  # type: ignore[attr-defined]
            return shape if len(args) == 1 else shape[operator.index(args[1])]  # type: ignore[arg-type]
        if name == "_convolution" and not args[6]:  # called by traced layers
            images, weight, bias, stride, padding, dilation, _, _, groups = args[:9]
            return torch.ops.aten.conv2d(images, weight, bias, stride, padding, dilation, groups)
        return getattr(torch.ops.aten, name)(*args, **keywords)


class _Path:
    """A Python function that a script calls, by its path."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> _Path:
        return _Path((*self._names, name))

    def __call__(self, *args: object, **keywords: object) -> object:
        if self._names[:3] != ("torch", "nn", "functional"):
            path = ".".join(self._names)
            raise UnsupportedOperation(
                f"a scripted layer calls the function '{path}', whose code it does not contain; {INSTEAD_OF_SCRIPTS}"
            )
        return getattr(F, self._names[-1])(*args, **keywords)


def _refuse_to_go_on(message: str, *_: object) -> None:
    raise UnsupportedOperation(f"a scripted layer raises an error for these images: {message}")
