"""One operation of an exported program with its arguments by name and kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch.fx import Node as FxNode

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations.attributes import Pair
from paretrim.graph.types import Attribute

_NO_NUMBERS = frozenset(
    {"memory_format", "layout", "device", "pin_memory", "non_blocking", "copy", "implicit", "cudnn_enabled", "cudnn_enable"}
)
"""Arguments about the memory of a result, which never affect its values."""

FIXED = "fixed"
"""Key of the facts of an operation that writing out another one made: whether its value is a constant."""


@dataclass(frozen=True, eq=False)
class Arguments(Mapping[str, object]):
    """Arguments of a call by name; records which names were read."""

    values_by_name: Mapping[str, object]
    read: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> object:
        value = self.values_by_name[name]
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.values_by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


@dataclass(frozen=True, eq=False)
class Call:
    """An ATen operation as it was called; omitted arguments have their defaults.

    A converter must account for every argument: read it, or declare that it has no effect. All others must have their default.
    """

    node: FxNode
    arguments: Arguments

    @property
    def layer(self) -> str:
        """Path of the user's module that the operation is in; empty for the network itself."""
        return layer_of(self.node)

    @property
    def operation(self) -> str:
        """Name without namespace, overload and the underscore of in-place forms: ``add`` of ``aten.add_.Tensor``."""
        return operation_of(self.node)

    @property
    def source(self) -> object:
        """The first argument."""
        return self.arguments[next(iter(self.arguments))]

    def refused(self, why: str) -> UnsupportedOperation:
        """The error that names this operation and its layer."""
        return UnsupportedOperation(f"layer '{self.layer or 'the network itself'}' ({self.node.target}): {why}")

    def no_effect(self, *names: str) -> None:
        """Account for arguments that affect no values of the result, or only its shape and element type."""
        self.arguments.read.update(names)

    def require(self, name: str, value: object, why: str) -> None:
        """Reject an argument with any value other than this one."""
        if self.argument(name) != value:
            raise self.refused(f"{name} = {self.arguments[name]}: {why}")

    def require_all_read(self) -> None:
        """Reject arguments that the converter has not accounted for and that do not have their default.

        Raises:
            UnsupportedOperation: there is one; the message names it, its value and the default.
        """
        assert isinstance(self.node.target, torch._ops.OpOverload)
        for argument in self.node.target._schema.arguments:
            if argument.name in self.arguments.read or argument.name in _NO_NUMBERS:
                continue
            value = self.arguments.values_by_name[argument.name]
            optional = argument.has_default_value() or str(argument.type).startswith("Optional")
            if not optional:
                raise self.refused(f"its form with {argument.name} = {value} is not supported; use another form of the operation")
            if value != argument.default_value:
                raise self.refused(
                    f"its argument {argument.name} = {value!r} is not supported, only the default, {argument.default_value!r}"
                )

    def shape(self) -> tuple[int, ...]:
        """Shape of the result without the batch; every other size must be fixed."""
        sizes = self._result().shape
        if not all(isinstance(size, int) for size in sizes[1:]):
            raise self.refused(
                f"its result [{', '.join(map(str, sizes))}] mixes the batch with another axis; keep the batch as a "
                "separate first axis"
            )
        return tuple(int(size) for size in sizes[1:])

    def argument(self, name: str) -> object:
        """The value of an argument; not every form of an operation has it."""
        if name not in self.arguments:
            raise self.refused(f"its form without '{name}' is not supported; pass it")
        return self.arguments[name]

    def integer(self, name: str) -> int:
        """An integer argument."""
        value = self.argument(name)
        if not isinstance(value, int):
            raise self.refused(f"its {name} is {value}, which is not a fixed integer")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """An argument of one or several integers."""
        value = self.argument(name)
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(item, int) for item in items):
            raise self.refused(f"its {name} is {value}; only fixed integers are supported")
        return tuple(item for item in items if isinstance(item, int))

    def pair(self, name: str) -> Pair:
        """A (vertical, horizontal) argument, given as one number or two."""
        items = self.integers(name)
        return items[0], items[-1]

    def number(self, name: str) -> float:
        """A number."""
        value = self.optional_number(name)
        if value is None:
            raise self.refused(f"it has no {name}; give it a number")
        return value

    def optional_number(self, name: str) -> float | None:
        """A number, or None if it was omitted."""
        value = self.argument(name)
        if value is None:
            return None
        if not isinstance(value, int | float):
            raise self.refused(f"its {name} is {value}; only a fixed number is supported")
        return self.finite(name, float(value))

    def fixed(self, name: str) -> dict[str, Attribute]:
        """The attribute of a layer whose weight writing out an operation made, so that it is neither trained nor pruned."""
        argument = self.argument(name)
        return {"fixed": 1} if isinstance(argument, FxNode) and argument.meta.get(FIXED) else {}

    def finite(self, name: str, value: float) -> float:
        """The value of an argument, which must not be NaN or infinite."""
        if not math.isfinite(value):
            raise self.refused(f"its {name} is {value}; a file contains finite numbers only")
        return value

    def result_dtype(self) -> torch.dtype:
        """Element type of the result."""
        return self._result().dtype

    def _result(self) -> torch.Tensor:
        """The result, or the first of several (a pooling may also return indices)."""
        result = self.node.meta["val"]
        first = result[0] if isinstance(result, list | tuple) else result
        assert isinstance(first, torch.Tensor)
        return first


def modules_of(node: FxNode) -> list[tuple[str, str]]:
    """Path and class of every module that an operation is in, the outermost first."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return [(str(path).removeprefix("L['self'].").removeprefix("L['self']"), str(kind)) for path, kind in stack]


def layer_of(node: FxNode) -> str:
    """Path of the module that an operation is in: :attr:`Call.layer`."""
    modules = modules_of(node)
    return modules[-1][0] if modules else ""


def operation_of(node: FxNode) -> str:
    """Name of an ATen operation: :attr:`Call.operation`."""
    name = str(node.target).removeprefix("aten.").split(".")[0]
    return name if name.startswith("__") else name.removesuffix("_")


def is_aten(node: FxNode) -> bool:
    """Whether a node is an ATen operation."""
    return node.op == "call_function" and str(node.target).startswith("aten.")


def is_in_place(node: FxNode) -> bool:
    """Whether an ATen operation overwrites its first argument."""
    name = str(node.target)
    return name.startswith("aten.") and name.split(".")[1].endswith("_") and not name.startswith("aten.__")


def is_random(node: FxNode) -> bool:
    """Whether an operation may draw random numbers."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def call_of(node: FxNode) -> Call:
    """Read the arguments of an ATen operation by the names of its schema."""
    assert isinstance(node.target, torch._ops.OpOverload)
    values: dict[str, object] = {}
    for index, argument in enumerate(node.target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        values[argument.name] = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name, default)
    return Call(node, Arguments(values))
