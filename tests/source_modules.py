"""The modules of the package and what they import, read from their source; nothing is imported here."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from function_bodies import ROOT

SOURCE = ROOT / "src" / "paretrim"


@dataclass(frozen=True)
class Import:
    """One import of one module by another; ``when`` is module, function or types."""

    importer: str
    imported: str
    when: str
    line: int


@dataclass(frozen=True)
class Module:
    """A source file; ``name`` without the package's own name, empty for the package itself."""

    name: str
    path: Path
    tree: ast.Module


def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


MODULES = modules()
NAMES = {module.name for module in MODULES}


def imports_of(module: Module) -> Iterator[Import]:
    yield from imports_in(module, module.tree.body, "module")


def imports_in(module: Module, body: list[ast.stmt], when: str) -> Iterator[Import]:
    for statement in body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield Import(module.name, alias.name, when, statement.lineno)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{module.path}:{statement.lineno}: write imports in full"
            for alias in statement.names:
                full = f"{statement.module}.{alias.name}"
                yield Import(
                    module.name,
                    full if full.removeprefix("paretrim.") in NAMES else str(statement.module),
                    when,
                    statement.lineno,
                )
        elif isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from imports_in(module, statement.body, "types")
        else:
            inner = "function" if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) else when
            for name in ("body", "orelse", "finalbody"):
                yield from imports_in(module, getattr(statement, name, []), inner)
            for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
                yield from imports_in(module, part.body, inner)


IMPORTS = tuple(found for module in MODULES for found in imports_of(module))
INSIDE = tuple(found for found in IMPORTS if found.imported.startswith("paretrim."))
"""Imports of modules of the package; ``import paretrim`` itself only gives the version."""


def part_of(module: str) -> str:
    """The part of the package, as LEVELS names it, that a module belongs to; ``__main__`` is the command line's other door."""
    name = module.removeprefix("paretrim.").split(".")[0]
    return "cli" if name == "__main__" else name


def where(module: Module, node: ast.stmt) -> str:
    return f"{module.path.relative_to(ROOT)}:{node.lineno}"


def in_circles(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left of a graph of imports without all that imports only what is in no circle: nothing, if there are none."""
    left = {name: set(targets) for name, targets in edges.items()}
    while leaves := [name for name, targets in left.items() if not targets]:
        for leaf in leaves:
            del left[leaf]
        for targets in left.values():
            targets.difference_update(leaves)
    return left
