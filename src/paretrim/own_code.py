"""Code of the user's own that settings name as ``package.module:function``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def described(value: object) -> str:
    """What a value is, for errors."""
    return "None" if value is None else f"an object of type {type(value).__module__}.{type(value).__qualname__}"
