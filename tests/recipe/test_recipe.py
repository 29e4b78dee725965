import dataclasses
import json
import re

import pytest

from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe
from paretrim.run.recipe import Recipe, canonical, parse_recipe, parse_stage, read_recipe, stage_settings
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage_table import STAGES
from paretrim.stored_fields import LATER
from paretrim.train.budget import Budget

TEXT = """
seed = 3
label = "by hand"
calibration_images = 64

[model]
network = "resnet20"

[teacher]
network = "resnet56"

[data]
name = "cifar10"
folder = "somewhere"
validation = 0.2

[dense]
epochs = 1
learning_rate = 0.1

[execution]
device = "cpu"
precision = "float32"

[[stages]]
stage = "prune"
sparsity = 0.9
schedule = "cubic"
budget = { epochs = 20, schedule = "step", milestones = [0.3, 0.6] }

[[stages]]
stage = "together"
budget = { epochs = 2 }
parts = [{ stage = "quantize", weight_bits = 7 }, { stage = "distill", temperature = 2 }]
"""
GOLDEN = "647f6072ea21a78e"
"""Results are filed under digests: a change here orphans every result there is, so it must be meant."""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT, encoding="utf-8")
    return read_recipe(path)


def test_a_recipe_reads_as_written(recipe):
    assert recipe.order == ("prune", "quantize+distill")
    assert (recipe.title, dataclasses.replace(recipe, label="").title) == ("by hand", "prune → quantize+distill")
    assert dataclasses.replace(recipe, label="", stages=()).title == "dense"
    assert (recipe.seed, recipe.dense.epochs, recipe.teacher.network, recipe.calibration_images) == (3, 1, "resnet56", 64)
    prune, together = recipe.stages
    assert (prune.sparsity, prune.budget.epochs, prune.budget.milestones) == (0.9, 20, (0.3, 0.6))
    assert [part.name for part in together.parts] == ["quantize", "distill"]
    assert together.parts[1].temperature == 2.0


def test_the_digest_is_the_same_everywhere(recipe):
    assert recipe.digest == GOLDEN


def test_settings_that_came_later_are_filed_only_where_they_are_used(recipe):
    plain = stage_settings(Prune())
    assert "regroup" not in plain
    used = Prune(pattern="1x4", regroup=True)
    assert stage_settings(used) == {**plain, "pattern": "1x4", "regroup": True}
    assert parse_stage(stage_settings(used), "stage") == used
    other = dataclasses.replace(recipe, stages=(used, *recipe.stages[1:]))
    assert other.digest != dataclasses.replace(recipe, stages=(Prune(pattern="1x4"), *recipe.stages[1:])).digest


def test_the_canonical_form_is_plain_json_and_reads_back(recipe):
    facts = canonical(recipe)
    assert json.loads(json.dumps(facts)) == facts
    given = {key: value for key, value in facts.items() if value is not None}
    again = parse_recipe(given)
    assert again.digest == recipe.digest
    assert again.stages == recipe.stages


def leaves(facts, place=()):
    """Every place in nested data that holds a value."""
    if isinstance(facts, dict):
        return [leaf for key, value in facts.items() for leaf in leaves(value, (*place, key))]
    if isinstance(facts, list) and facts and isinstance(facts[0], dict):
        return [leaf for index, value in enumerate(facts) for leaf in leaves(value, (*place, index))]
    return [place]


def test_every_setting_but_four_is_in_the_canonical_form(recipe):
    def fields(value, place=()):
        if dataclasses.is_dataclass(value):
            members = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
            return [leaf for name, member in members for leaf in fields(member, (*place, name))]
        if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            return [leaf for index, item in enumerate(value) for leaf in fields(item, (*place, index))]
        return [place]

    parts_budget = {place for place in fields(recipe) if "parts" in place and "budget" in place}
    missing = set(fields(recipe)) - set(leaves(canonical(recipe))) - parts_budget
    later = {("stages", 0, field.name) for field in dataclasses.fields(Prune) if field.metadata == LATER}
    later |= {("stages", 1, "parts", 0, field.name) for field in dataclasses.fields(Quantize) if field.metadata == LATER}
    later |= {("stages", 1, "parts", 1, field.name) for field in dataclasses.fields(Distill) if field.metadata == LATER}
    budgets = (("dense",), ("stages", 0, "budget"), ("stages", 1, "budget"))
    later |= {(*place, field.name) for place in budgets for field in dataclasses.fields(Budget) if field.metadata == LATER}
    later |= {("data", "resize"), ("data", "jitter"), ("teachers",)}
    assert missing == later | {("task",), ("label",), ("execution", "device"), ("execution", "compile"), ("data", "folder")}


def test_only_what_changes_the_outcome_changes_the_digest(recipe):
    def changed(**changes):
        return dataclasses.replace(recipe, **changes).digest != recipe.digest

    execution = recipe.execution
    assert not changed(label="other")
    assert not changed(execution=dataclasses.replace(execution, device="cuda", compile=True))
    assert not changed(data=dataclasses.replace(recipe.data, folder="elsewhere"))
    assert changed(execution=dataclasses.replace(execution, precision="bfloat16"))
    assert changed(data=dataclasses.replace(recipe.data, flip=False))
    assert changed(stages=recipe.stages[::-1])
    assert changed(teacher=None)
    assert changed(dense=None)
    assert changed(seed=4)


@pytest.mark.parametrize("kind", STAGES)
def test_defaults_survive_their_settings(kind):
    table = {"stage": kind, "parts": [{"stage": "finetune"}]} if kind == "together" else {"stage": kind}
    stage = parse_stage(table, "stages[0]")
    assert parse_stage(stage_settings(stage), "stages[0]") == stage
    assert stage_settings(stage)["stage"] == kind


def test_whole_numbers_and_their_floats_are_one_recipe():
    written = [parse_stage({"stage": "distill", "temperature": value}, "x") for value in (4, 4.0)]
    assert digest_of(stage_settings(written[0])) == digest_of(stage_settings(written[1]))


MODEL = {"network": "resnet20"}
DATA = {"name": "digits"}
PRUNE = {"stage": "prune"}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"model": None}, "recipe.model is missing"),
        ({"data": None}, "recipe.data is missing"),
        ({"stages": PRUNE}, "recipe: stages is {'stage': 'prune'}; write each stage as a [[stages]] table"),
        ({"stagse": []}, "recipe.stagse: there is no such key; did you mean 'stages'?"),
        ({"zzz": 1}, "recipe.zzz: there is no such key; allowed are calibration_images, data, dense"),
        ({"seed": -1}, "recipe.seed is -1: input should be greater than or equal to 0"),
        ({"seed": 2**32}, "recipe.seed is 4294967296: input should be less than 4294967296"),
        ({"seed": "1"}, "recipe.seed is '1': input should be a valid integer"),
        ({"calibration_images": 0}, "recipe.calibration_images is 0: input should be greater than or equal to 1"),
        (
            {"model": {"network": "resnet20", "weigths": "x"}},
            "recipe.model.weigths: there is no such key; did you mean 'weights'?",
        ),
        ({"model": {"network": "resnet21"}}, "recipe: there is no network 'resnet21'"),
        (
            {"model": {"network": "a.onnx"}},
            "network 'a.onnx' is a file; the network itself is needed, as a torch module that can be trained: "
            "for your own network write 'package.module:factory'",
        ),
        ({"teacher": {"network": "resnet20", "x": 1}}, "recipe.teacher.x: there is no such key; allowed are network, weights"),
        ({"data": {"name": "digits", "validation": 1.5}}, "recipe: validation is 1.5; it must lie between 0 and 1"),
        ({"dense": {"epoch": 1}}, "recipe.dense.epoch: there is no such key; did you mean 'epochs'?"),
        (
            {"execution": {"precision": "float16"}},
            "recipe.execution.precision is 'float16': input should be 'auto', 'float32' or",
        ),
        ({"execution": {"compile": 1}}, "recipe.execution.compile is 1: input should be a valid boolean"),
        (
            {"stages": [3]},
            "recipe: stages[0]: every stage needs a key stage = one of prune, quantize, distill, finetune, together",
        ),
        ({"stages": [{"sparsity": 0.5}]}, "recipe: stages[0]: every stage needs a key stage = one of prune"),
        ({"stages": [PRUNE, {"stage": "prun"}]}, "recipe: stages[1]: there is no stage 'prun'; did you mean 'prune'?"),
        ({"stages": [{"stage": "zzz"}]}, "recipe: stages[0]: there is no stage 'zzz'; known are prune, quantize, distill"),
        ({"stages": [{**PRUNE, "sparsty": 1}]}, "recipe: stages[0].sparsty: there is no such key; did you mean 'sparsity'?"),
        ({"stages": [{**PRUNE, "sparsity": 1.5}]}, "recipe: stages[0].sparsity is 1.5: input should be less than or equal to 1"),
        ({"stages": [{**PRUNE, "sparsity": "0.5"}]}, "recipe: stages[0].sparsity is '0.5': input should be a valid number"),
        ({"stages": [{**PRUNE, "first": 1}]}, "recipe: stages[0].first is 1: input should be a valid boolean"),
        ({"stages": [{**PRUNE, "pattern": "3x3"}]}, "recipe: stages[0]: pattern '3x3' is unknown"),
        ({"stages": [{**PRUNE, "budget": {"epoch": 1}}]}, "stages[0].budget.epoch: there is no such key; did you mean 'epochs'?"),
        (
            {"stages": [{**PRUNE, "budget": 5}]},
            "recipe: stages[0].budget is 5: input should be a dictionary or an instance of Budget",
        ),
        (
            {"stages": [{"stage": "quantize", "weight_bits": 9}]},
            "stages[0].weight_bits is 9: input should be less than or equal to 8",
        ),
        ({"stages": [{"stage": "quantize", "percentile": 50}]}, "stages[0].percentile is 50: input should be greater than 50"),
        ({"stages": [{"stage": "distill", "temperature": 0}]}, "stages[0].temperature is 0: input should be greater than 0"),
        ({"stages": [{"stage": "together"}]}, "recipe: stages[0]: together: there are no parts; name at least one stage"),
        (
            {"stages": [{"stage": "together", "parts": PRUNE}]},
            "recipe: stages[0].parts is {'stage': 'prune'}; write each part as a",
        ),
        (
            {"stages": [{"stage": "together", "parts": [{"stage": "x"}]}]},
            "recipe: stages[0].parts[0]: there is no stage 'x'; known are",
        ),
        (
            {"stages": [{"stage": "together", "parts": [{**PRUNE, "budget": {"epochs": 1}}]}]},
            "recipe: stages[0]: together: part 'prune' has its own budget; remove it: the parts share the budget of 'together'",
        ),
    ],
)
def test_errors_name_the_key_what_was_given_and_what_is_allowed(table, text):
    given = {key: value for key, value in {"model": MODEL, "data": DATA, **table}.items() if value is not None}
    with pytest.raises(InvalidRecipe, match=re.escape(text)):
        parse_recipe(given)


def test_several_mistakes_are_told_at_once():
    with pytest.raises(InvalidRecipe, match=r"recipe\.seed is -1: .*; recipe\.calibration_images is 0: "):
        parse_recipe({"model": MODEL, "data": DATA, "seed": -1, "calibration_images": 0})


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InvalidRecipe, match=r"recipe '.*none\.toml' cannot be read: No such file or directory; give the path of"):
        read_recipe(tmp_path / "none.toml")
    wrong = tmp_path / "wrong.toml"
    for content in (b"model = \n", b"\xff\xfe"):
        wrong.write_bytes(content)
        with pytest.raises(InvalidRecipe, match=r"recipe '.*wrong\.toml' is not TOML: "):
            read_recipe(wrong)
    wrong.write_text("seed = 1")
    with pytest.raises(InvalidRecipe, match=r"wrong\.toml\.model is missing; .*wrong\.toml\.data is missing"):
        read_recipe(wrong)


def test_a_recipe_can_be_made_in_python(recipe):
    again = Recipe(model=recipe.model, data=recipe.data, stages=recipe.stages)
    assert again.seed == 0
    assert len(again.digest) == 16
