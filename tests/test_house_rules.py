"""The rules of docs/house-rules.md for how code is written, held by reading the source; nothing is imported here."""

import ast
import re
import tomllib
from collections import Counter

from function_bodies import ROOT, functions
from source_modules import IMPORTS, MODULES, NAMES, part_of, where

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}
POSITIONAL_PARAMETERS = 6
OF_ONE_SUBJECT = {
    *("changes", "inside", "likeness", "outliers", "sensitivity"),  # made in one part, shown by report/ or cli/
    *("channels", "checks", "elementwise", "layers", "pooling"),  # the same things in graphs, networks, capture and tables
    *("spec", "stage", "types"),  # what every folder of their kind has
}
"""Names of several modules, in different folders. Any other name stands for one module."""


def test_only_the_command_line_prints():
    wrong = [
        f"{module.path.relative_to(ROOT)}:{node.lineno}"
        for module in MODULES
        if part_of(module.name) != "cli"
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


def test_functions_take_few_parameters_by_position():
    wrong = [
        f"{where(module, function)} {function.name}"
        for module in MODULES
        for function in functions(module.tree)
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
        f"{where(module, f)} {f.name}"
        for module in MODULES
        for f in functions(module.tree)
        if f.args.kwarg and not f.name.startswith("__") and not ast.unparse(f.args.kwarg.annotation).startswith("Unpack[")
    ]
    assert not wrong


def test_no_star_imports_and_no_vague_names():
    stars = [
        where(module, node)
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
            f"{where(module, node)} {node.name}"
            for node in ast.walk(module.tree)
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            if not node.name.startswith("_") and node in module.tree.body and not ast.get_docstring(node)
        )
    assert not undocumented


NOUNS_IN_ED = {"Seed", "Speed"}
PARTICIPLES = {"Chosen", "Done", "Drawn", "Found", "Given", "Kept", "Known", "Made", "Sent", "Shown", "Taken", "Told", "Written"}


def test_a_public_type_name_stands_once_and_is_a_noun():
    named = sorted(name for module in MODULES for name in _types(module.tree) if not name.startswith("_"))
    assert named == sorted(set(named))
    assert {name for name in named if name in PARTICIPLES or re.fullmatch("[A-Z][a-z]*ed", name)} == NOUNS_IN_ED


def test_a_module_name_that_stands_twice_is_of_one_subject():
    counts = Counter(module.path.stem for module in MODULES)
    assert {name for name, count in counts.items() if count > 1} == OF_ONE_SUBJECT | {"__init__"}


def _types(tree):
    """Names of the classes of a module, and of its aliases, which are written like classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        yield from (one.id for one in targets if isinstance(one, ast.Name) and re.fullmatch("_?[A-Z][a-z]\\w*", one.id))


def test_every_test_file_has_a_name_of_its_own():
    """Test folders are no packages, so two files of one name could not be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_tests_do_not_import_each_other():
    """Shared code goes into a module of their folder, under a name that says what it is."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.startswith("test_")
    ]
    assert not wrong


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
