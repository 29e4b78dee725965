"""Classes of settings that check their values without pydantic, for devices that only run, time and report files.

A wrong value, an unknown name and a missing one are an ``InvalidSettings`` each, as in ``settings.py``. NumPy's numbers become
Python's, and lists become tuples.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, dataclass_transform, get_args, get_origin

from paretrim.errors import InvalidSettings
from paretrim.visible import brief, suggestion

_Settings = TypeVar("_Settings")


@dataclasses.dataclass(frozen=True)
class ValueRule:
    """What a value must be beyond its type, in an ``Annotated`` type: a test, and the test in words."""

    holds: Callable[[Any], bool]
    words: str


def one_of(names: Sequence[str]) -> ValueRule:
    """A rule for a text: it is one of these."""
    return ValueRule(lambda given: given in names, f"one of {', '.join(names)}")


FilledText = Annotated[str, ValueRule(lambda text: bool(text.strip()), "a text that is not empty")]
OneOrMore = Annotated[int, ValueRule(lambda number: number >= 1, "1 or more")]
ZeroOrAbove = Annotated[float, ValueRule(lambda number: number >= 0, "0 or more")]
ZeroOrMore = Annotated[int, ValueRule(lambda number: number >= 0, "0 or more")]
AboveZero = Annotated[float, ValueRule(lambda number: number > 0, "above 0")]


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def plain_settings(*, eq: bool = True) -> Callable[[type[_Settings]], type[_Settings]]:
    """Make a frozen dataclass whose constructor raises ``InvalidSettings`` for a wrong value."""

    def decorated(kind: type[_Settings]) -> type[_Settings]:
        made: Any = dataclasses.dataclass(frozen=True, eq=eq)(kind)
        unchecked: Callable[..., None] = made.__init__

        @functools.wraps(unchecked)
        def __init__(self: object, *args: object, **values: object) -> None:
            _require_names(made, args, values)
            unchecked(self, *args, **values)
            for name, annotation in _types(made).items():
                value = _checked(getattr(self, name), annotation, f"{made.__name__}.{name}")
                object.__setattr__(self, name, value)

        made.__init__ = __init__
        return typing.cast(type[_Settings], made)

    return decorated


def _require_names(kind: type, args: tuple[object, ...], values: Mapping[str, object]) -> None:
    """Refuse keys that the class does not have, too many values, and values that are missing or given twice."""
    names = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise InvalidSettings(f"{kind.__name__}.{unknown[0]}: there is no such key; {suggestion(unknown[0], names, 'allowed')}")
    if len(args) > len(names):
        raise InvalidSettings(f"{kind.__name__} takes {len(names)} values at most ({', '.join(names)}); name them")
    try:
        inspect.signature(kind).bind(*args, **values)
    except TypeError as error:  # "missing a required argument: 'name'"
        raise InvalidSettings(f"{kind.__name__}: {error}; it takes {', '.join(names)}") from error


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _checked(value: object, annotation: Any, where: str) -> object:  # noqa: ANN401 - types of the typing module have no type
    """The value as its type has it.

    Raises:
        InvalidSettings: it is of another type, or breaks a rule.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        value = _checked(value, arguments[0], where)
        broken = [rule.words for rule in arguments[1:] if not rule.holds(value)]
        if broken:
            raise InvalidSettings(f"{where} is {brief(value)}: it must be {' and '.join(broken)}")
        return value
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise InvalidSettings(f"{where} is {brief(value)}: it must be a list")
        return tuple(_checked(one, arguments[0], f"{where}[{place}]") for place, one in enumerate(value))
    kinds = arguments if origin in (Union, types.UnionType) else (annotation,)
    for kind in kinds:
        taken, kept = _as(value, kind)
        if taken:
            return kept
    raise InvalidSettings(f"{where} is {brief(value)}: it must be {' or '.join(map(_in_words, kinds))}")


def _as(value: object, kind: Any) -> tuple[bool, object]:  # noqa: ANN401
    """Whether a value is of a kind, and the value as Python's own type."""
    if get_origin(kind) is not None:  # a callable: what it takes shows when it is called
        return callable(value), value
    if isinstance(value, bool):  # which Python counts among the whole numbers
        return kind is bool, value
    if kind is float and isinstance(value, numbers.Real):
        return math.isfinite(value), float(value)
    if kind is int and isinstance(value, typing.SupportsIndex):
        return True, operator.index(value)
    return kind is not float and kind is not int and isinstance(value, kind), value


def _in_words(kind: Any) -> str:  # noqa: ANN401
    known = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text", types.NoneType: "None"}
    return known.get(kind) or ("a function" if get_origin(kind) is not None else f"of the class {kind.__name__}")
