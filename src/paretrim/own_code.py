"""User code that settings name as ``package.module:function``."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe, reason_of
from paretrim.visible import brief, visible

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of packages that were installed."""


def split_name(text: str) -> tuple[str, str]:
    """Module and function of ``package.module:function``; a missing part is empty."""
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


def require_takes(function: Callable[..., object], arguments: Sequence[str], place: str) -> None:
    """Refuse a function that cannot be called with these positional arguments; ``place`` names it and says what it is for.

    A function that does not say what it takes, as some written in C, passes.

    Raises:
        InvalidRecipe: it takes others.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise InvalidRecipe(f"{place} takes {signature}; it is called with {' and '.join(arguments)}") from None


@contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Run user code inside: whatever it raises, ``sys.exit`` included, becomes one error; Ctrl-C passes through."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InvalidRecipe(f"{what} with {reason_of(error)}; {advice}") from error


def sources_in(settings: object) -> dict[str, str]:
    """Digests of the source of all user code in a tree of settings, by the name of the code.

    User code is every dataclass from outside the package, every object of a class that is not installed, and every imported
    function that a string names as ``package.module:function``. Its source is that of the whole module and of the modules
    beside it that it imports, directly or indirectly; for the running program itself, that of the class or function alone. Code
    without source, typed at a prompt for instance, has "".
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
        if type(value).__module__.partition(".")[0] != __package__:
            _add_kind_(type(value), found)
        for field in dataclasses.fields(value):
            _add_sources_(getattr(value, field.name), found)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _add_sources_(inner, found)
    elif isinstance(value, tuple | list):
        for inner in value:
            _add_sources_(inner, found)
    elif _is_written_here(type(value)):
        _add_kind_(type(value), found)


def _add_kind_(kind: type, found: dict[str, str]) -> None:
    found[f"{kind.__module__}:{kind.__qualname__}"] = _source_digest(kind)


def _is_written_here(kind: type) -> bool:
    """Whether a class belongs to no installed package, nor to Python or this package."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None or kind.__module__.partition(".")[0] == __package__:
        return False
    return _is_of_the_user(Path(file))


def failing_call(error: BaseException) -> str:
    """Where the user's own code raised an error, such as: score in line 3 of own.py; "" if something else raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    package = Path(__file__).parent
    own = [frame for frame in frames if Path(frame.filename).is_file() and _is_of_the_user(Path(frame.filename))]
    last = [frame for frame in frames if frame in own or Path(frame.filename).is_relative_to(package)]
    if not last or last[-1] not in own or not any(Path(frame.filename).is_relative_to(package) for frame in frames):
        return ""
    return f"{last[-1].name} in line {last[-1].lineno} of {visible(Path(last[-1].filename).name)}"


def _is_of_the_user(file: Path) -> bool:
    package = Path(__file__).parent
    python = Path(sysconfig.get_path("stdlib"))
    return not (_is_installed(file) or file.is_relative_to(python) or file.is_relative_to(package))


def _is_installed(place: Path) -> bool:
    return not _INSTALLED.isdisjoint(place.parts)


def _source_digest(code: object) -> str:
    module = inspect.getmodule(code)
    try:
        if module is None or module.__name__ == "__main__":
            return digest_of(inspect.getsource(code))  # type: ignore[arg-type]
        text = inspect.getsource(module)
    except (OSError, TypeError):
        return ""
    beside = _texts_beside(module)
    return digest_of([text, beside] if beside else text)


def _texts_beside(module: ModuleType) -> dict[str, str]:
    """Texts of the modules of the same folder or package that a module imports, directly or through others, by dotted name.

    They are looked up as files, imported or not. For an installed package, only its own modules count.
    """
    own = Path(str(module.__file__)).resolve()
    is_package = own.stem == "__init__"
    top = module.__name__.partition(".")[0]
    root = own.parents[module.__name__.count(".") + is_package]
    installed = _is_installed(root)
    found: dict[str, str] = {}
    waiting = [(module.__name__, own)]
    while waiting:
        name, file = waiting.pop()
        text = file.read_text(encoding="utf-8", errors="replace")
        if file != own:
            found[name] = text
        for other in sorted(_imports(text, name, is_package=file.stem == "__init__")):
            path = next((path for path in _places(root, other) if path.is_file()), None)
            if path not in (None, own) and other not in found and (not installed or other.partition(".")[0] == top):
                waiting.append((other, path))
    return found


def _places(root: Path, name: str) -> tuple[Path, Path]:
    place = root.joinpath(*name.split("."))
    return place.with_name(f"{place.name}.py"), place / "__init__.py"


def _imports(text: str, name: str, *, is_package: bool) -> set[str]:
    """Dotted names that a module may import, with the packages they are in; names in a ``from`` import may be modules too."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            start = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {".".join(parts[:count]) for parts in (one.split(".") for one in names if one) for count in range(1, len(parts) + 1)}


def described(value: object) -> str:
    """What a value is, for errors."""
    return "None" if value is None else f"an object of type {type(value).__module__}.{type(value).__qualname__}"
