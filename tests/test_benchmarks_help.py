"""Every benchmark with options prints its help, and so can be imported."""

import importlib
import sys

import pytest
from script_files import ROOT

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "ArgumentParser(" in path.read_text(encoding="utf-8"))


def test_there_are_benchmarks():
    assert len(NAMES) > 15


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_prints_its_help(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main()
    assert stopped.value.code == 0
    assert "options:" in capsys.readouterr().out
