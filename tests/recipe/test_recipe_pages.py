"""The tables of keys in docs/ have every key that a recipe can set, with its default."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from paretrim.cli.methods import KINDS
from paretrim.data.spec import DataSpec
from paretrim.models.spec import ModelSpec
from paretrim.run.recipe import Recipe
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.mixed import Mixture
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage_table import STAGES
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
SUBJECTS = {
    "pruning": ("score", "channel score", "allocation", "pattern", "schedule"),
    "quantization": ("weight grid", "activation grid", "scales", "calibrator", "adjustment", "mixture"),
    "distillation": ("loss",),
}
"""The kinds of methods that each page explains."""

TABLES = {
    "### Top level": ("recipes", Recipe),
    "### Model and teacher": ("recipes", ModelSpec),
    "### Data": ("recipes", DataSpec),
    "### Budget": ("recipes", Budget),
    "### Execution": ("recipes", Execution),
    "# Pruning": ("pruning", Prune),
    "# Quantization": ("quantization", Quantize),
    "## Mixed precision": ("quantization", Mixture),
    "# Distillation": ("distillation", Distill),
}
"""The heading above each table, its page, and the settings that it lists."""


def shown(page: str, heading: str) -> dict[str, str]:
    """Keys and defaults of the first table of keys below a heading."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    rows = re.search(r"^\| key[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {key: default for keys, default, *_ in cells for key in re.findall(r"`(\w+)`", keys)}


def default_of(field: dataclasses.Field) -> str:
    """Its default as the page writes it; pydantic keeps some of them in its own description of a field."""
    found = field.default.default if isinstance(field.default, FieldInfo) else field.default
    if found is dataclasses.MISSING or found is PydanticUndefined:
        factory = field.default.default_factory if isinstance(field.default, FieldInfo) else None
        return "" if factory else "required"
    if field.name == "choices":
        return "4, 6 and 8 bits" if [one.bits for one in found] == [4, 6, 8] else "?"
    return "not set" if found is None else f"`{json.dumps(found)}`"


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_has_every_key_with_its_default(heading):
    page, settings = TABLES[heading]
    found = shown(page, heading)
    fields = {field.name: field for field in dataclasses.fields(settings) if field.name != "budget"}
    assert found == {name: default_of(field) for name, field in fields.items()}


@pytest.mark.parametrize(("page", "kind"), [(page, kind) for page, kinds in SUBJECTS.items() for kind in kinds])
def test_a_page_names_every_method_of_its_subject(page, kind):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in KINDS[kind].names if f"`{name}`" not in text and f'"{name}"' not in text] == []


def test_every_stage_has_a_row_with_its_settings():
    text = (DOCS / "recipes.md").read_text(encoding="utf-8").partition("## Stages\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", text, re.MULTILINE))
    del rows["stage"]  # the head of the table
    assert rows.keys() == STAGES.keys()
    assert rows.pop("finetune") == "none"
    for name, settings in rows.items():
        target = re.search(r"\]\(([^)]+)\)", settings)[1]
        text = (DOCS / target).read_text(encoding="utf-8")
        assert all(f"`{field.name}`" in text for field in dataclasses.fields(STAGES[name]) if field.name != "budget"), name
