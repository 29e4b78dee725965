"""Attributes of operations: their rules, and reading them with checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Attribute

Shape = tuple[int, ...]
Pair = tuple[int, int]
Edges = tuple[int, int, int, int]

LARGEST = 2**31 - 1
"""No extent, and no number of elements of a value, may exceed this: an index always fits into int32."""


@dataclass(frozen=True)
class AttributeRule:
    """What one attribute may be. Integers lie in ``minimum`` .. :data:`LARGEST`; ``length`` is that of a tuple.

    Where ``ships`` is false it is for training and occurs only in float graphs.
    """

    kind: Literal["int", "ints", "float", "str"]
    length: int = 0
    minimum: int = 0
    default: Attribute | None = None
    required: bool = True
    ships: bool = True


def optional(rule: AttributeRule, default: Attribute | None) -> AttributeRule:
    """The same rule for an attribute that may be left out."""
    return AttributeRule(rule.kind, rule.length, rule.minimum, default, required=False)


PAIR = AttributeRule("ints", 2, 1)
EDGES = AttributeRule("ints", 4)
TRIPLE = AttributeRule("ints", 3)
COUNT = AttributeRule("int", minimum=1)
INDEX = AttributeRule("int")
NUMBER = AttributeRule("float")
ONES, NO_EDGES = optional(PAIR, (1, 1)), optional(EDGES, (0, 0, 0, 0))
FIXED = {"fixed": AttributeRule("int", default=0, required=False, ships=False)}
CLAMP = {"lo": optional(INDEX, 0), "hi": optional(INDEX, 255)}


@dataclass(frozen=True)
class Settings:
    """Checked attributes of one node, read by kind."""

    values: Mapping[str, Attribute]

    def __reduce__(self) -> tuple[type[Settings], tuple[dict[str, Attribute]]]:
        """Pickle the values: a read-only mapping cannot be pickled."""
        return Settings, (dict(self.values),)

    def integer(self, name: str) -> int:
        """An integer attribute."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """A tuple attribute."""
        value = self.values[name]
        assert isinstance(value, tuple)
        return value

    def pair(self, name: str) -> Pair:
        """A (vertical, horizontal) attribute."""
        vertical, horizontal = self.integers(name)
        return vertical, horizontal

    def edges(self, name: str) -> Edges:
        """A (top, left, bottom, right) attribute."""
        top, left, bottom, right = self.integers(name)
        return top, left, bottom, right

    def number(self, name: str) -> float | None:
        """A float attribute, None where it is left out."""
        return self.required_number(name) if name in self.values else None

    def required_number(self, name: str) -> float:
        """A float attribute of an operation that cannot do without."""
        value = self.values[name]
        assert isinstance(value, int | float)
        return float(value)

    def text(self, name: str) -> str:
        """A string attribute."""
        value = self.values[name]
        assert isinstance(value, str)
        return value


def read_by(rules: Mapping[str, AttributeRule], op: str, attributes: Mapping[str, Attribute]) -> Settings:
    """Check the attributes of an operation by its rules and fill in what was left out.

    Raises:
        UnsupportedOperation: an attribute is unknown, missing, of the wrong kind or out of range.
    """
    unknown = sorted(set(attributes) - set(rules))
    if unknown:
        raise UnsupportedOperation(f"{op} has unknown attributes {unknown}; it takes {sorted(rules) or 'none'}")
    values: dict[str, Attribute] = {}
    for name, rule in rules.items():
        if name in attributes:
            _check_attribute(op, name, attributes[name], rule)
            values[name] = attributes[name]
        elif rule.required:
            raise UnsupportedOperation(f"{op} lacks the attribute '{name}'; add it")
        elif rule.default is not None:
            values[name] = rule.default
    return Settings(MappingProxyType(values))


def _check_attribute(op: str, name: str, value: Attribute, rule: AttributeRule) -> None:
    def whole(item: object) -> bool:
        return isinstance(item, int) and not isinstance(item, bool) and rule.minimum <= item <= LARGEST

    if rule.kind == "int":
        good, wanted = whole(value), f"an integer from {rule.minimum}"
    elif rule.kind == "ints":
        good = isinstance(value, tuple) and len(value) == rule.length and all(whole(item) for item in value)
        wanted = f"{rule.length} integers from {rule.minimum}"
    elif rule.kind == "float":
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        wanted = "a finite number"
    else:
        good, wanted = isinstance(value, str), "a string"
    if not good:
        raise UnsupportedOperation(f"{op} has {name} = {value!r}; it must be {wanted}")
