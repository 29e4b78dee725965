"""Structured pruning against plain channel pruning on digits: validation accuracy at equal kept weights, over seeds.

    python benchmarks/channels.py [--seeds 3] [--arms thinet,gates] [--folder runs/channels] [--json]

The dense ResNet-20 of every seed trains for 15 epochs. Each arm then has 15 more; beside it the dense network is pruned by the
L2 norm of its channels to the nearest number of weights other than 0, and trains as long. Differences are paired by seed, with
Student's 95 % intervals. About a minute for an arm and a seed on one core. Folders are taken up again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from paretrim.intervals import mean_interval
from paretrim.network.constraints import zeros_and_weights
from paretrim.network.network import Network
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import parse_stage, read_recipe
from paretrim.run.start import Start, start_from
from paretrim.stages.prune.stage import Prune
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"
LONG, SHORT = {"epochs": 10, "learning_rate": 0.05}, {"epochs": 5, "learning_rate": 0.05}
FINETUNE = {"stage": "finetune", "budget": SHORT}
CHANNELS = {"stage": "prune", "pattern": "channel", "sparsity": 0.5, "budget": LONG}

ARMS: dict[str, list[dict[str, object]]] = {
    "sensitivity": [{**CHANNELS, "allocation": "sensitivity"}, FINETUNE],
    "thinet": [{"stage": "thinet", "sparsity": 0.5, "budget": LONG}, FINETUNE],
    "gates": [{"stage": "gates", "sparsity": 0.5, "budget": LONG}, FINETUNE],
    "thin": [{"stage": "thin", "sparsity": 0.5, "budget": {"epochs": 30, "learning_rate": 0.1}}],
    "hkdp-survey": [
        {"stage": "prune", "sparsity": 0.5, "budget": {"epochs": 2, "learning_rate": 0.05}},
        {**CHANNELS, "score": "hkdp", "sparsity": 0.3, "budget": {"epochs": 0}},
        {"stage": "distill", "budget": {"epochs": 13, "learning_rate": 0.05}},
    ],
    "hkdp": [
        {
            "stage": "together",
            "budget": {"epochs": 15, "learning_rate": 0.01, "momentum": 0.98},
            "parts": [{"stage": "gsm", "sparsity": 0.8}, {"stage": "distill"}],
        },
    ],
}
"""Stages of 15 epochs; of the baseline, which begins from scratch, as many as training and pruning have together."""


def main() -> None:
    """Train, prune and print a line for every arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--folder", type=Path, default=Path("runs/channels"))
    parser.add_argument("--json", action="store_true", help="an object a line")
    given = parser.parse_args()
    recipe = read_recipe(RECIPE)
    starts = []
    for seed in range(given.seeds):
        start, _ = start_from(replace(recipe, seed=seed))
        starts.append(train_dense(start, Budget(epochs=15, learning_rate=0.1), given.folder / str(seed)))
    for arm in given.arms.split(","):
        stages = [parse_stage(stage, arm) for stage in ARMS[arm]]
        pairs = [compared(start, stages, given.folder / str(start.seed)) for start in starts]
        tell(arm, pairs, as_json=given.json)


def compared(start: Start, stages: list[Stage], folder: Path) -> tuple[float, float, int, int]:
    """Validation accuracy of the arm and of plain channel pruning, and how many weights other than 0 each has."""
    arm = run_stages(start, stages, folder)[-1]
    kept = weights(arm.network)
    plain = run_stages(start, [plain_stage(start, kept), parse_stage(FINETUNE, "plain")], folder)[-1]
    return arm.history[-1].value_after, plain.history[-1].value_after, kept, weights(plain.network)


def weights(network: Network) -> int:
    """Weights other than 0."""
    zeros, total = zeros_and_weights(network)
    return total - zeros


def plain_stage(start: Start, kept: int) -> Prune:
    """Pruning by the L2 norm of channels, the same share in every layer, to the nearest number of weights."""
    resources = start.resources(None)
    stages = [
        Prune(pattern="channel", sparsity=share / 50, allocation="uniform", budget=Budget(epochs=10, learning_rate=0.05))
        for share in range(48)
    ]
    return min(stages, key=lambda stage: abs(weights(stage.begin(start.network, resources).network) - kept))


def tell(arm: str, pairs: list[tuple[float, float, int, int]], *, as_json: bool) -> None:
    """One line: mean accuracies, how much the arm is ahead in points, and mean numbers of weights."""
    gain = mean_interval([100 * (one - other) for one, other, _, _ in pairs])
    if as_json:
        print(
            json.dumps({"arm": arm, "accuracies": [p[0] for p in pairs], "plain": [p[1] for p in pairs], "weights": pairs[0][2:]})
        )
        return
    mine, plain, kept, others = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    ahead = f"{gain.value:+6.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
    print(f"{arm:12} {100 * mine:6.2f} %   plain {100 * plain:6.2f} %   {ahead}   {kept:,.0f} and {others:,.0f} weights")


if __name__ == "__main__":
    main()
