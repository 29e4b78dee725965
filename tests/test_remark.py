"""A warning names the user's own line, and commands print it in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from paretrim.capture.driver import capture
from paretrim.remark import remark


def test_it_names_the_line_of_the_caller():
    with pytest.warns(UserWarning, match="the network ends in softmax, which is left out") as said:
        capture(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1)), (1, 2, 2))
    assert [Path(one.filename).name for one in said] == ["test_remark.py"]
    with pytest.warns(UserWarning, match="so it is") as said:
        remark("so it is")
    assert said[0].filename == __file__


def test_a_command_prints_it_in_one_line():
    program = """
import sys, warnings
from paretrim.cli.main import main
from paretrim.remark import remark
sys.modules[main.__module__]._perform = lambda *_: remark("one\\n\\x1b[2Jtwo") or 0
before = warnings.formatwarning
assert main(["doctor"]) == 0
assert warnings.formatwarning is before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, encoding="utf-8")
    assert done.stderr == "warning: one \ufffd[2Jtwo\n"
