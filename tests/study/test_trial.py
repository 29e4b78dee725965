"""Evaluating sequences of stages, as a user-defined search does."""

import random
from dataclasses import replace

import pytest

import paretrim.run.pipeline
from paretrim.errors import InvalidRecipe, RunInUse
from paretrim.run.recipe import parse_recipe
from paretrim.search.trial import evaluator, with_epochs
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

NONE = Budget(epochs=0)
RECIPE = parse_recipe(
    {
        "model": {"network": "resnet20"},
        "data": {"name": "digits", "train_images": 200},
        "calibration_images": 32,
        "dense": {"epochs": 1, "learning_rate": 0.05},
        "stages": [],
    }
)


def chain(sparsity):
    return Prune(sparsity=sparsity, pattern="1x4", budget=NONE), Quantize(budget=NONE)


def test_a_random_search_finds_smaller_files_and_goes_on_where_it_was(tmp_path, monkeypatch):
    def search():
        random.seed(3)
        with evaluator(RECIPE, tmp_path) as trials:
            sparsities = [round(random.uniform(0.3, 0.9), 2) for _ in range(3)]
            return {sparsity: trials.evaluate(chain(sparsity)) for sparsity in sparsities}

    found = search()
    sizes = [found[sparsity].trim_bytes for sparsity in sorted(found)]
    assert sizes == sorted(sizes, reverse=True)
    assert all(trial.name == "prune → quantize" for trial in found.values())
    assert all(0 <= trial.value <= 1 and trial.p50_ms is None for trial in found.values())
    assert all(trial.drop.images == next(iter(found.values())).drop.images for trial in found.values())
    monkeypatch.setattr(paretrim.run.pipeline, "fit", None)  # nothing is trained again
    assert search() == found


def test_the_folder_is_held_and_names_may_be_given(tmp_path):
    with evaluator(RECIPE, tmp_path) as trials:
        assert trials.evaluate((Quantize(budget=NONE),), name="INT8").name == "INT8"
        with pytest.raises(RunInUse), evaluator(RECIPE, tmp_path):
            pass
        assert trials.evaluate(()).drop.value == 0
        assert trials.evaluate(()).name == "dense"


def test_a_budget_is_the_epochs_over_all_stages(tmp_path):
    stages = (Prune(budget=Budget(epochs=2)), Quantize(budget=Budget(epochs=4)), Distill(budget=Budget(epochs=4)))
    assert [stage.budget.epochs for stage in with_epochs(stages, 5)] == [1, 2, 2]
    assert with_epochs(stages, 10) == stages
    assert [stage.budget.epochs for stage in with_epochs(chain(0.5), 3)] == [2, 1]
    assert with_epochs((), 3) == ()
    with pytest.raises(InvalidRecipe, match="--epochs is -1"):
        with_epochs(stages, -1)
    with evaluator(replace(RECIPE, dense=None), tmp_path) as trials:
        trial = trials.evaluate((Quantize(),), 1)
        assert trial.entry.candidate.epochs == 1
        assert trial == trials.evaluate(with_epochs((Quantize(),), 1))
