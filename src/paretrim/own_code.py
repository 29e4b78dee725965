"""Code of the user's own that settings name as ``package.module:function``."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe, reason_of
from paretrim.visible import brief


def split_name(text: str) -> tuple[str, str]:
    """Module and function of ``package.module:function``; what is missing is empty."""
    module, _, function = text.partition(":")
    return module.strip(), function.strip()


def imported(text: str, what: str) -> Callable[..., object]:
    """The function or class that ``text`` names; ``what`` says what it is for, in errors.

    Raises:
        InvalidRecipe: its module cannot be imported, or has no such function.
    """
    module_name, function_name = split_name(text)
    place = f"{what} {brief(text)}"
    advice = "run from an environment in which it can be imported (its folder on PYTHONPATH, or installed)"
    with explained(f"{place}: importing {brief(module_name)} failed", advice):
        module = importlib.import_module(module_name)
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    found: object = vars(module).get(function_name)
    if found is None:
        near = difflib.get_close_matches(function_name, names, n=3, cutoff=0.4)
        hint = f"near it are {', '.join(near)}" if near else f"it has {', '.join(names) or 'no functions'}"
        raise InvalidRecipe(f"{place}: module {brief(module_name)} has no {brief(function_name)}; {hint}")
    if not callable(found):
        raise InvalidRecipe(f"{place}: {brief(function_name)} is {described(found)}; it must be a function or class")
    return found


@contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """The user's own code runs inside: whatever it raises, ``sys.exit`` too, is one error; Ctrl-C stays what it is."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InvalidRecipe(f"{what} with {reason_of(error)}; {advice}") from error


def sources_in(settings: object) -> dict[str, str]:
    """Digests of the source text of all code of the user's own in a tree of settings, by the name of the code.

    That is every dataclass from outside the package, and every function that a text names as ``package.module:function`` and that
    has been imported. The text is that of the whole module, so that what the code calls beside it counts, too. Of the program
    that is running it is that of the class or function alone. Code without a text, typed at a prompt for instance, has "".
    """
    found: dict[str, str] = {}
    _add_sources_(settings, found)
    return found


def _add_sources_(value: object, found: dict[str, str]) -> None:
    if isinstance(value, str):
        module, function = split_name(value)
        code = getattr(sys.modules.get(module), function, None) if module and function else None
        if code is not None:
            found[value] = _source_digest(code)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if kind.__module__.partition(".")[0] != __package__:
            found[f"{kind.__module__}:{kind.__qualname__}"] = _source_digest(kind)
        for field in dataclasses.fields(value):
            _add_sources_(getattr(value, field.name), found)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _add_sources_(inner, found)
    elif isinstance(value, tuple | list):
        for inner in value:
            _add_sources_(inner, found)


def _source_digest(code: object) -> str:
    module = inspect.getmodule(code)
    alone = module is None or module.__name__ == "__main__"
    try:
        return digest_of(inspect.getsource(code if alone else module))  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""


def described(value: object) -> str:
    """What a value is, for errors."""
    return "None" if value is None else f"an object of type {type(value).__module__}.{type(value).__qualname__}"
