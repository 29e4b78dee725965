"""The levels of docs/architecture.md and the lengths of docs/house-rules.md, held by reading the source; nothing is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from function_bodies import ROOT, blocks, code_files, is_type_or_namespace, long_bodies
from source_modules import IMPORTS, INSIDE, NAMES, SOURCE, in_circles, part_of

LEVELS = (
    {"digest", "method", "remark", "stored_fields", "torch_settings", "visible"},
    {"errors"},
    {"files", "intervals", "own_code", "plain_settings", "settings"},
    {"bench", "data", "graph", "lock", "metric", "models"},
    {"curves", "history", "runtime"},
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
    "plain_settings",
    "remark",
    "report",
    "results",
    "runtime",
    "stored_fields",
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

FILE_LINES = 350
FUNCTION_LINES = 50


def _level(part: str) -> int:
    for index, parts in enumerate(LEVELS):
        if part in parts:
            return index
    raise AssertionError(f"'{part}' is on no level; give it one in LEVELS and in docs/architecture.md")


MOST_LEVELS = 12


def test_the_levels_are_few():
    assert len(LEVELS) <= MOST_LEVELS


def test_imports_point_down():
    wrong = []
    for found in INSIDE:
        here, there = part_of(found.importer), part_of(found.imported)
        if not found.importer or here == there:
            continue
        if _level(there) >= _level(here):
            wrong.append(f"{found.importer}:{found.line} imports {found.imported}")
    assert not wrong


def test_the_levels_name_what_exists_and_nothing_else():
    named = [part for parts in LEVELS for part in parts]
    assert sorted(named) == sorted({part_of(name) for name in NAMES if name})


def test_the_package_itself_imports_nothing_of_its_own_until_asked():
    assert [found for found in INSIDE if found.importer == "" and found.when == "module"] == []


def test_no_import_cycles():
    """Over single modules, imports inside functions and those for types included: a postponed cycle is still one."""
    edges: dict[str, set[str]] = {name: set() for name in NAMES}
    for found in INSIDE:
        target = found.imported.removeprefix("paretrim.")
        if found.importer and target in NAMES:
            edges[found.importer].add(target)
    assert in_circles(edges) == {}


def test_imports_inside_functions_are_few_and_have_a_reason():
    lazy = {
        found.importer for found in IMPORTS if found.when == "function" and part_of(found.importer) != "cli" and found.importer
    }
    assert lazy == set(LAZY)


def test_the_torch_free_zone_imports_only_itself():
    wrong = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in IMPORTS
        if part_of(found.importer) in TORCH_FREE and found.when != "types"
        if found.imported.split(".")[0] == "torch" or (found in INSIDE and part_of(found.imported) not in TORCH_FREE)
    ]
    assert not wrong


def test_the_torch_free_zone_imports_without_torch():
    names = sorted(f"paretrim.{name}" for name in NAMES if part_of(name) in TORCH_FREE)
    program = (
        "import importlib, sys\n"
        "for blocked in ('torch', 'pydantic', 'onnx', 'onnxruntime', 'openvino'): sys.modules[blocked] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(SOURCE.parent), "PATH": ""}


@pytest.mark.parametrize("path", code_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_its_functions_too(path: Path):
    """In every language; where bodies stand in braces, all that does but classes and namespaces, and with it every function."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES
    assert long_bodies(path, FUNCTION_LINES) == []


def test_the_lengths_are_those_of_the_code():
    text = (
        "namespace a {\nstruct B : C<D> {\n  int e = '{';  // }\n"
        '  template <class T>\n  T f(T g) {\n    if (g) {\n      h("}");\n    }\n    return g;\n  }\n};\n}\n'
    )
    assert [(head.split("\n")[-1].strip(), lines) for head, lines in blocks(text, ".cpp")] == [
        ("if (g)", 1),
        ("T f(T g)", 4),
        ("struct B : C<D>", 8),
        ("namespace a", 10),
    ]
    assert [is_type_or_namespace(head) for head, _ in blocks(text, ".cpp")] == [False, False, True, True]


def test_the_lengths_of_other_languages_are_those_of_the_code(tmp_path):
    script = "f() { # of {\n  echo '{' \"}\"\n  g # }\n}\nif x; then\n  y=${z#a}\nfi\n"
    assert [lines for head, lines in blocks(script, ".sh") if head.endswith("f()")] == [2]
    page = '(() => {\n  const f = (a) => {\n    g("{"); // }\n    h();\n  };\n  f();\n})();\n'
    assert [(head, lines) for head, lines in blocks(page, ".js")] == [("const f = (a) =>", 2)]
    (tmp_path / "a.py").write_text('def f():\n    """Two\n    lines."""\n    a = 1\n\n    return a\n')
    assert (long_bodies(tmp_path / "a.py", 2), long_bodies(tmp_path / "a.py", 3)) == (["1 f"], [])
    (tmp_path / "a.h").write_text("int f() {\n  return\n      1;\n}\n")
    assert (long_bodies(tmp_path / "a.h", 1), long_bodies(tmp_path / "a.h", 2)) == (["int f()"], [])


def test_what_a_program_wrote_is_no_code_and_what_people_wrote_is():
    found = {str(path.relative_to(ROOT)) for path in code_files()}
    assert "native/graph/operations.inc" not in found
    assert {
        "check",
        "src/paretrim/report/page.js",
        "tests/test_architecture.py",
        "scripts/native.sh",
        "examples/classify.c",
    } <= found


def test_the_levels_are_those_of_the_document():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    written = [set(line.split("`")[1::2]) for line in text.splitlines() if line[:1].isdigit() and line.split(". `")[0].isdigit()]
    assert written == [set(level) for level in LEVELS]
