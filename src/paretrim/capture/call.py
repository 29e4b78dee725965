"""One operation of an exported program with its arguments by name and kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch.fx import Node as FxNode

from paretrim.errors import UnsupportedOperation

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Call:
    """An ATen operation as it was called; arguments that were left out have their defaults."""

    node: FxNode
    arguments: Mapping[str, object]

    @property
    def layer(self) -> str:
        """Path of the user's module that the operation stands in; empty for the network itself."""
        stack = self.node.meta.get("nn_module_stack") or {}
        path = str(list(stack.values())[-1][0]) if stack else ""
        return path.removeprefix("L['self'].").removeprefix("L['self']")

    @property
    def operation(self) -> str:
        """Name without namespace, overload and the underscore of in-place forms: ``add`` of ``aten.add_.Tensor``."""
        return str(self.node.target).removeprefix("aten.").split(".")[0].removesuffix("_")

    @property
    def source(self) -> object:
        """The first argument."""
        return next(iter(self.arguments.values()))

    def refused(self, why: str) -> UnsupportedOperation:
        """The error that names this operation and its layer."""
        return UnsupportedOperation(f"layer '{self.layer or 'the network itself'}' ({self.node.target}): {why}")

    def shape(self) -> tuple[int, ...]:
        """Shape of the result without the batch; everything but the batch must be a plain number."""
        sizes = self.node.meta["val"].shape
        if not all(isinstance(size, int) for size in sizes[1:]):
            raise self.refused(
                f"its result [{', '.join(map(str, sizes))}] mixes the batch with another axis; keep the batch first and alone"
            )
        return tuple(int(size) for size in sizes[1:])

    def integer(self, name: str) -> int:
        """An integer argument."""
        value = self.arguments[name]
        if not isinstance(value, int):
            raise self.refused(f"its {name} is {value}, which is not a fixed integer")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """An argument of one or several integers."""
        value = self.arguments[name]
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(item, int) for item in items):
            raise self.refused(f"its {name} is {value}; only fixed integers are known")
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
        """A number, or None where it was left out."""
        value = self.arguments[name]
        if value is None:
            return None
        if not isinstance(value, int | float):
            raise self.refused(f"its {name} is {value}; only a fixed number is known")
        return float(value)

    def result_dtype(self) -> torch.dtype:
        """Element type of the result."""
        dtype = self.node.meta["val"].dtype
        assert isinstance(dtype, torch.dtype)
        return dtype


def is_in_place(node: FxNode) -> bool:
    """Whether an ATen operation overwrites its first argument."""
    name = str(node.target)
    return name.startswith("aten.") and name.split(".")[1].endswith("_")


def call_of(node: FxNode) -> Call:
    """Read the arguments of an ATen operation by the names of its schema."""
    assert isinstance(node.target, torch._ops.OpOverload)
    values: dict[str, object] = {}
    for index, argument in enumerate(node.target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        values[argument.name] = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name, default)
    return Call(node, MappingProxyType(values))
