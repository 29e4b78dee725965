import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import paretrim


def test_every_public_name_resolves_to_what_type_checkers_are_told():
    tree = ast.parse(Path(inspect.getfile(paretrim)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(told) == paretrim.__all__
    for name, module in told.items():
        assert getattr(paretrim, name) is getattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name)


def test_names_are_listed_and_unknown_ones_refused():
    assert set(paretrim.__all__) <= set(dir(paretrim))
    with pytest.raises(AttributeError, match="module 'paretrim' has no attribute 'Prun'"):
        _ = paretrim.Prun


def test_importing_the_package_imports_no_torch():
    program = (
        "import sys, paretrim\n"
        "paretrim.open_runnable, paretrim.measure, paretrim.Outcome, paretrim.ParetrimError\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
