"""Whether distillation makes up for pruning 30 %: one line of JSON for each seed and way.

    python benchmarks/pruned_distilled.py --out results/pruned-distilled.jsonl [--seeds 5] [--epochs 4] [--folder FOLDER]

The small ResNet of ``pruning_starts.py`` trains on digits for 12 epochs. 30 % of its weights, or of the channels of every layer,
are then removed by magnitude in one shot, and the rest trains with labels, or with labels and the dense network as teacher.
Accuracy is that of the float network on the 360 test images. Existing lines are kept. About four minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pruning_methods import DENSE_NAME, Case, add, read
from pruning_starts import EXECUTION, seeds_of

from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stages
from paretrim.run.start import Start, TestSet
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.stage import Stage
from paretrim.stages.together import Together
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate

SHARE = 0.3
LABELS, TEACHER = "labels", "labels and teacher"


def ways(budget: Budget) -> dict[tuple[str, str], tuple[Stage, ...]]:
    """Stages, by how they train and what is pruned."""
    found: dict[tuple[str, str], tuple[Stage, ...]] = {}
    for pattern, cut in {
        "unstructured": Prune(sparsity=SHARE),
        CHANNEL: Prune(sparsity=SHARE, pattern=CHANNEL, allocation="uniform"),
    }.items():
        found[LABELS, pattern] = (Together(parts=(cut,), budget=budget),)
        found[TEACHER, pattern] = (Together(parts=(cut, Distill()), budget=budget),)
    return found


def accuracy(start: Start, test: TestSet, stages: tuple[Stage, ...], folder: Path) -> float:
    """Accuracy after the stages, on test images."""
    last = run_stages(start, stages, folder)[-1] if stages else Candidate(start.network)
    return evaluate(last.network, test.batches.epoch(0), EXECUTION.torch_device())


def main() -> None:
    """Measure every case that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("runs/pruning-methods"))
    given = parser.parse_args()
    budget = Budget(epochs=given.epochs, learning_rate=0.05, batch_size=32)
    done = read(given.out)
    for seed, (start, test) in enumerate(zip(*seeds_of(given.seeds, given.folder), strict=True)):
        all_ways = {(DENSE_NAME, ""): (), **ways(budget)}
        for (method, pattern), stages in all_ways.items():
            case: Case = (method, pattern, SHARE if stages else 0.0, seed)
            if case not in done:
                right = accuracy(start, test, stages, given.folder / str(seed))
                add(given.out, case, {"accuracy": right, "epochs": given.epochs if stages else 0})


if __name__ == "__main__":
    main()
