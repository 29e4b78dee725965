"""The rules of docs/architecture.md and docs/house-rules.md, held by reading the source; nothing is imported here."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "paretrim"

LEVELS = (
    {"digest", "method", "metric", "visible"},
    {"errors", "history"},
    {"curves", "files", "intervals", "own_code"},
    {"bench", "data", "graph", "lock", "models"},
    {"runtime"},
    {"trimfile"},
    {"deploy", "network"},
    {"capture", "results", "train"},
    {"report", "stages"},
    {"run"},
    {"search"},
    {"cli"},
)
"""Parts of the package, lowest first. A part imports from lower levels only: neighbours on one level never know each other."""

TORCH_FREE = {
    "bench",
    "curves",
    "deploy",
    "digest",
    "errors",
    "files",
    "graph",
    "history",
    "intervals",
    "method",
    "metric",
    "report",
    "results",
    "runtime",
    "trimfile",
    "visible",
}
"""Parts that a device without torch can import: it runs, times and reports deployed files."""

LAZY = {
    "data.image_folder": "Pillow is optional",
    "deploy.onnx_file": "only writing an ONNX file needs onnx",
    "deploy.onnx_operator": "only writing an ONNX file needs onnx",
    "deploy.onnx_runtime": "only running a file needs ONNX Runtime",
    "deploy.openvino_runtime": "OpenVINO is optional",
    "deploy.write": "ONNX files are written without the native library too",
    "deploy.runnable": "timing one runtime must not load the other",
    "stages.quantize.clipq": "Optuna is optional",
    "runtime.session": "a device that runs networks need not have safetensors",
}
"""Modules that import inside functions, and why. The command line does so throughout: ``--help`` must not wait for torch."""

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}

FILE_LINES = 350
FUNCTION_LINES = 50
POSITIONAL_PARAMETERS = 6


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


def _modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


MODULES = _modules()
NAMES = {module.name for module in MODULES}


def _imports(module: Module) -> Iterator[Import]:
    yield from _imports_in(module, module.tree.body, "module")


def _imports_in(module: Module, body: list[ast.stmt], when: str) -> Iterator[Import]:
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
            yield from _imports_in(module, statement.body, "types")
        else:
            inner = "function" if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) else when
            for name in ("body", "orelse", "finalbody"):
                yield from _imports_in(module, getattr(statement, name, []), inner)
            for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
                yield from _imports_in(module, part.body, inner)


IMPORTS = tuple(found for module in MODULES for found in _imports(module))
INSIDE = tuple(found for found in IMPORTS if found.imported.startswith("paretrim."))
"""Imports of modules of the package; ``import paretrim`` itself only gives the version."""


def _part(module: str) -> str:
    """The part of the package, as LEVELS names it, that a module belongs to; ``__main__`` is the command line's other door."""
    name = module.removeprefix("paretrim.").split(".")[0]
    return "cli" if name == "__main__" else name


def _level(part: str) -> int:
    for index, parts in enumerate(LEVELS):
        if part in parts:
            return index
    raise AssertionError(f"'{part}' is on no level; give it one in LEVELS and in docs/architecture.md")


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def _where(module: Module, node: ast.stmt) -> str:
    return f"{module.path.relative_to(ROOT)}:{node.lineno}"


MOST_LEVELS = 12


def test_the_levels_are_few():
    assert len(LEVELS) <= MOST_LEVELS


def test_imports_point_down():
    wrong = []
    for found in INSIDE:
        here, there = _part(found.importer), _part(found.imported)
        if not found.importer or here == there:
            continue
        if _level(there) >= _level(here):
            wrong.append(f"{found.importer}:{found.line} imports {found.imported}")
    assert not wrong


def test_the_levels_name_what_exists_and_nothing_else():
    named = [part for parts in LEVELS for part in parts]
    assert sorted(named) == sorted({_part(name) for name in NAMES if name})


def test_the_package_itself_imports_nothing_of_its_own_until_asked():
    assert [found for found in INSIDE if found.importer == "" and found.when == "module"] == []


def test_no_import_cycles():
    """Over single modules, imports inside functions and those for types included: a postponed cycle is still one."""
    edges: dict[str, set[str]] = {name: set() for name in NAMES}
    for found in INSIDE:
        target = found.imported.removeprefix("paretrim.")
        if found.importer and target in NAMES:
            edges[found.importer].add(target)
    while leaves := [name for name, targets in edges.items() if not targets]:
        for leaf in leaves:
            del edges[leaf]
        for targets in edges.values():
            targets.difference_update(leaves)
    assert edges == {}


def test_imports_inside_functions_are_few_and_have_a_reason():
    lazy = {found.importer for found in IMPORTS if found.when == "function" and _part(found.importer) != "cli" and found.importer}
    assert lazy == set(LAZY)


def test_the_torch_free_zone_imports_only_itself():
    wrong = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in IMPORTS
        if _part(found.importer) in TORCH_FREE and found.when != "types"
        if found.imported.split(".")[0] == "torch" or (found in INSIDE and _part(found.imported) not in TORCH_FREE)
    ]
    assert not wrong


def test_the_torch_free_zone_imports_without_torch():
    names = sorted(f"paretrim.{name}" for name in NAMES if _part(name) in TORCH_FREE)
    program = (
        "import importlib, sys\n"
        "for blocked in ('torch', 'pydantic', 'onnx', 'onnxruntime', 'openvino'): sys.modules[blocked] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(SOURCE.parent), "PATH": ""}


def test_only_the_command_line_prints():
    wrong = [
        f"{module.path.relative_to(ROOT)}:{node.lineno}"
        for module in MODULES
        if _part(module.name) != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input", "breakpoint")
    ]
    assert not wrong


def test_nothing_is_pickled_or_evaluated():
    """Files are data. ``torch.load`` is allowed with ``weights_only=True`` and ``np.load`` with ``allow_pickle=False`` alone."""
    wrong = [
        f"{found.importer}:{found.line}"
        for found in IMPORTS
        if found.imported.split(".")[0] in ("pickle", "dill", "shelve", "marshal")
    ]
    demanded = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    for module in MODULES:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            name, value = demanded.get(called, ("", None))
            if called in ("eval", "exec") or (called in demanded and given.get(name) is not value):
                wrong.append(f"{module.path.relative_to(ROOT)}:{node.lineno}: {called}")
    assert not wrong


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name or "paretrim")
def test_a_module_is_short_and_its_functions_too(module: Module):
    assert len(module.path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES
    long = [
        f"{_where(module, function)} {function.name}" for function in _functions(module.tree) if _lines(function) > FUNCTION_LINES
    ]
    assert not long


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring: nobody should write a shorter Raises section to stay below the limit."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def test_functions_take_few_parameters_by_position():
    wrong = [
        f"{_where(module, function)} {function.name}"
        for module in MODULES
        for function in _functions(module.tree)
        if len(function.args.posonlyargs) + len(function.args.args) - _bound(function) > POSITIONAL_PARAMETERS
        # torch.autograd.Function decides the signature of its forward.
        if not (function.name == "forward" and function.args.args[0].arg == "ctx")
    ]
    assert not wrong


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return int(bool(function.args.args) and function.args.args[0].arg in ("self", "cls"))


def test_no_function_takes_keywords_it_does_not_name():
    """Those that it passes on are named in a ``TypedDict``, which type checkers and editors read."""
    wrong = [
        f"{_where(module, f)} {f.name}"
        for module in MODULES
        for f in _functions(module.tree)
        if f.args.kwarg and not f.name.startswith("__") and not ast.unparse(f.args.kwarg.annotation).startswith("Unpack[")
    ]
    assert not wrong


def test_no_star_imports_and_no_vague_names():
    stars = [
        _where(module, node)
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    vague = [name for name in NAMES if FORBIDDEN_NAMES & set(name.split("."))]
    assert (stars, vague) == ([], [])


def test_everything_public_is_documented():
    undocumented = []
    for module in MODULES:
        if not ast.get_docstring(module.tree):
            undocumented.append(module.name)
        undocumented.extend(
            f"{_where(module, node)} {node.name}"
            for node in ast.walk(module.tree)
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            if not node.name.startswith("_") and node in module.tree.body and not ast.get_docstring(node)
        )
    assert not undocumented


def test_every_test_file_has_a_name_of_its_own():
    """Test folders are no packages, so two files of one name could not be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_the_version_is_written_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    source = project["tool"]["scikit-build"]["metadata"]["version"]
    assert source == {"provider": "scikit_build_core.metadata.regex", "input": "src/paretrim/__init__.py"}
    assigned = [
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__version__" for t in node.targets)
    ]
    assert assigned == [""]


def test_the_levels_are_those_of_the_document():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    written = [set(line.split("`")[1::2]) for line in text.splitlines() if line[:1].isdigit() and line.split(". `")[0].isdigit()]
    assert written == [set(level) for level in LEVELS]
