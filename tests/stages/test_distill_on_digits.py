"""Distillation with default settings beside fine-tuning with the same budget, on a damaged INT8 network of digits."""

import pytest

from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import start_from
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

SEEDS = (0, 1)
WORST = 0.1
"""Validation accuracies of 143 images; a stage that diverges loses several times as much."""


def _accuracies(seed: int, folder) -> dict[str, float]:
    """Validation accuracy after a quarter of the channels is left, INT8, and then after either stage."""
    recipe = parse_recipe(
        {
            "seed": seed,
            "model": {"network": "resnet20"},
            "data": {"name": "digits"},
            "dense": {"epochs": 15, "learning_rate": 0.1},
            "execution": {"device": "cpu", "precision": "float32"},
        },
        "digits",
    )
    start = train_dense(start_from(recipe)[0], recipe.dense, folder)
    damaged = (
        Prune(sparsity=0.75, pattern=CHANNEL, budget=Budget(epochs=2)),
        Quantize(budget=Budget(epochs=4)),
    )
    found = {}
    for stage in (Distill(budget=Budget(epochs=4)), FineTune(budget=Budget(epochs=4))):
        candidates: tuple[Candidate, ...] = run_stages(start, (*damaged, stage), folder)
        found[stage.name] = candidates[-1].history[-1].value_after
        found["before"] = candidates[-1].history[-1].value_before
    return found


@pytest.mark.slow
def test_a_short_distillation_does_not_diverge_after_hard_pruning(tmp_path):
    found = [_accuracies(seed, tmp_path / str(seed)) for seed in SEEDS]

    def mean(name: str) -> float:
        return sum(one[name] for one in found) / len(found)

    assert mean("before") < 0.8  # the case is a hard one
    assert mean("distill") >= mean("before")
    assert mean("distill") >= mean("finetune") - WORST, found
