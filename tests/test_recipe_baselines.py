"""The plain baselines of the recipes: as many epochs, as many bits and zeros, and nothing of the method."""

from dataclasses import replace

import pytest
from script_files import ROOT, script

from paretrim.run.recipe import read_recipe
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize

RECIPES = {path.stem: read_recipe(path) for path in sorted((ROOT / "recipes" / "methods").glob("*.toml"))}


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/recipe_baselines.py")


@pytest.mark.parametrize("name", RECIPES)
def test_a_baseline_trains_as_long_without_a_teacher_and_is_not_the_recipe(name, maker):
    recipe, baseline = RECIPES[name], maker.baseline_of(RECIPES[name]).recipe
    assert baseline.digest != recipe.digest
    assert not baseline.teacher
    assert not baseline.teachers
    assert not any(isinstance(part, Distill) for part in maker.parts_of(baseline))
    assert trained(baseline) == trained(recipe)
    assert (baseline.model, baseline.data, baseline.seed) == (recipe.model, recipe.data, recipe.seed)


def trained(recipe):
    return (recipe.dense.epochs if recipe.dense else 0) + sum(stage.budget.epochs for stage in recipe.stages)


@pytest.mark.parametrize(
    ("name", "called", "stages"),
    [
        ("kd", "the same, labels only", (Prune, FineTune)),
        ("snip", "dense training, then magnitude", (Prune,)),
        ("fisher", "global magnitude, one shot", (Prune,)),
        ("magnitude", "dense, trained on", (FineTune,)),
        ("blocks", "single weights", (Prune,)),
        ("gptq", "default quantization", (Quantize,)),
        ("qat", "dense, trained on, 8 bits", (FineTune, Quantize)),
        ("float16", "dense, float32", ()),
        ("clip-q", "prune, then default quantization", (Prune, Quantize)),
        ("obs", "magnitude, not compensated", (Prune, Quantize)),
        ("label-smoothing", "the same, hard labels", (Prune, FineTune)),
    ],
)
def test_each_kind_of_recipe_has_its_kind_of_baseline(name, called, stages, maker):
    baseline = maker.baseline_of(RECIPES[name])
    assert (baseline.name, tuple(map(type, baseline.recipe.stages))) == (called, stages)


def test_as_much_is_pruned_and_as_many_bits_are_left(maker):
    cut = {name: maker.baseline_of(RECIPES[name]).recipe.stages[0] for name in ("lottery", "thin", "movement", "jpqd")}
    assert cut["lottery"].sparsity == 0.875  # three rounds of a half
    assert (cut["thin"].pattern, cut["thin"].sparsity, cut["thin"].multiple_of) == ("channel", 0.5, 4)
    assert cut["movement"].sparsity == 0.9
    assert cut["jpqd"].parts == RECIPES["jpqd"].stages[0].parts[:2]
    bits = {name: maker.baseline_of(RECIPES[name]).recipe.stages[0] for name in ("ttq", "mixed-hessian", "mixed-names", "kl")}
    assert {name: form.bits for name, form in bits["ttq"].formats.items()} == {"*": 2, "conv1": 8, "linear": 8}
    assert (bits["mixed-hessian"].weight_bits, bits["mixed-hessian"].mixed) == (4, None)
    assert (bits["mixed-names"].weight_bits, bits["mixed-names"].formats) == (4, None)
    assert (bits["kl"].weight_bits, bits["kl"].calibrator) == (8, "minmax")


def test_a_score_that_needs_the_teacher_becomes_magnitude(maker):
    assert [getattr(stage, "score", "") for stage in RECIPES["hkdp-survey"].stages][1] == "hkdp"
    assert maker.baseline_of(RECIPES["hkdp-survey"]).recipe.stages[1].score == "magnitude"


def test_an_untrained_network_is_compared_with_a_dense_one_of_as_many_epochs(maker):
    assert maker.dense_of(RECIPES["snip"]).dense.epochs == RECIPES["snip"].stages[0].budget.epochs
    assert maker.longer_of(RECIPES["qat"]).stages[0].budget == RECIPES["qat"].stages[0].budget
    assert maker.dense_of(RECIPES["kd"]) == replace(RECIPES["kd"], stages=())


def test_a_baseline_prunes_the_same_layers(maker):
    """The recipe for layers prunes by magnitude already: pruning all layers as much as some would be no baseline of it."""
    named = Prune(sparsity=0.9, score="taylor", layers=("layer3.*",), ignore=("layer3.0.conv1",), first=True)
    recipe = replace(RECIPES["layers"], stages=(named, replace(named, sparsity=0.5)))
    assert maker.baseline_of(recipe).recipe.stages == tuple(replace(one, score="magnitude") for one in recipe.stages)
    assert maker.baseline_of(RECIPES["layers"]).name == "dense, trained on"
