"""The table of claims is what its command makes of the lines in results/, and its verdicts follow from intervals."""

import importlib
import sys

import pytest
from script_files import ROOT

from paretrim.intervals import Estimate


@pytest.fixture
def maker(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("claims")
    for name in ("claims", "claim_verdicts"):
        sys.modules.pop(name, None)


@pytest.fixture
def verdicts(maker):
    return importlib.import_module("claim_verdicts")


def test_the_table_is_fresh(maker):
    page = maker.PAGE.read_text(encoding="utf-8")
    assert page == maker.page_of(page), "run python benchmarks/claims.py"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "holds"), (-0.3, -0.1, "does not hold"), (-0.1, 0.3, "not shown"), (0.0, 0.3, "not shown")],
)
def test_a_verdict_names_a_direction_only_where_the_interval_leaves_out_0(verdicts, low, high, word):
    assert verdicts.direction(Estimate((low + high) / 2, low, high)) == word


def test_without_an_interval_nothing_is_shown(verdicts):
    assert verdicts.direction(None) == "not shown"


def test_every_claim_names_a_paper_and_a_page_that_is_there(maker, verdicts):
    for claim in maker.CLAIMS:
        assert claim.paper in maker.PAPERS
        found = claim.verdict()
        assert (maker.PAGE.parent / f"{found.page}.md").is_file() if found.page else found.word == verdicts.MISSING
