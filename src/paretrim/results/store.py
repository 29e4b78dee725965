"""The results store: one JSON line per :class:`~paretrim.results.outcome.Outcome`, in ``results/<study>/outcomes.jsonl``.

A line is canonical (sorted keys, no spaces, ASCII, finite numbers), so equal outcomes are equal lines and a diff of two stores
is readable. Reading is strict: a line that is not exactly an outcome, of this or an earlier format, is an error that names the
file and the line. The codec follows the fields and type hints of the
dataclasses and knows nothing else about outcomes.
"""

from __future__ import annotations

import json
import math
import sys
import types
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, Union, cast, get_args, get_origin, get_type_hints

import filelock

from paretrim import files
from paretrim.errors import CorruptFile, InvalidSettings
from paretrim.results.outcome import FORMAT, METRIC_VALUES, Outcome


class Descend(Protocol):
    """:func:`_to_plain` or :func:`_from_plain`: one direction of the codec, for a value inside another."""

    def __call__(self, value: object, hint: object, *, place: str) -> object:
        """The value in its other form."""


@dataclass(frozen=True)
class Contents:
    """Contents of a store file. ``torn`` counts ignored last lines (0 or 1), which a crash cut off while they were written."""

    outcomes: tuple[Outcome, ...]
    torn: int


def encode(outcome: Outcome) -> str:
    """One line without its newline.

    Raises:
        CorruptFile: a value cannot be stored (not finite, or of another type than the field says).
    """
    place = f"outcome '{outcome.label}', seed {outcome.seed}"
    plain = _to_plain(outcome, Outcome, place=place, earlier=outcome.format < METRIC_VALUES)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode(line: str, *, place: str = "line") -> Outcome:
    """The outcome of one line; arrays come back as tuples. ``place`` names the line in errors.

    Raises:
        CorruptFile: the line is not JSON, has unknown, missing or repeated keys or wrong types, or a newer format.
    """
    try:
        plain = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{place}: not a JSON line ({error}); restore the file from a copy, or delete this line") from error
    if not isinstance(plain, dict):
        _fail(place, plain, "an object")
    version = plain.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise CorruptFile(f"{place}: has format {version} and this version of paretrim reads up to {FORMAT}; install a newer one")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CorruptFile(f"{place}: has format {version!r}; allowed is a whole number from 1 to {FORMAT}")
    return cast(Outcome, _to_dataclass(plain, Outcome, place=place, earlier=version < METRIC_VALUES))


def append(path: Path, outcome: Outcome) -> None:
    """Add one outcome and sync it. Safe with several processes; a torn last line left by a crash is removed first.

    Raises:
        CorruptFile: the outcome cannot be stored; the file is untouched.
        OutOfSpace: the disk is full.
    """
    line = encode(outcome)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        _cut_torn_line(path)
        files.append_line(path, line)


def inspect(path: Path) -> Contents:
    """All outcomes in the order they were written, and how many torn last lines were ignored.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFile: a line other than a torn last one is broken.
    """
    *whole, last = _content(path).split(b"\n")
    outcomes = [_decode_bytes(line, place=f"'{path}', line {number}") for number, line in enumerate(whole, start=1)]
    if not last:
        return Contents(tuple(outcomes), torn=0)
    if not _complete(last):
        return Contents(tuple(outcomes), torn=1)
    return Contents((*outcomes, _decode_bytes(last, place=f"'{path}', line {len(whole) + 1}")), torn=0)


def read(path: Path) -> tuple[Outcome, ...]:
    """All outcomes in the order they were written; :func:`inspect` also says whether a torn last line was ignored.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFile: a line other than a torn last one is broken.
    """
    return inspect(path).outcomes


def set_aside(path: Path) -> int:
    """Move the lines that are no outcomes into a file ``.damaged`` beside the store, so that it can be read; how many there were.

    Lines of a newer format stay: a newer version reads them. So does a torn last line, which readers ignore.

    Raises:
        CorruptFile: the file cannot be read.
        OutOfSpace: the disk is full; nothing is lost.
    """
    if not path.exists():
        return 0
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        *whole, last = _content(path).split(b"\n")
        damaged = [line for line in whole if _is_damaged(line)]
        if damaged:
            aside = path.with_name(f"{path.name}.damaged")
            before = files.read_regular(aside, at_most=sys.maxsize) if aside.exists() else b""
            files.write_atomically(aside, before + b"".join(line + b"\n" for line in damaged))
            kept = (line + b"\n" for line in whole if line not in damaged)
            files.write_atomically(path, b"".join(kept) + last)
    return len(damaged)


def latest(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """The last written outcome for each (study, recipe, seed), in order of first appearance.

    The position in the file decides, not ``created``: clocks of different machines disagree, but a file has one order.
    """
    newest = {(outcome.study, outcome.recipe, outcome.seed): outcome for outcome in outcomes}
    return tuple(newest.values())


def _content(path: Path) -> bytes:
    try:
        return files.read_regular(path, at_most=sys.maxsize)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptFile(f"'{path}' cannot be read: {error.strerror}; check its permissions, or give another file") from error


def _is_damaged(line: bytes) -> bool:
    try:
        _decode_bytes(line, place="line")
    except CorruptFile:
        try:
            plain = json.loads(line)
        except (ValueError, RecursionError):
            return True
        version = plain.get("format") if isinstance(plain, dict) else None
        return not isinstance(version, int) or version <= FORMAT
    return False


def _decode_bytes(line: bytes, *, place: str) -> Outcome:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{place}: not UTF-8 ({error}); restore the file from a copy, or delete this line") from error
    return decode(text, place=place)


def _complete(line: bytes) -> bool:
    """Whether a line without a newline lost only that: no proper prefix of a JSON object is valid JSON."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = files.read_regular(path, at_most=sys.maxsize)
    whole, newline, last = content.rpartition(b"\n")
    if last and not _complete(last):
        files.write_atomically(path, whole + newline)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' occurs twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


@dataclass(frozen=True)
class Key:
    """A key of a JSON object: the field it holds, the field's resolved type, and whether older lines lack it."""

    field: str
    hint: object
    later: bool


@cache
def _keys(kind: Hashable, earlier: bool) -> dict[str, Key]:
    """The keys of a dataclass in the order of its fields: their names, or the ``earlier`` ones of those that were renamed."""
    hints = get_type_hints(kind)
    return {
        one.metadata.get("earlier", one.name) if earlier else one.name: Key(one.name, hints[one.name], "later" in one.metadata)
        for one in fields(cast(Any, kind))
    }


def _fail(place: str, value: object, allowed: str) -> NoReturn:
    given = repr(value)
    raise CorruptFile(
        f"{place}: is {given if len(given) <= 60 else given[:57] + '...'} ({type(value).__name__}); allowed is {allowed}"
    )


def _to_plain(value: object, hint: object, *, place: str, earlier: bool = False) -> object:
    """Value of a field as JSON holds it, with the ``earlier`` names of renamed fields if asked for."""
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, hint):
            _fail(place, value, f"a {hint.__name__}")
        return {
            name: _to_plain(getattr(value, key.field), key.hint, place=f"{place}, {name}", earlier=earlier)
            for name, key in _keys(cast(Hashable, hint), earlier).items()
            if not key.later or getattr(value, key.field) is not None
        }
    return _checked(value, hint, place=place, descend=partial(_to_plain, earlier=earlier))


def _from_plain(value: object, hint: object, *, place: str, earlier: bool = False) -> object:
    """The inverse of :func:`_to_plain`."""
    if is_dataclass(hint) and isinstance(hint, type):
        return _to_dataclass(value, hint, place=place, earlier=earlier)
    return _checked(value, hint, place=place, descend=partial(_from_plain, earlier=earlier))


def _to_dataclass(value: object, kind: type[Any], *, place: str, earlier: bool) -> object:
    if not isinstance(value, dict):
        _fail(place, value, "an object")
    known = _keys(cast(Hashable, kind), earlier)
    unknown = sorted(value.keys() - known.keys())
    missing = sorted(name for name, key in known.items() if name not in value and not key.later)
    if unknown or missing:
        parts = [f"{word} {', '.join(map(repr, keys))}" for word, keys in (("unknown", unknown), ("missing", missing)) if keys]
        raise CorruptFile(f"{place}: keys of {kind.__name__} do not match: {'; '.join(parts)}; allowed are {', '.join(known)}")
    there = {key.field: (name, key.hint) for name, key in known.items() if name in value}
    found = {
        field: _from_plain(value[name], hint, place=f"{place}, {name}", earlier=earlier) for field, (name, hint) in there.items()
    }
    try:
        return kind(**found)
    except InvalidSettings as error:  # a class that checks its values
        raise CorruptFile(f"{place}: {error}") from error


def _checked(value: object, hint: object, *, place: str, descend: Descend) -> object:
    """A value that is not a dataclass, checked against its type; ``descend`` handles nested values."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return descend(value, kind, place=place)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            _fail(place, value, "an array")
        return tuple(descend(item, arguments[0], place=f"{place}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            _fail(place, value, "one of " + ", ".join(map(repr, arguments)))
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            _fail(place, value, "an object")
        return {_text(key, place): descend(item, arguments[1], place=f"{place}, {key}") for key, item in value.items()}
    if hint is object:
        return _free(value, place=place, descend=descend)
    return _scalar(value, hint, place=place)


def _free(value: object, *, place: str, descend: Descend) -> object:
    """A value of a field without a fixed type: anything JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return descend(value, Mapping[str, object], place=place)
    if isinstance(value, tuple | list):
        return descend(value, tuple[object, ...], place=place)
    for kind, accepted in ((str, str), (int, Integral), (float, Real)):
        if isinstance(value, accepted):
            return _scalar(value, kind, place=place)
    _fail(place, value, "text, a number, true, false, nothing, an array or an object of these")


def _scalar(value: object, hint: object, *, place: str) -> object:
    """String, bool, integer or float; NumPy's numbers become Python's."""
    if hint is str:
        return _text(value, place)
    truth = isinstance(value, bool)  # Python counts bools as integers; a store does not
    if hint is bool:
        return value if truth else _fail(place, value, "true or false")
    if hint is int and isinstance(value, Integral) and not truth:
        return int(value)
    if hint is float and isinstance(value, Real) and not truth:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return number if math.isfinite(number) else _fail(place, value, "a finite number")
    return _fail(place, value, "a whole number" if hint is int else "a finite number" if hint is float else str(hint))


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        _fail(place, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        _fail(place, value, "text that UTF-8 can hold")
    return value
