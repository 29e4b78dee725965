"""Every class of settings refuses what it does not know with one kind of error, in Python too."""

import dataclasses
import importlib
import pkgutil

import pytest

import paretrim
from paretrim.errors import InvalidRecipe, InvalidSettings
from paretrim.run.recipe import Recipe
from paretrim.run.teacher_spec import TeacherSpec
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
from paretrim.train.budget import Budget


def kinds():
    """Every dataclass of the package that pydantic checks."""
    for module in pkgutil.walk_packages(paretrim.__path__, "paretrim."):
        if "libparetrim" not in module.name and not module.name.endswith("__main__"):
            for found in vars(importlib.import_module(module.name)).values():
                if isinstance(found, type) and "__pydantic_fields__" in vars(found) and found.__module__ == module.name:
                    yield found


KINDS = sorted(kinds(), key=lambda kind: kind.__name__)


def test_they_are_found():
    assert {Budget, Prune, Quantize, Distill, Together, Recipe, TeacherSpec, Format} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_one_clear_error(kind):
    with pytest.raises(
        InvalidSettings, match=rf"{kind.__name__}\.epochz: there is no such key; (allowed are|did you mean)"
    ) as caught:
        kind(epochz=object())
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InvalidRecipe)


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_values_are_one_clear_error(kind):
    with pytest.raises(InvalidSettings, match=rf"{kind.__name__}(\.\w+ is .*input should be| takes \d+ values at most)"):
        kind(*[object()] * 40)


WRONG = {
    "by position": (lambda: Budget("5"), r"^Budget\.epochs is '5': input should be a valid integer$"),
    "inside": (lambda: Prune(budget={"epochs": "x"}), r"^Prune\.budget\.epochs is 'x': input should be a valid integer$"),
    "unknown inside": (
        lambda: Prune(budget={"epoch": 1}),
        r"^Prune\.budget\.epoch: there is no such key; did you mean 'epochs'\?$",
    ),
    "unknown in one of several": (
        lambda: Distill(criteria=[{"loss": "hint", "att": ["a"]}]),
        r"Distill\.criteria\.0\.hint\.att: there is no such key; did you mean 'at'\?",
    ),
    "of another type": (
        lambda: FineTune(budget=3),
        r"^FineTune\.budget is 3: input should be a dictionary or an instance",
    ),
    "a rule of its own": (lambda: Prune(pattern="3x7x"), r"^pattern '3x7x' is unknown; write 'unstructured', '1x4' or 'n:m'"),
    "replaced": (
        lambda: dataclasses.replace(Prune(), sparsity=2.0),
        r"^Prune\.sparsity is 2\.0: input should be less than or",
    ),
    "in settings that these make": (
        lambda: TeacherSpec(name="a", network="resnet21"),
        r"^TeacherSpec: there is no network 'resne",
    ),
    "missing": (lambda: Together(), r"^Together\.parts is missing$"),
    "no stage": (
        lambda: Together((3,)),
        r"^together: parts holds 3; it must hold stages, such as paretrim\.Prune\(sparsity=0\.8\)$",
    ),
    "many": (lambda: Budget(*["x"] * 11), r"^(Budget\.\w+ is 'x': [^;]*; ){5}and \d+ more$"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name):
    make, message = WRONG[name]
    with pytest.raises(InvalidSettings, match=message):
        make()


def test_a_right_value_is_kept():
    assert Budget(3, batch_size=64) == Budget(epochs=3, batch_size=64)
    assert Prune(budget=Budget(epochs=1)).budget.epochs == 1
