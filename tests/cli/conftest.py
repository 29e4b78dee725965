import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from efforts import LEAST

from paretrim.cli import deployed, main
from paretrim.results.run_folder import index_of

SOURCE = Path(__file__).parents[2] / "src"

NETWORK = """
from torch import nn

def make(classes, channels):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, classes),
    )
"""

RECIPE = """
model = { network = "cli_tiny_network:make" }
data = { name = "digits" }
dense = { epochs = 2, learning_rate = 0.1 }
calibration_images = 64

[[stages]]
stage = "prune"
sparsity = 0.5
budget = { epochs = EPOCHS }

[[stages]]
stage = "quantize"
budget = { epochs = 0 }
"""

STUDY = """
name = "tiny"
seeds = [0, 1]
epochs = 1
arms = ["quantize", "prune+quantize"]

[base]
model = { network = "cli_tiny_network:make" }
data = { name = "digits" }
dense = { epochs = 1 }

[stages.quantize]

[stages.prune]
sparsity = 0.5
"""


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """A folder with a user-defined network, recipes (``short.toml``, ``long.toml``, ``endless.toml``) and ``study.toml``."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "cli_tiny_network.py").write_text(NETWORK)
    (folder / "short.toml").write_text(RECIPE.replace("EPOCHS", "1"))
    (folder / "long.toml").write_text(RECIPE.replace("EPOCHS", "12"))
    (folder / "study.toml").write_text(STUDY)
    (folder / "endless.toml").write_text(RECIPE.replace("EPOCHS", "1000000"))
    return folder


@pytest.fixture
def at_desk(desk, monkeypatch):
    """Commands run in that folder; their additions to ``sys.path`` are removed afterwards."""
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return desk


@pytest.fixture(scope="session")
def finished(desk):
    """The folder of a finished run of ``short.toml`` without timings.

    All tests of a worker share it, in an order that differs from run to run: a test that adds outcomes runs in a copy.
    """
    path, here = [*sys.path], Path.cwd()
    os.chdir(desk)
    try:
        assert main(["run", "short.toml", "--folder", "finished", "--effort", "none"]) == 0
    finally:
        os.chdir(here)
        sys.path[:] = path
    folder = desk / "finished"
    before = (folder / "outcomes.jsonl").read_bytes()
    yield folder
    assert (folder / "outcomes.jsonl").read_bytes() == before, "a test added outcomes to the folder that all tests share"


@pytest.fixture
def command(capsys):
    """Run a command in this process; its exit code, standard output and standard error."""

    def give(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return give


@pytest.fixture
def command_json(command):
    """Run a command with ``--json``; its exit code and the JSON value on standard output."""

    def give(*arguments):
        status, out, _ = command(*arguments, "--json")
        return status, json.loads(out)

    return give


@pytest.fixture
def launch(desk):
    """Start a command in a process of its own; killed at the end of the test if it still runs."""
    started = []

    def start(*arguments):
        environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        # Shells start what runs in the background with Ctrl-C ignored, and it would be for the command too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [sys.executable, "-m", "paretrim", *map(str, arguments)],
            cwd=desk,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def quick_is_the_least(monkeypatch):
    """``--effort quick`` measures as little as possible and drops nothing, so that no test fails on a busy machine."""
    monkeypatch.setattr(deployed, "EFFORTS", {**deployed.EFFORTS, "quick": LEAST})


@pytest.fixture(scope="session")
def files(finished):
    """The ``.onnx`` files of the finished run by label."""
    return {entry["label"]: finished / entry["folder"] / "model.onnx" for entry in index_of(finished)}


@pytest.fixture(scope="session")
def candidate(finished):
    return next((finished / "stages").glob("*/candidate.safetensors"))
