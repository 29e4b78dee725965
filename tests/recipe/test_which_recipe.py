"""docs/which-recipe.md: every recipe that it names exists, and every joint method has one."""

import re
from pathlib import Path

import pytest

from paretrim.run.recipe import read_recipe

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "which-recipe.md"

JOINT = {
    "distil, then prune": ("distill", "prune"),
    "prune, then distil": ("prune", "distill"),
    "prune while distilling": ("prune+distill",),
    "prune and distil with two teachers": ("prune+distill+distill",),
    "choose channels by features and correlation": ("prune", "distill", "gsm+distill", "distill"),
    "reconstruct the features of a pruned layer": ("thinet", "distill"),
    "quantization-aware training while distilling": ("quantize+distill",),
    "quantize, then distil: float teacher, quantized student": ("quantize", "distill"),
    "quantized teacher, float student": ("prune", "distill"),
    "quantized teacher, quantized student": ("quantize+distill",),
    "low precision from scratch": ("quantize+distill",),
    "prune single weights, then quantize": ("prune", "quantize"),
    "remove channels, then quantize": ("prune", "quantize"),
    "Deep Compression": ("prune", "prune", "quantize"),
    "CLIP-Q": ("clipq",),
    "prune, quantize and distil at once": ("prune+quantize+distill",),
    "PQK": ("prune+quantize", "distill"),
    "JPQD": ("movement+quantize+distill",),
    "APQ without its search": ("prune", "quantize"),
}
"""The joint methods of the survey, as the page calls them, with the stages of the first recipe named for each."""


@pytest.fixture(scope="module")
def rows():
    """The recipes of each combination."""
    table = PAGE.read_text(encoding="utf-8").split("## By combination")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return {row[0]: re.findall(r"\[([a-z0-9-]+)\]\(\.\./recipes/methods/\1\.toml\)", row[1]) for row in cells[2:]}


def test_every_recipe_that_the_page_names_exists():
    named = re.findall(r"\]\(\.\./(recipes/methods/[^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", JOINT)
def test_every_joint_method_has_a_recipe_with_its_stages(name, rows):
    assert rows[name], f"'{name}' names no recipe"
    stages = read_recipe(ROOT / "recipes" / "methods" / f"{rows[name][0]}.toml").stages
    assert tuple("+".join(part.name for part in getattr(stage, "parts", (stage,))) for stage in stages) == JOINT[name]


def test_the_table_has_no_row_without_a_recipe(rows):
    assert [name for name, recipes in rows.items() if not recipes] == []
