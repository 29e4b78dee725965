"""Classes of settings: frozen dataclasses that check every value, from a recipe and from Python alike.

A wrong value in a recipe is an ``InvalidRecipe`` with the place of the key. In Python it is an ``InvalidSettings`` with the name
of the class, which is also a ``ValueError``. So is a setting that is given although nothing reads it: a class says with
:class:`Idle` when that is.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast, dataclass_transform, get_args

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from paretrim.errors import InvalidRecipe, InvalidSettings
from paretrim.stored_fields import LATER
from paretrim.visible import QUOTED, brief, suggestion

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
"""Settings refuse unknown keys and numbers that are not finite."""

_MOST_PROBLEMS = 5
"""Number of wrong values that one error names."""

_Settings = TypeVar("_Settings")


@dataclasses.dataclass(frozen=True)
class Idle:
    """Settings that nothing reads while ``when`` holds; one that is given is then refused.

    A setting is given if it is named, at whatever value but None. A copy (``dataclasses.replace``, or settings that were stored)
    names all, so there only values other than the defaults count.

    Attributes:
        names: of the settings; ``budget.warmup`` is a setting within a setting.
        when: whether nothing reads them, of the checked settings.
        why: the reason; settings in braces are replaced by their values.
        step: what to change if they should be read.
        in_code: whether it holds in Python too, or only in a table, as for a number of epochs that code has computed.
    """

    names: tuple[str, ...]
    when: Callable[[Any], bool]
    why: str
    step: str
    in_code: bool = True


_IDLE: dict[type, tuple[Idle, ...]] = {}
"""What every class of settings says of itself."""


_ONE_OF_SEVERAL = re.compile(r"(constrained-)?(int|float|str|bool)$|literal\[")
"""The last part of a place in pydantic's errors that names a kind of value, not a setting."""

_TOO_SHORT = re.compile(r"^\w+ should have at least (\d+ items?) after validation, not \d+$")


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def settings(*, kw_only: bool = False, idle: tuple[Idle, ...] = ()) -> Callable[[type[_Settings]], type[_Settings]]:
    """Make a class of settings; its constructor raises ``InvalidSettings`` for a wrong value and for one that nothing reads."""

    def decorated(kind: type[_Settings]) -> type[_Settings]:
        made = cast(type[_Settings], pydantic.dataclasses.dataclass(frozen=True, config=_STRICT, kw_only=kw_only)(kind))
        unchecked: Callable[..., None] = made.__init__
        _IDLE[made] = idle

        @functools.wraps(unchecked)
        def __init__(self: object, *args: object, **values: object) -> None:
            try:
                unchecked(self, *args, **values)
                _require_readers(self, {**dict(zip(_names(made), args, strict=False)), **values}, made.__name__, written=False)
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
        InvalidRecipe: a key is unknown or missing, a value is not allowed, or nothing reads it.
    """
    try:
        made = TypeAdapter(kind).validate_python(dict(values))
    except InvalidRecipe as error:
        raise InvalidRecipe(f"{where}: {error}") from error
    except ValidationError as error:
        raise InvalidRecipe(_explained(error, kind, where)) from error
    _require_readers(made, values, where)
    return made


def idle_settings(made: object) -> dict[str, Idle]:
    """The settings that nothing reads as the others are, given or not, with the first reason."""
    rules = (rule for kind in type(made).__mro__ for rule in _IDLE.get(kind, ()) if rule.when(made))
    found: dict[str, Idle] = {}
    for rule in rules:
        found |= {name: rule for name in rule.names if name not in found}
    return found


def _require_readers(made: object, given: Mapping[str, object], where: str, *, written: bool = True) -> None:
    """Refuse settings, of these or of those within, that were given although nothing reads them; ``written`` in a table.

    Raises:
        InvalidRecipe: there is one.
    """
    idle = idle_settings(made)
    copied = bool(idle) and _all_of(type(made)) <= given.keys()
    for name, rule in idle.items():
        outer, _, inner = name.rpartition(".")
        owner, table = (getattr(made, outer), given.get(outer)) if outer else (made, given)
        value = getattr(owner, inner)
        named = isinstance(table, Mapping) and table.get(inner) is not None and not copied
        changed = value != default_of(type(owner), inner) and (outer or inner) in given
        if (named or changed) and (rule.in_code or (written and not copied)):
            why = rule.why.format_map(vars(made))
            raise InvalidRecipe(
                f"{where}.{name} is {brief(value)}, but {why}, so it would have no effect; {rule.step}, or leave {inner} out"
            )
    for name, value in given.items():
        for part, table, place in _within(getattr(made, name), value, f"{where}.{name}"):
            _require_readers(part, table, place)


def _within(made: object, given: object, where: str) -> Iterator[tuple[object, Mapping[str, object], str]]:
    """Settings that were made of tables within tables: each with its table and its place."""
    if isinstance(given, Mapping) and isinstance(made, Mapping):
        for key, inner in made.items():
            yield from _within(inner, given[key], f"{where}.{str(key)[:QUOTED]}")
    elif isinstance(given, Mapping) and is_pydantic_dataclass(type(made)):
        yield made, given, where
    elif isinstance(given, list | tuple) and isinstance(made, list | tuple):
        for index, (inner, one) in enumerate(zip(made, given, strict=True)):
            yield from _within(inner, one, f"{where}[{index}]")


def default_of(kind: type, name: str) -> object:
    """The default of a setting; a value that nothing equals if it has none."""
    fields: Mapping[str, FieldInfo] = kind.__pydantic_fields__ if is_pydantic_dataclass(kind) else {}
    return fields[name].get_default(call_default_factory=True)


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def _all_of(kind: type) -> set[str]:
    """The settings that every copy names: stored ones leave out what came later, TOML None, and parts of ``together`` budgets."""
    defaults = {field.name: default_of(kind, field.name) for field in dataclasses.fields(kind) if field.metadata != LATER}
    return {name for name, value in defaults.items() if value is not None and not is_pydantic_dataclass(type(value))}


def _explained(error: ValidationError, kind: type, where: str) -> str:
    problems = _joined(error.errors())
    said = "; ".join(_explain(problem, kind, where) for problem in problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS
    return f"{said}; and {more} more" if more > 0 else said


def _joined(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """One problem for a value that fits none of several kinds, such as a number or one word; pydantic has one for each."""
    found: dict[tuple[int | str, ...], ErrorDetails] = {}
    for problem in problems:
        *place, last = problem["loc"] or ("",)
        if not (isinstance(last, str) and _ONE_OF_SEVERAL.match(last)):
            found[problem["loc"]] = problem
        elif (key := tuple(place)) in found:
            found[key]["msg"] += problem["msg"].replace("Input should be", ", or", 1)
        else:
            found[key] = {**problem, "loc": key}
    return list(found.values())


def _plain(message: str) -> str:
    """Pydantic's sentence in the words of a recipe."""
    text = _TOO_SHORT.sub(r"input should have at least \1", message).replace("a valid tuple", "a list")
    return f"{text[0].lower()}{text[1:]}"


def _explain(problem: ErrorDetails, kind: type, where: str) -> str:
    """One sentence for one of pydantic's errors: the key, what was given, what is allowed."""
    place = problem["loc"]
    known = _names(kind)
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
    return f"{key} is {brief(problem['input'])}: {_plain(problem['msg'])}"


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
