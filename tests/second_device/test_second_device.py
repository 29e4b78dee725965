"""The same code on every device: what trains on a GPU trains on the device of ``second_device.cpp``, to the same numbers."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
DEVICES = "cpu", "second"


def trained(what, folder):
    """Result folders of both devices, made in separate processes: a process can register one such device only."""
    paths = [HERE, HERE.parent / "stages", HERE.parents[1] / "src", os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}

    def train(device):
        (folder / device).mkdir()
        command = [sys.executable, HERE / "train_there.py", device, what, folder / device]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1700)
        assert done.returncode == 0, done.stderr[-3000:]
        return folder / device

    with ThreadPoolExecutor() as both:
        return tuple(both.map(train, DEVICES))


@pytest.mark.slow
def test_every_stage_trains_to_the_same_numbers(tmp_path):
    here, there = trained("stages", tmp_path)
    assert json.loads((here / "accuracies.json").read_text()) == json.loads((there / "accuracies.json").read_text())
    names = sorted(path.name for path in here.glob("*.safetensors"))
    assert len(names) > 25
    for name in names:
        left, right = load_file(here / name), load_file(there / name)
        assert left.keys() == right.keys()
        for key in left:
            # not to the last bit: sums over tensors that lie in memory otherwise are in another order
            torch.testing.assert_close(
                right[key], left[key], rtol=1e-5, atol=1e-7, msg=lambda text, at=(name, key): f"{at}: {text}"
            )


@pytest.mark.slow
def test_a_recipe_ships_the_same_files(tmp_path):
    here, there = trained("recipe", tmp_path)
    shipped = {path.relative_to(here): path for path in here.glob("run/deployed/*/model.trim")}
    assert len(shipped) == 4
    for name, path in shipped.items():
        assert path.read_bytes() == (there / name).read_bytes(), name
