"""Distillation losses against labels alone on digits: validation accuracy of a narrow student, over seeds.

    python benchmarks/distillation.py [--seeds 3] [--epochs 5] [--losses kd,dkd,...] [--folder runs/distillation] [--json]

The dense ResNet-20 of every seed trains for 15 epochs, loses three quarters of its channels, and the rest is trained with every
loss at its published weight. Differences to labels alone are paired by seed, with Student's 95 % intervals. About 10 minutes on
one core. An interrupted run continues in its folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from paretrim.intervals import mean_interval
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import parse_stage, read_recipe
from paretrim.run.start import Start, start_from
from paretrim.stages.prune.stage import Prune
from paretrim.train.budget import Budget

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"
LABELS = "labels"
STAGES = ("layer1", "layer2", "layer3")
SETTINGS: dict[str, dict[str, object]] = {
    LABELS: {"stage": "finetune"},
    "kd": {"stage": "distill"},
    "standardised": {
        "stage": "distill",
        "labels": 0.1,
        "criteria": [{"loss": "kd", "standardise": True, "temperature": 2.0, "weight": 9.0}],
    },
    "dkd": {"stage": "distill", "criteria": [{"loss": "dkd"}]},
    "hint": {"stage": "distill", "criteria": [{"loss": "hint", "at": "layer2"}]},
    "mimic": {"stage": "distill", "criteria": [{"loss": "mimic", "at": "layer2", "step": 0.5}]},
    "attention": {"stage": "distill", "criteria": [{"loss": "attention", "at": list(STAGES)}]},
    "rkd": {"stage": "distill", "criteria": [{"loss": "rkd"}]},
    "crd": {"stage": "distill", "criteria": [{"loss": "crd"}]},
    "review": {"stage": "distill", "criteria": [{"loss": "review", "at": [*STAGES, "penultimate"]}]},
}


def main() -> None:
    """Train every student and print a line for every loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the student")
    parser.add_argument("--losses", default=",".join(SETTINGS))
    parser.add_argument("--folder", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    given = parser.parse_args()
    starts = []
    for seed in range(given.seeds):
        start, _ = start_from(replace(read_recipe(RECIPE), seed=seed))
        starts.append(train_dense(start, Budget(epochs=15, learning_rate=0.1), given.folder / str(seed)))
    plain: list[float] = []
    for loss in dict.fromkeys((LABELS, *given.losses.split(","))):
        values = [accuracy(start, loss, given.epochs, given.folder / str(seed)) for seed, start in enumerate(starts)]
        plain = plain or values
        gain = mean_interval([100 * (one - other) for one, other in zip(values, plain, strict=True)])
        if given.json:
            print(json.dumps({"loss": loss, "accuracies": values}), flush=True)
        else:
            against = f"{gain.value:+6.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
            print(f"{loss:12} {100 * sum(values) / len(values):6.2f} %   {against}", flush=True)


def accuracy(start: Start, loss: str, epochs: int, folder: Path) -> float:
    """Validation accuracy of the student of one seed."""
    narrow = Prune(pattern="channel", sparsity=0.75, budget=Budget(epochs=0))
    stage = parse_stage({**SETTINGS[loss], "budget": {"epochs": epochs, "learning_rate": 0.05}}, loss)
    return run_stages(start, (narrow, stage), folder)[-1].history[-1].value_after


if __name__ == "__main__":
    main()
