"""Classes of settings: frozen dataclasses that check every value, from a recipe and from Python alike.

A wrong value in a recipe is an ``InvalidRecipe`` with the place of the key. In Python it is an ``InvalidSettings`` with the name
of the class, which is also a ``ValueError``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast, dataclass_transform, get_args

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import ErrorDetails

from paretrim.errors import InvalidRecipe, InvalidSettings
from paretrim.visible import QUOTED, brief, suggestion

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
"""Settings refuse unknown keys and numbers that are not finite."""

_MOST_PROBLEMS = 5
"""Number of wrong values that one error names."""

_Settings = TypeVar("_Settings")


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def settings(*, kw_only: bool = False) -> Callable[[type[_Settings]], type[_Settings]]:
    """Make a class of settings; its constructor raises ``InvalidSettings`` for a wrong value."""

    def decorated(kind: type[_Settings]) -> type[_Settings]:
        made = cast(type[_Settings], pydantic.dataclasses.dataclass(frozen=True, config=_STRICT, kw_only=kw_only)(kind))
        unchecked: Callable[..., None] = made.__init__

        @functools.wraps(unchecked)
        def __init__(self: object, *args: object, **values: object) -> None:
            try:
                unchecked(self, *args, **values)
            except ValidationError as error:
                raise InvalidSettings(_explained(error, made, made.__name__)) from error
            except InvalidRecipe as error:
                raise InvalidSettings(str(error)) from error

        made.__init__ = __init__  # type: ignore[method-assign]
        return made

    return decorated


def checked(kind: type[_Settings], values: Mapping[str, object], where: str) -> _Settings:
    """Settings of a kind, made of values from outside; ``where`` names their place in errors.

    Raises:
        InvalidRecipe: a key is unknown or missing, or a value is not allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except InvalidRecipe as error:
        raise InvalidRecipe(f"{where}: {error}") from error
    except ValidationError as error:
        raise InvalidRecipe(_explained(error, kind, where)) from error


def _explained(error: ValidationError, kind: type, where: str) -> str:
    problems = error.errors()
    said = "; ".join(_explain(problem, kind, where) for problem in problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS
    return f"{said}; and {more} more" if more > 0 else said


def _explain(problem: ErrorDetails, kind: type, where: str) -> str:
    """One sentence for one of pydantic's errors: the key, what was given, what is allowed."""
    place = problem["loc"]
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    if problem["type"] == "unexpected_positional_argument":
        return f"{where} takes {len(known)} values at most ({', '.join(known)}); name them"
    if place and isinstance(place[0], int):  # given by position
        place = (known[place[0]], *place[1:])
    path = ".".join(str(part)[:QUOTED] for part in place)
    key = f"{where}.{path}" if path else where
    if problem["type"] == "unexpected_keyword_argument":
        names = sorted(field.name for field in dataclasses.fields(_owner(kind, place)) if field.init)
        return f"{key}: there is no such key; {suggestion(str(place[-1]), names, 'allowed')}"
    if problem["type"] == "value_error":  # of settings that these settings make
        return f"{key}: {problem['ctx']['error']}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{key} is missing"
    if problem["type"] == "union_tag_not_found":
        return f"{key} is {brief(problem['input'])}: it needs a key {problem['ctx']['discriminator'].strip(chr(39))}"
    if problem["type"] == "union_tag_invalid":
        tag, tags = str(problem["ctx"]["tag"]), problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        return (
            f"{key}: there is no {problem['ctx']['discriminator'].strip(chr(39))} {brief(tag)}; {suggestion(tag, tags, 'known')}"
        )
    return f"{key} is {brief(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _owner(kind: type, location: tuple[int | str, ...]) -> type:
    """The settings that the last part of a location should be a field of."""
    several = [kind]
    for part in location[:-1]:
        if isinstance(part, int):  # a place in a list
            continue
        fields = [owner.__pydantic_fields__.get(part) for owner in several if is_pydantic_dataclass(owner)]
        tagged = [owner for owner in several if part in vars(owner).values()]  # one of a union, by the value of its tag
        inner = [found for field in fields if field is not None for found in _settings_in(field.annotation)]
        several = inner or tagged or several
    return several[0]


def _settings_in(annotation: object) -> Iterator[type]:
    """Settings classes within a type such as ``tuple[A | B, ...]``."""
    if isinstance(annotation, type) and is_pydantic_dataclass(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _settings_in(part)
