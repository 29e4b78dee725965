"""What the page of a method says has been measured."""

import importlib
import re

import pytest
from script_files import ROOT

from paretrim.cli.methods import METHODS

TABLES = ("PRUNED", "RECOVERED", "LOSSES", "FORMATS", "MIXTURES", "UNTRAINED", "SPLITS", "SMALLER")


@pytest.fixture
def written(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("measured_lines")


def method(kind, name):
    return next(one for one in METHODS if (one.kind, one.name) == (kind, name))


def test_every_key_is_a_method(written):
    known = {(one.kind, one.name) for one in METHODS}
    assert {key for table in TABLES for key in getattr(written, table)} <= known


def test_numbers_are_those_of_the_lines(written, monkeypatch):
    rows = [
        {"method": name, "pattern": "1x4", "sparsity": 0.9, "seed": seed, "accuracy": value}
        for name, values in {"magnitude, one shot": (0.80, 0.82, 0.84), "SNIP": (0.81, 0.84, 0.87)}.items()
        for seed, value in enumerate(values)
    ]
    monkeypatch.setattr(written, "lines", lambda name: rows if name == "pruning-methods-digits" else [])
    line = written.measured(method("score", "snip"))
    assert (
        "blocks of four, 3 seeds, 8 bits: 84.0 ± 7.5 %; against magnitude +2.0 [-0.5, +4.5] points: no difference shown" in line
    )
    assert line.count("\n") == 1


def test_a_method_without_a_study_has_the_line_of_its_recipe(written, monkeypatch):
    rows = [
        {"recipe": "together", "seed": seed, "accuracy": own, "plain": "the same, labels only", "plain_accuracy": plain}
        | {"bytes": 2000 + seed, "zeros": 0.75}
        for seed, (own, plain) in enumerate([(0.90, 0.88), (0.92, 0.90), (0.94, 0.92)])
    ]
    monkeypatch.setattr(written, "lines", lambda name: rows if name == "recipes" else [])
    assert written.measured(method("stage", "together")) == (
        "- The recipe below, as it is written, on digits, 3 seeds: 92.0 ± 5.0 %, 2,001 bytes, 75.00 % zeros; against *the same, "
        "labels only* +2.0 [+2.0, +2.0] points ([study](../studies/recipes.md))\n"
    )
    del rows[1:]
    line = written.measured(method("stage", "together"))
    assert "1 seed: 90.0 %, 2,000 bytes" in line
    assert "+2.0 points (one seed)" in line


def test_an_interval_that_holds_0_shows_nothing(written):
    own = {0: 0.90, 1: 0.92, 2: 0.94}
    assert written.difference_of(own, {0: 0.91, 1: 0.92, 2: 0.93}) == "+0.0 [-2.5, +2.5] points: no difference shown"
    assert written.difference_of(own, {0: 0.89, 1: 0.91, 2: 0.93}) == "+1.0 [+1.0, +1.0] points"


def test_a_method_without_a_recipe_says_why_it_has_no_line(written):
    for key in written.NO_LINE:
        assert not method(*key).recipe
        assert written.measured(method(*key)) == f"{written.NO_LINE[key]}\n"


def test_a_recipe_that_was_not_run_yet_says_so(written, monkeypatch):
    monkeypatch.setattr(written, "lines", lambda name: [])
    assert written.measured(method("stage", "together")) == "Not measured yet.\n"


def test_links_lead_to_pages(written):
    for one in METHODS:
        for link in re.findall(r"\]\(\.\./([^)]+)\)", written.measured(one)):
            assert (ROOT / "docs" / link).is_file(), (one.name, link)
