"""The code of the repository and the lengths of its files and function bodies, read from the source of every language in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "examples", "native", "scripts", "src", "tests")
SCRIPTS = ("check", "demo", ".ci/run")
BRACES = (".c", ".cpp", ".css", ".h", ".inc", ".inl", ".js", ".sh")
PYTHON = (".py", ".pyi")

_COMMENT = {".sh": r"(?:^|(?<=\s))#[^\n]*", "": r"(?:^|(?<=\s))#[^\n]*", ".css": r"/\*.*?\*/"}
_TEXT = r'"(?:\\.|[^"\\\n])*"'
_CHARACTER = r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'"
_TYPE = re.compile(r"\b(?:class|struct|enum|union)(?: class)? (\w+)[^();=]*$")


def code_files() -> list[Path]:
    """All files that people write as code, but those that a program wrote: their first line says that nobody shall edit them."""
    found = [ROOT / name for name in SCRIPTS]
    for folder in FOLDERS:
        found += (path for path in (ROOT / folder).rglob("*") if path.suffix in (*BRACES, *PYTHON))
    return sorted(path for path in found if "do not edit" not in path.read_text(encoding="utf-8").split("\n", 1)[0])


def long_bodies(path: Path, most: int) -> list[str]:
    """Functions of a file whose bodies have more lines than that."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in PYTHON:
        return [f"{function.lineno} {function.name}" for function in functions(ast.parse(text)) if lines_of_body(function) > most]
    return [head for head, lines in blocks(text, path.suffix) if lines > most and not is_type_or_namespace(head)]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions of a module, methods and inner ones too."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def lines_of_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring: nobody should write a shorter Raises section to stay below the limit."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def blocks(text: str, suffix: str) -> Iterator[tuple[str, int]]:
    """What stands before every pair of braces, and how many lines lie between them.

    The one function that holds a whole JavaScript file is its scope and no block.
    """
    code = _without_texts(text, suffix)
    opened: list[tuple[str, int]] = []
    for brace in re.finditer(r"[{}]", code):
        if brace[0] == "{":
            before = code[: brace.start()]
            opened.append((re.split(r"[;{}]", before)[-1].strip(), before.count("\n")))
        else:
            head, line = opened.pop()
            if opened or suffix != ".js":
                yield head, code.count("\n", 0, brace.start()) - line - 1
    assert not opened


def _without_texts(text: str, suffix: str) -> str:
    """Code without comments, texts and lines of the preprocessor, every other character where it was."""
    parts = (_COMMENT.get(suffix, r"//[^\n]*|/\*.*?\*/"), r'R"\(.*?\)"', _TEXT, _CHARACTER)
    code = re.sub("|".join(parts), lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.DOTALL | re.MULTILINE)
    if suffix in (".c", ".cpp", ".h", ".inc", ".inl"):
        code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", code, flags=re.MULTILINE)
    return code


def is_type_or_namespace(head: str) -> bool:
    """Whether what stands before a brace opens a class, a namespace or the like, and no function or statement."""
    return head.startswith(("namespace", "extern")) or _TYPE.search(head) is not None
