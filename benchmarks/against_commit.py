"""CPU time against an earlier commit, of what users wait for: help, training steps, and calls of the native runtime.

    git worktree add ../earlier COMMIT   # with a .venv and a native runtime of its own
    python benchmarks/against_commit.py ../earlier [--pairs 16] [--steps 6] [--batch 128] [--what help ...] [--json]

Each checkout runs its own code in its own process, on one thread, in turns: a pair is one run of each, in random order. It
prints the CPU time of this checkout divided by that of the earlier one: the median over pairs with its 95 % interval. Other
programs disturb CPU time less than wall time. The ``hand-written loop`` runs no code of Paretrim, so its ratio shows the noise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from estimates import median

ROOT = Path(__file__).parents[1]
STEPS = ("fine-tune", "distill, stored logits", "quantize (QAT)", "hand-written loop")
CALLS = ("resnet18, 0 % zeros", "resnet18, 90 % zeros")
HELP = "help"
HELPS_A_PAIR = 8
"""A start takes so little that a pair has several."""

PROGRAM = """
import sys, time
checkout, steps, batch, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
sys.path.insert(0, checkout + "/benchmarks")
from pathlib import Path
import torch
torch.set_num_threads(1)
from networks import prepare, random_pixels
import training
from paretrim.models.spec import ModelSpec
from paretrim.runtime import plan
from paretrim.train.execution import Execution
# Earlier commits call the workloads arms.
workloads = getattr(training, "workloads", None) or training.arms
blocks = workloads("resnet20", batch, steps, Execution(device="cpu"), Path(folder))
prepared, pixels = prepare(ModelSpec("resnet18"), size=32, classes=10), random_pixels(32)[:1]
def calls(zeros):
    session = plan(prepared.graph(quantized=True, zeros=zeros), measure=False)
    return lambda: [session(pixels) for _ in range(100)]
blocks |= {"resnet18, 0 % zeros": calls(0.0), "resnet18, 90 % zeros": calls(0.9)}
for block in blocks.values():
    block()  # warm up, fill the teacher's store
print("ready", flush=True)
for line in sys.stdin:
    start = time.process_time()
    blocks[line.strip()]()
    print(time.process_time() - start, flush=True)
"""
"""A checkout's process: for every name on standard input the CPU seconds it took. It imports the benchmarks of the checkout."""


@dataclass(frozen=True)
class Checkout:
    """A checkout and its process, which reads requests from one pipe and answers on another; no process if only help is timed."""

    folder: Path
    asked: IO[str] | None = None
    answers: IO[str] | None = None

    def seconds(self, name: str) -> float:
        """CPU seconds of one run of ``name``."""
        if name == HELP:
            return sum(seconds_of_help(self.folder) for _ in range(HELPS_A_PAIR)) / HELPS_A_PAIR
        if self.asked is None or self.answers is None:
            raise RuntimeError(f"{self.folder} has no process to run '{name}' in")
        self.asked.write(f"{name}\n")
        self.asked.flush()
        return float(self.answers.readline())


def python_of(checkout: Path) -> str:
    """The interpreter of a checkout."""
    return str(checkout / ".venv" / "bin" / "python")


def seconds_of_help(checkout: Path) -> float:
    """CPU seconds of ``paretrim --help`` in a fresh process, with bytecode from an earlier start."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [python_of(checkout), "-m", "paretrim", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def started(folder: Path, steps: int, batch: int, stack: ExitStack) -> Checkout:
    """The process of a checkout, ready for requests; it ends with the stack."""
    store = stack.enter_context(tempfile.TemporaryDirectory())
    process = stack.enter_context(
        subprocess.Popen(
            [python_of(folder), "-P", "-c", PROGRAM, str(folder), str(steps), str(batch), store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    )
    if process.stdin is None or process.stdout is None or process.stdout.readline() != "ready\n":
        raise RuntimeError(f"the process of {folder} did not start; what it wrote is above")
    return Checkout(folder, process.stdin, process.stdout)


def measured(earlier: Checkout, ours: Checkout, names: list[str], pairs: int) -> dict[str, list[float]]:
    """Our CPU time divided by that of the earlier checkout, by name, for every pair."""
    order, ratios = random.Random(0), {name: list[float]() for name in names}
    for _ in range(pairs):
        for name in order.sample(names, len(names)):
            found = {one.folder: one.seconds(name) for one in order.sample([earlier, ours], 2)}
            ratios[name].append(found[ours.folder] / found[earlier.folder])
    return ratios


def main() -> None:
    """Measure and print."""
    everything = (HELP, *STEPS, *CALLS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path, help="checkout of the earlier commit")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6, help="training steps of one run")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--what", nargs="+", choices=everything, default=everything, metavar="NAME", help=", ".join(everything).replace("%", "%%")
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    given = parser.parse_args()
    names = list(given.what)
    with ExitStack() as stack:
        folders = (given.earlier.resolve(), ROOT)
        if names == [HELP]:
            earlier, ours = map(Checkout, folders)
        else:
            earlier, ours = (started(folder, given.steps, given.batch, stack) for folder in folders)
        if HELP in names:
            for folder in folders:
                seconds_of_help(folder)  # leaves the bytecode
        for name, found in measured(earlier, ours, names, given.pairs).items():
            ratio = median(found)
            if given.json:
                row = {"name": name, "ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high, "pairs": given.pairs}
                print(json.dumps(row), flush=True)
            else:
                print(f"{name:24} {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
