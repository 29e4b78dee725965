"""The comparison with an earlier commit: which of the two times is divided by which."""

import importlib
import io
from pathlib import Path

import pytest
from script_files import ROOT


@pytest.fixture
def against(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("against_commit")


def test_ratios_are_our_time_over_the_earlier_one(against):
    earlier, ours = (
        against.Checkout(Path(name), io.StringIO(), io.StringIO(f"{seconds}\n" * 6)) for name, seconds in (("a", 2), ("b", 3))
    )
    assert against.measured(earlier, ours, ["fine-tune", "calls"], 3) == {"fine-tune": [1.5] * 3, "calls": [1.5] * 3}
    assert sorted(earlier.asked.getvalue().split()) == ["calls"] * 3 + ["fine-tune"] * 3


def test_a_checkout_without_a_process_runs_help_alone(against):
    with pytest.raises(RuntimeError, match="earlier has no process to run 'fine-tune' in"):
        against.Checkout(Path("earlier")).seconds("fine-tune")
