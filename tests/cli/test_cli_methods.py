"""Every registered method has a value, a recipe of its own size that uses it, and a line of ``paretrim methods``."""

import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from paretrim.cli import main, methods
from paretrim.cli.methods import KINDS, METHODS, recipe_path
from paretrim.run.recipe import read_recipe
from paretrim.stages.stage_table import STAGES
from paretrim.stages.together import Together

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = {path.stem: path for path in sorted((ROOT / "recipes" / "methods").glob("*.toml"))}
PARTS = [(method.kind, method.name) for method in METHODS]


def flat(stages):
    """The stages, including the parts of a together stage."""
    return [one for stage in stages for one in (stage, *(flat(stage.parts) if isinstance(stage, Together) else ()))]


def test_every_registered_name_has_one_method():
    registered = [(kind, name) for kind, facts in KINDS.items() for name in facts.names]
    assert sorted(registered) == sorted(one for one in PARTS if KINDS[one[0]].names)
    assert len(set(PARTS)) == len(PARTS)


def test_no_module_with_methods_is_forgotten():
    """Methods in a module that the table does not list, or of an unknown kind, would not be shown."""
    written = []
    for path in sorted((ROOT / "src" / "paretrim").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHODS":
                written += [call for call in ast.walk(node.value) if isinstance(call, ast.Call)]
    assert len(written) == len(METHODS) > 30


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_a_method_says_what_it_is(method):
    assert method.source
    assert method.formula
    assert re.fullmatch(r"[^\n]{10,150}[^.\n]", method.what)
    for setting in method.settings:
        stage, _, name = setting.partition(".")
        assert name in {field.name for field in dataclasses.fields(STAGES[stage])}


@pytest.mark.parametrize("method", [one for one in METHODS if one.recipe], ids=lambda method: f"{method.kind}-{method.name}")
def test_the_recipe_of_a_method_uses_it(method):
    stages = flat(read_recipe(ROOT / recipe_path(method)).stages)
    assert any(uses(stage, method) for stage in stages)


def uses(stage, method):
    if method.kind == "stage":
        return stage.name == method.name
    if method.kind == "combination":
        return method.recipe == method.name
    if method.kind == "option":
        return bool(getattr(stage, method.name, None))
    where, _, setting = KINDS[method.kind].setting.partition(".")
    if stage.name != where:
        return False
    if method.kind == "weight grid":
        return method.name in {"uniform", *(one.grid for one in (stage.formats or {}).values())}
    if method.kind in ("score", "channel score") and (stage.pattern == "channel") != (method.kind == "channel score"):
        return False
    if method.kind == "loss":
        return method.name in {one.loss for one in stage.criteria} or (method.name == "kd" and not stage.criteria)
    if method.kind == "mixture":
        return stage.mixed is not None and stage.mixed.by == method.name
    if method.kind == "adjustment":
        return method.name in stage.adjust
    chosen = getattr(stage, setting)
    return chosen == method.name or (method.name == "n:m" and re.fullmatch(r"\d:\d", chosen) is not None)


def test_every_recipe_belongs_to_a_method():
    assert set(RECIPES) == {method.recipe for method in METHODS if method.recipe}


def test_the_command_lists_all(capsys):
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["kind"], one["name"]) for one in listed] == PARTS
    assert all({"name", "kind", "source", "recipe", "what"} <= set(one) for one in listed)
    assert {one["recipe"] for one in listed if one["recipe"]} == {str(path.relative_to(ROOT)) for path in RECIPES.values()}
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for _, name in PARTS)
    assert max(len(line) for line in shown.splitlines()) <= 120


@pytest.mark.parametrize("columns", [40, 80, 109])
def test_a_narrow_terminal_gets_a_list(capsys, monkeypatch, columns):
    """Five columns of a table would leave room for one or two words in each, and take seven lines a method."""
    monkeypatch.setattr(methods, "result_console", lambda: Console(width=columns))
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()[:-1]  # the last one says where recipes are
    assert max(len(line) for line in lines) <= columns
    assert {line for line in lines if line and not line.startswith(" ") and "docs/methods" not in line} >= set(KINDS) - {"search"}
    flat_text = " ".join(shown.split())
    assert all(f" {one.name}: {one.what} ({one.source}" in flat_text for one in METHODS)
    assert columns < 80 or len(lines) < 4 * len(METHODS)
