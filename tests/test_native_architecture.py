"""The levels of the C++ tree, as docs/architecture.md names them, held by reading its includes."""

import re
from pathlib import Path

from source_modules import in_circles

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"

LEVELS = (
    {"types"},
    {"graph", "kernels", "threads"},
    {"plan", "training", "trim"},
    {"run"},
    {"bench", "fuzz", "include", "onnxruntime", "python", "tests"},
)
"""Folders of native/, lowest first. A folder includes from lower levels only: neighbours on one level never know each other."""

SOURCES = sorted(path for path in NATIVE.rglob("*") if path.suffix in (".h", ".cpp", ".inl", ".inc"))
INCLUDE = re.compile(r'^\s*#include "([^"]+)"', re.MULTILINE)


def _level(folder: str) -> int:
    for index, folders in enumerate(LEVELS):
        if folder in folders:
            return index
    raise AssertionError(f"'native/{folder}' is on no level; give it one in LEVELS and in docs/architecture.md")


def _includes(path: Path) -> list[str]:
    """What a file includes of this tree, as paths below native/; its own folder need not be named."""
    found = INCLUDE.findall(path.read_text(encoding="utf-8"))
    return [name if "/" in name else f"{path.parent.name}/{name}" for name in found]


def test_includes_point_down():
    wrong = []
    for path in SOURCES:
        here = path.relative_to(NATIVE).parts[0]
        for name in _includes(path):
            there = name.split("/")[0]
            if there != here and _level(there) >= _level(here):
                wrong.append(f"{path.relative_to(ROOT)} includes {name}")
    assert not wrong


def test_every_include_names_a_file():
    """Also the includes inside ``#if``, which a compiler on this machine may never reach."""
    missing = [
        f"{path.relative_to(ROOT)}: {name}" for path in SOURCES for name in _includes(path) if not (NATIVE / name).is_file()
    ]
    assert not missing


def test_headers_do_not_include_each_other_in_a_circle():
    edges = {str(path.relative_to(NATIVE)): set(_includes(path)) for path in SOURCES}
    assert in_circles(edges) == {}


def test_the_levels_name_what_exists_and_nothing_else():
    named = sorted(folder for folders in LEVELS for folder in folders)
    assert named == sorted({path.relative_to(NATIVE).parts[0] for path in SOURCES})


def test_types_have_nouns_for_names():
    """No participles: a type says what it is, not what happens to it. Two that end like one are the names of what is done."""
    names = {name for path in SOURCES for name in re.findall(r"\b(?:class|struct) ([A-Z]\w+)", path.read_text(encoding="utf-8"))}
    assert len(names) > 100
    assert sorted(name for name in names if re.search("(?:ed|ing)$", name)) == ["Flattening", "Rescaling"]


def test_the_levels_are_those_of_the_document():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## Levels of the native runtime")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert [set(row.split("`")[1::2]) for row in rows] == [set(level) for level in LEVELS]
