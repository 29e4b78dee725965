"""Runs on digits in child processes that are killed, and goes on with each; prints a digest of every outcome.

Used by test_kill_and_resume.py, in a process of its own: torch is imported once and every run is forked from here, with one
thread, so that no thread is lost in a fork.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import torch
from torch import nn

import paretrim.files
from paretrim.lock import hold
from paretrim.run.pipeline import run_stages
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import start_from

BUDGET = {"epochs": 2, "batch_size": 256, "learning_rate": 0.02}
RECIPE = {
    "model": {"network": "killed_runs:tiny"},
    "data": {"name": "digits"},
    "calibration_images": 64,
    "execution": {"device": "cpu", "precision": "float32"},
    "stages": [
        {"stage": "prune", "schedule": "cubic", "sparsity": 0.7, "budget": BUDGET},
        {"stage": "together", "budget": {**BUDGET, "optimizer": "adamw"}, "parts": [{"stage": "quantize"}, {"stage": "distill"}]},
        {"stage": "prune", "pattern": "channel", "schedule": "cubic", "sparsity": 0.25, "budget": BUDGET},
    ],
}


def tiny(classes, channels):
    """A network that trains an epoch of digits in a few hundredths of a second."""
    first = nn.Conv2d(channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
    second = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))


def forked(start, stages, folder, killer=None):
    """Start a run in a child; returns its process id. ``killer`` is called in the child first."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)  # here, for a pool of threads does not survive a fork
            if killer:
                killer()
            with hold(folder):
                found = run_stages(start, stages, folder)
            (folder / "digest").write_text(digest(found))
            code = 0
        finally:
            os._exit(code)
    return child


def digest(candidates):
    """SHA-256 of all tensors and of all that history says but the seconds."""
    found = hashlib.sha256()
    for candidate in candidates:
        for name, tensor in sorted(candidate.network.state_dict().items()):
            found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            found.update(tensor.contiguous().numpy().tobytes())
        for stage in candidate.history:
            found.update(repr((stage.name, stage.epochs, stage.sparsity, stage.value_before, stage.value_after)).encode())
    return found.hexdigest()


def ended(child):
    """How a child ended: 0, or minus the signal."""
    return ended_after(child)[0]


def ended_after(child):
    """How a child ended, and the CPU seconds it took."""
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def die_after(seconds):
    """A killer that strikes after CPU seconds, which do not depend on how busy the machine is. SIGPROF ends at once, too."""
    return lambda: signal.setitimer(signal.ITIMER_PROF, seconds)


def die_in_sync(number):
    """A killer that strikes in the middle of the ``number``-th write, when the file aside is there and not yet renamed."""

    def arm():
        sync, calls = os.fsync, []

        def failing(handle):
            calls.append(handle)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(handle)

        paretrim.files.os.fsync = failing

    return arm


def finish(start, stages, folder):
    """The same command once more, undisturbed: its digest."""
    return finish_in(start, stages, folder)[0]


def finish_in(start, stages, folder):
    """The digest of an undisturbed run, and the CPU seconds it took."""
    status, seconds = ended_after(forked(start, stages, folder))
    assert status == 0
    return (folder / "digest").read_text(), seconds


def main(root, seed):
    """All scenarios; a JSON line."""
    recipe = parse_recipe(RECIPE)
    start, _ = start_from(recipe)
    stages = recipe.stages
    whole, took = finish_in(start, stages, root / "undisturbed")
    digests = {"undisturbed": whole}
    draw = random.Random(seed)
    kills, torn = [], []
    for round_number in range(2):
        folder = root / f"random-{round_number}"
        for _ in range(3):
            killed = forked(start, stages, folder, die_after(draw.uniform(0.05, 0.8) * took))
            kills.append(ended(killed))
        digests[folder.name] = finish(start, stages, folder)
    for number in (3, 9, 13):  # each write syncs the file, then the folder: a checkpoint, and logits of the teacher twice
        folder = root / f"write-{number}"
        kills.append(ended(forked(start, stages, folder, die_in_sync(number))))
        torn.extend(sorted({str(path.relative_to(folder).parts[0]) for path in folder.rglob(".*.part")}))
        digests[folder.name] = finish(start, stages, folder)
    folder = root / "write-7-truncated"
    kills.append(ended(forked(start, stages, folder, die_in_sync(7))))
    checkpoints = sorted(folder.glob("stages/*/epoch-*.safetensors"))
    checkpoints[-1].write_bytes(checkpoints[-1].read_bytes()[:1000])
    digests[f"{folder.name} of {len(checkpoints)}"] = finish(start, stages, folder)
    left = [str(path.relative_to(root)) for path in root.glob("*/stages/*/*") if path.name != "candidate.safetensors"]
    left += [str(path.relative_to(root)) for path in root.rglob(".*.part")]
    shutil.rmtree(root)
    print(json.dumps({"digests": digests, "kills": kills, "torn": torn, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
