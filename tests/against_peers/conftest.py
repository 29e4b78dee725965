"""The modules of benchmarks/peers.py, as the command sees them, and a folder for the files exchanged with peers."""

import sys
from pathlib import Path

import numpy as np
import pytest
from peer_results import module

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = (ROOT / "benchmarks", ROOT / "benchmarks" / "peers")


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    """As when the command or a peer's script runs; their modules are forgotten afterwards."""
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(str(folder))
    yield
    for path in (path for folder in FOLDERS for path in folder.glob("*.py")):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for the files exchanged with peers, and stubs of the commands."""
    peers = module("peers")
    made = peers.Place(tmp_path / "run")
    made.given("resnet20", 0).mkdir(parents=True)
    (made.given("resnet20", 0) / "model.onnx").write_bytes(b"float")
    np.save(made.root / peers.TEST_LABELS, np.array([0, 1, 2, 2]))
    np.savez(made.root / peers.TRAINING, images=np.zeros((1, 3, 2, 2), np.uint8), labels=np.zeros(1, np.int64))

    def run_command(command, folder, log):
        if "serve.py" in str(command[1]):
            np.save(folder / "logits.npy", np.eye(3)[[0, 1, 2, 0]])
        else:
            (folder / "int8.trim").write_bytes(b"12345")
        return 2.0, 1.0

    monkeypatch.setattr(peers, "run_command", run_command)
    return made
