"""Where something new goes: the lists of places in docs/architecture.md, counted for what is there.

For each kind one or two that exist stand for the next one. Every file that names it is named by the kind's paragraph, and no
other file names it. ``graph/test_operation_places.py`` says more of operations.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE, NATIVE = ROOT / "src" / "paretrim", ROOT / "native"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Adding something")[1]
KINDS = ("stage", "score", "loss", "weight grid", "task", "runtime", "graph operation", "instruction set")


@dataclass(frozen=True)
class Example:
    """One of a kind: the word that code knows it by, the module that is its own, and all other files that name it."""

    kind: str
    word: str
    own: str
    others: frozenset[str]


def one(kind: str, word: str, own: str, *others: str) -> Example:
    return Example(kind, word, own, frozenset(others))


EXAMPLES = (
    one("stage", "acdc", "stages/prune/acdc.py", "stages/stage_table.py", "cli/methods.py"),
    one("stage", "gsm", "stages/prune/gsm.py", "stages/stage_table.py", "cli/methods.py"),
    one("score", "grasp", "stages/prune/saliency.py", "stages/prune/score_table.py"),
    one("score", "snip", "stages/prune/saliency.py", "stages/prune/score_table.py"),
    one("loss", "relations", "stages/distill/relations.py", "stages/distill/criteria.py", "cli/methods.py"),
    one("loss", "review", "stages/distill/review.py", "stages/distill/criteria.py", "cli/methods.py"),
    one("weight grid", "dorefa", "network/dorefa.py", "network/formats.py", "cli/methods.py"),
    one("weight grid", "trained_ternary", "network/trained_ternary.py", "network/formats.py", "cli/methods.py"),
    one("task", "REGRESSION", "train/tasks.py"),
    one(
        "runtime",
        "openvino",
        "deploy/openvino_runtime.py",
        "deploy/runnable.py",
        "bench/machine.py",
        "cli/parser.py",
        "cli/options.py",
        "search/study.py",
    ),
    one("graph operation", "matmul", "graph/operations/products.py", "network/torch_forms.py", "deploy/onnx_operations.py"),
)


def words_of(path: Path) -> set[str]:
    """What a module names in code: names, imported modules and texts, cut into words; no comments and no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Name):
            found.append(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    documents = {
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    return {word for text in found if text not in documents for word in re.findall(r"\w+", text)}


WORDS = {path.relative_to(SOURCE).as_posix(): words_of(path) for path in sorted(SOURCE.rglob("*.py"))}


def paragraph(kind: str) -> str:
    """What the page says of a kind."""
    (text,) = re.findall(rf"\*\*An? {kind}\.\*\*.*?(?=\n\n)", PAGE, re.DOTALL)
    return " ".join(text.split())


def names(text: str, path: str) -> bool:
    """Whether a paragraph names a file, with its folder or without."""
    return any(f"{place}`" in text for place in (path, path.split("/", 1)[1], path.rsplit("/", 1)[1]))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.word)
def test_one_of_a_kind_is_named_where_the_page_says(example):
    naming = {path for path, words in WORDS.items() if {example.word, f"{example.word}_runtime"} & words}
    captured = {path for path in naming if path.startswith("capture/")}
    assert naming - captured - {example.own, "__init__.py"} == example.others
    text = paragraph(example.kind)
    assert [path for path in example.others if not names(text, path)] == []
    assert not captured or "capture/driver.py`" in text


@pytest.mark.parametrize("name", ["neon_dot", "avx512_vnni"])
def test_an_instruction_set_is_named_where_the_page_says(name):
    sources = [*NATIVE.rglob("*.cpp"), *NATIVE.rglob("*.h"), *NATIVE.rglob("*.inl"), NATIVE / "CMakeLists.txt"]
    spelled = re.compile(rf"\b(?:isa|kernels)_{name}\b")
    code = {path: re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8")) for path in sources}
    naming = {path.relative_to(NATIVE).as_posix() for path, text in code.items() if spelled.search(text)}
    assert naming == {f"kernels/isa_{name}.cpp", "kernels/kernels.h", "kernels/cpu.cpp", "CMakeLists.txt"}
    text = paragraph("instruction set")
    assert [path for path in ("kernels/kernels.h", "kernels/cpu.cpp", "native/CMakeLists.txt") if f"{path}`" not in text] == []


def test_every_kind_is_counted():
    assert {*KINDS} - {"instruction set"} == {example.kind for example in EXAMPLES}
    for kind in KINDS:
        assert len(paragraph(kind)) > 100
