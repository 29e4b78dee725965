"""The recipes of single methods, each run on a few digits for one epoch a stage, up to the deployed file."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest

from paretrim.graph.interpreter import run
from paretrim.network.freeze import freeze
from paretrim.run import run as run_of_recipes
from paretrim.run import start
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.progress import silent
from paretrim.run.recipe import read_recipe
from paretrim.run.run import open_recipe, train, with_dense
from paretrim.run.start import start_from
from paretrim.runtime import plan
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution

RECIPES = sorted((Path(__file__).parent.parent.parent / "recipes" / "methods").glob("*.toml"))
TINY = Budget(epochs=1, batch_size=32, learning_rate=0.01)


def tiny(stage):
    """The same stage, shortened: one epoch of training, few steps of AdaRound."""
    short = replace(stage.budget, epochs=min(stage.budget.epochs, 1), batch_size=32)
    rounds = isinstance(stage, Quantize) and "adaround" in stage.adjust
    return replace(stage, budget=short, **({"rounding_steps": 5} if rounds else {}))


@pytest.fixture(scope="module", autouse=True)
def captured_once():
    """A network is captured once for all recipes that begin with it."""
    known = {}

    def captured(spec, dataset, *, seed, task=start.CLASSIFICATION):
        key = (spec, seed, dataset.train.sample_shape, dataset.classes, task)
        if key not in known:
            known[key] = found(spec, dataset, seed=seed, task=task)
        return copy.deepcopy(known[key])

    found = start.captured
    with pytest.MonkeyPatch.context() as patch:
        for module in (start, run_of_recipes):
            patch.setattr(module, "captured", captured)
        yield


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """What a recipe's stages begin with; recipes that differ in nothing but their stages begin with the same."""
    known = {}

    def begin(recipe):
        key = replace(recipe, stages=(), label="", dense=None).digest
        if key not in known:
            known[key] = train_dense(start_from(recipe)[0], TINY, tmp_path_factory.mktemp("dense"))
        return known[key]

    return begin


def tiny_teacher(teacher):
    """The same teacher, likewise; of a ResNet, a small one."""
    small = "small_network:resnet8" if teacher.network in ("resnet20", "resnet32") else teacher.network
    return replace(teacher, network=small, dense=teacher.dense and TINY, stages=tuple(tiny(stage) for stage in teacher.stages))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_the_recipe_of_a_method_runs(path, begun, tmp_path):
    text = path.read_text(encoding="utf-8")
    assert 10 <= len(text.splitlines()) <= 25
    recipe = read_recipe(path)
    if recipe.model.network == "resnet20" and not re.search(r"layer\d", text):  # no layer is named
        recipe = replace(recipe, model=replace(recipe.model, network="small_network:resnet8"))
    recipe = replace(
        recipe,
        data=replace(recipe.data, train_images=40),
        stages=tuple(tiny(stage) for stage in recipe.stages),
        teachers=tuple(tiny_teacher(teacher) for teacher in recipe.teachers),
        calibration_images=32,
        execution=Execution(device="cpu", precision="float32"),
    )
    if recipe.teachers:
        ready = with_dense(open_recipe(replace(recipe, dense=recipe.dense and TINY), silent()), tmp_path, silent())
        entries = train(ready, recipe.stages, tmp_path, watcher=silent())
        begin, candidates = ready.start, [entry.candidate for entry in entries]
    else:
        begin = begun(recipe)
        candidates = run_stages(begin, recipe.stages, tmp_path)
    assert len(candidates) == len(recipe.stages) + 1
    graph, images = freeze(candidates[-1].network), begin.calibration[:4].numpy()
    if graph.quantized:
        assert plan(graph, threads=1, measure=False)(images).tobytes() == run(graph, images).tobytes()
