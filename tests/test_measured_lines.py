"""What the page of a method says has been measured."""

import importlib
import re

import pytest
from script_files import ROOT

from paretrim.cli.methods import METHODS

TABLES = ("PRUNED", "LOSSES", "FORMATS", "MIXTURES", "UNTRAINED", "SPLITS", "SMALLER")


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
    assert "blocks of four, 3 seeds, 8 bits: 84.0 ± 7.5 %; against magnitude +2.0 [-0.5, +4.5] points" in line
    assert line.count("\n") == 1


def test_a_method_without_lines_says_so(written):
    assert written.measured(method("stage", "together")) == "Not measured yet.\n"


def test_links_lead_to_pages(written):
    for one in METHODS:
        for link in re.findall(r"\]\(\.\./([^)]+)\)", written.measured(one)):
            assert (ROOT / "docs" / link).is_file(), (one.name, link)
