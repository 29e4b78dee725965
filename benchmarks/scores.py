"""Pruning scores against magnitude on digits: validation accuracy after one-shot pruning and a few epochs, over seeds.

    python benchmarks/scores.py [--seeds 5] [--epochs 3] [--sparsities 0.9,0.95,0.98]
        [--patterns unstructured] [--scores snip,fisher] [--folder runs/scores] [--json]

The dense ResNet-20 of every seed trains for 15 epochs and is pruned with every score. Differences to magnitude are paired by
seed, with Student's 95 % intervals. About 20 minutes on one core. An interrupted run continues in its folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from paretrim.intervals import mean_interval
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage, train_dense
from paretrim.run.recipe import read_recipe
from paretrim.run.start import Start, start_from
from paretrim.stages.prune.score_table import SCORES
from paretrim.stages.prune.stage import Prune
from paretrim.train.budget import Budget

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"
PATTERNS = ("unstructured", "1x4")


def main() -> None:
    """Train, prune and print a line for every pattern, sparsity and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="epochs after pruning")
    parser.add_argument("--sparsities", default="0.9,0.95,0.98")
    parser.add_argument("--patterns", default=",".join(PATTERNS))
    parser.add_argument("--scores", default=",".join(SCORES), help="scores to compare; magnitude is always included")
    parser.add_argument("--folder", type=Path, default=Path("runs/scores"))
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    given = parser.parse_args()
    recipe = read_recipe(RECIPE)
    scores = dict.fromkeys(("magnitude", *given.scores.split(",")))
    starts = []
    for seed in range(given.seeds):
        start, _ = start_from(replace(recipe, seed=seed))
        starts.append(train_dense(start, Budget(epochs=15, learning_rate=0.1), given.folder / str(seed)))
    for pattern in given.patterns.split(","):
        for sparsity in map(float, given.sparsities.split(",")):
            found = {score: accuracies(starts, sparsity, pattern, score, given.epochs) for score in scores}
            for score, values in found.items():
                tell(pattern, sparsity, score, values, found["magnitude"], as_json=given.json)


def accuracies(starts: list[Start], sparsity: float, pattern: str, score: str, epochs: int) -> list[float]:
    """Validation accuracy for every seed."""
    stage = Prune(sparsity=sparsity, pattern=pattern, score=score, budget=Budget(epochs=epochs, learning_rate=0.05))
    done = [run_stage(Candidate(start.network), stage, start.resources(None)) for start in starts]
    return [candidate.history[-1].value_after for candidate in done]


def tell(pattern: str, sparsity: float, score: str, values: list[float], magnitude: list[float], *, as_json: bool) -> None:
    """Print one line: the mean accuracy, and its difference from magnitude in points."""
    mean = sum(values) / len(values)
    gain = mean_interval([100 * (one - other) for one, other in zip(values, magnitude, strict=True)])
    if as_json:
        print(json.dumps({"pattern": pattern, "sparsity": sparsity, "score": score, "accuracies": values}))
    else:
        against = f"{gain.value:+6.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
        print(f"{pattern:12} {sparsity:.2f} {score:10} {100 * mean:6.2f} %   {against}")


if __name__ == "__main__":
    main()
