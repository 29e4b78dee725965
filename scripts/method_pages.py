"""Write docs/methods: a page for every method and an index, from what modules register and the lines in results/.

Run it after adding or changing a method; with --check it only lists the pages that are out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from measured_lines import measured

from paretrim.cli.methods import KINDS, METHODS, recipe_path
from paretrim.method import Method
from paretrim.stages.distill.criteria import CRITERIA
from paretrim.stages.stage_table import STAGES

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "methods"
NOTE = "<!-- Written by scripts/method_pages.py from the METHODS of the modules; do not edit. -->\n\n"


def page_name(method: Method) -> str:
    """The file name of a method, with its kind, because names repeat across kinds."""
    words = f"{method.kind}-{method.name}".replace("+", "-plus").replace(":", "-of-")
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") + ".md"


def chosen_by(method: Method) -> str:
    """How a recipe chooses it."""
    setting = KINDS[method.kind].setting
    if method.kind == "stage":
        return f'`stage = "{method.name}"`'
    if setting == "distill.criteria":
        return f'`criteria = [{{ loss = "{method.name}" }}]` of the `distill` stage'
    if setting == "quantize.formats":
        return f'`grid = "{method.name}"` in `formats` of the `quantize` stage'
    if setting == "quantize.adjust":
        return f'`adjust = ["{method.name}"]` of the `quantize` stage'
    if setting == "quantize.mixed":
        return f'`mixed = {{ by = "{method.name}", ... }}` of the `quantize` stage'
    if setting:
        stage, key = setting.split(".")
        return f'`{key} = "{method.name}"` of the `{stage}` stage'
    if method.settings:
        return ", ".join(f"`{one.split('.')[1]}` of the `{one.split('.')[0]}` stage" for one in method.settings)
    return "the recipe below" if method.recipe else "the command line"


def owner_of(method: Method) -> type | None:
    """The settings class of a stage or a loss."""
    return {"stage": STAGES, "loss": CRITERIA}.get(method.kind, {}).get(method.name)


def description(owner: type) -> str:
    """What its docstring says about the settings, without sources and errors, in Markdown."""
    text = inspect.getdoc(owner) or ""
    kept = [part for part in text.split("\n\n") if not part.startswith(("Raises:", "Source:", "Sources:"))]
    plain = (re.sub(r":(?:class|func|data):`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", part).replace("``", "`") for part in kept)
    return "\n\n".join(textwrap.fill(re.sub(r":mod:", "", part), 120, break_on_hyphens=False) for part in plain)


def settings_of(method: Method) -> Iterator[tuple[str, str]]:
    """The settings relevant to it, with their defaults."""
    if method.kind == "stage":
        yield from defaults(STAGES[method.name])
    elif method.kind == "loss":
        yield from defaults(CRITERIA[method.name])
    else:
        for one in method.settings:
            stage, key = one.split(".")
            yield one, dict(defaults(STAGES[stage]))[key]


def defaults(owner: type) -> Iterator[tuple[str, str]]:
    """The fields of a settings class with their defaults as in a recipe; inherited fields come last."""
    own = owner.__annotations__
    for field in sorted(dataclasses.fields(owner), key=lambda field: field.name not in own):
        if field.name in ("budget", "loss"):
            continue
        value = getattr(field.default, "default", field.default)  # pydantic's fields hold theirs
        if value is dataclasses.MISSING or "Undefined" in repr(value):
            yield field.name, "required"
        else:
            yield field.name, "not set" if value is None else f"`{json.dumps(value)}`"


def page(method: Method) -> str:
    """Its page."""
    parts = [NOTE, f"# {method.name} ({method.kind})\n\n{method.what[0].upper()}{method.what[1:]}.\n\n"]
    parts.append(f"```text\n{method.formula}\n```\n\n- **Chosen by:** {chosen_by(method)}\n- **Source:** {method.source}\n")
    owner = owner_of(method)
    if owner:
        parts.append(f"\n## Settings\n\n{description(owner)}\n")
    rows = list(settings_of(method))
    if rows:
        parts.append("\n| setting | default |\n|---|---|\n" + "".join(f"| `{name}` | {value} |\n" for name, value in rows))
    parts.append(f"\n## Measured\n\n{measured(method)}")
    path = recipe_path(method)
    if path:
        recipe = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
        parts.append(f"\nA recipe, [{Path(path).name}](../../{path}):\n\n```toml\n{recipe}\n```\n")
    return "".join(parts)


def index() -> str:
    """All pages by kind."""
    parts = [
        NOTE,
        "# Methods\n\n`paretrim methods` shows the same list. Settings and measurements by topic: [pruning](../pruning.md), "
        "[quantization](../quantization.md), [distillation](../distillation.md).\n",
    ]
    for kind in KINDS:
        rows = [f"| [{one.name}]({page_name(one)}) | {one.what} | {one.source} |\n" for one in METHODS if one.kind == kind]
        parts.append(f"\n## {kind[0].upper()}{kind[1:]}\n\n| name | what it does | source |\n|---|---|---|\n{''.join(rows)}")
    return "".join(parts)


def pages() -> Mapping[str, str]:
    """Every file of the folder."""
    return {"README.md": index()} | {page_name(method): page(method) for method in METHODS}


def main() -> int:
    """Write the pages, or with --check list those that are out of date."""
    wanted = pages()
    if len(wanted) != len(METHODS) + 1:
        raise SystemExit("two methods would have one page; see page_name")
    if "--check" in sys.argv[1:]:
        there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*")}
        stale = sorted(name for name in there.keys() | wanted if there.get(name) != wanted.get(name))
        if stale:
            sys.stderr.write(f"out of date: {', '.join(stale)}; run scripts/method_pages.py\n")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
