"""Every class of settings refuses what it does not know with one kind of error, in Python too."""

import dataclasses
import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import paretrim
from paretrim.bench.effort import Effort
from paretrim.bench.types import Deployment
from paretrim.errors import InvalidRecipe, InvalidSettings
from paretrim.metric import Metric
from paretrim.results.timing import RuntimeSetting
from paretrim.run.delivery import TimingPlan
from paretrim.run.recipe import Recipe
from paretrim.run.teacher_spec import TeacherSpec
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm
from paretrim.train.task import Classification
from paretrim.train.tasks import Regression


def is_checked(kind):
    """Its constructor is one of ``settings()`` or ``plain_settings()``."""
    return getattr(vars(kind).get("__init__"), "__code__", None) in (
        vars(Budget)["__init__"].__code__,
        vars(Metric)["__init__"].__code__,
    )


def kinds():
    """Every dataclass of the package that checks its values, with pydantic or without."""
    for module in pkgutil.walk_packages(paretrim.__path__, "paretrim."):
        if "libparetrim" not in module.name and not module.name.endswith("__main__"):
            for found in vars(importlib.import_module(module.name)).values():
                if isinstance(found, type) and is_checked(found) and found.__module__ == module.name:
                    yield found


KINDS = sorted(kinds(), key=lambda kind: kind.__name__)


def test_they_are_found():
    assert {Budget, Prune, Quantize, Distill, Together, Recipe, TeacherSpec, Format, Metric, Effort, LossTerm} <= set(KINDS)


MADE_FOR_YOU = {
    *("Batch", "Candidate", "CompressedNetwork", "Evaluator", "Outcome", "Outputs", "Resources", "Start", "Step", "Trial"),
    "WeightSettings",  # given to a weight grid
    "Grid",  # what a grid returns, for every layer; what holds it checks it
    "Training",  # what a stage of your own returns; the loop checks it
    "IndexedDataset",  # wraps any data set; the reader checks what it yields
}
"""Public dataclasses that hold what Paretrim made, or are checked where they are used."""


def test_every_public_class_of_settings_is_checked():
    public = {name: getattr(paretrim, name) for name in paretrim.__all__}
    unchecked = {name for name, found in public.items() if dataclasses.is_dataclass(found) and not is_checked(found)}
    assert unchecked <= MADE_FOR_YOU


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
    "of two kinds": (
        lambda: Prune(pattern="channel", multiple_of=0),
        r"^Prune\.multiple_of is 0: input should be greater than or equal to 1, or 'measured'$",
    ),
    "no list inside": (
        lambda: Distill(criteria=[{"loss": "attention", "at": "layer1"}]),
        r"^Distill\.criteria\.0\.attention\.at is 'layer1': input should be a list$",
    ),
    "an empty list": (
        lambda: Distill(criteria=[{"loss": "attention", "at": []}]),
        r"^Distill\.criteria\.0\.attention\.at is \[\]: input should have at least 1 item$",
    ),
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
    "a rule of its own": (
        lambda: Prune(pattern="3x7x"),
        r"^pattern '3x7x' is unknown; write 'unstructured', '1x4' or 'n:m' .*'channel'$",
    ),
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
    "a metric of no name": (lambda: Metric(" "), r"^Metric\.name is ' ': it must be a text that is not empty$"),
    "a metric by its direction": (
        lambda: Metric("psnr", "dB", "up"),
        r"^Metric\.higher_is_better is 'up': it must be True or F",
    ),
    "a metric without a name": (lambda: Metric(), r"^Metric: missing a required argument: 'name'; it takes name, unit, higher_"),
    "a metric twice": (lambda: Metric("a", name="b"), r"^Metric: multiple values for argument 'name'; it takes name"),
    "another runtime": (
        lambda: RuntimeSetting("onnx", 1),
        r"^RuntimeSetting\.runtime is 'onnx': it must be one of paretrim, onnxruntime, openvino, reference$",
    ),
    "no threads": (lambda: RuntimeSetting("paretrim", 0), r"^RuntimeSetting\.threads is 0: it must be 1 or more$"),
    "threads of another type": (
        lambda: Deployment("a", "a.trim", "paretrim", True),
        r"^Deployment\.threads is True: it must be a whole number$",
    ),
    "a path of another type": (lambda: Deployment("a", None, "paretrim"), r"^Deployment\.path is None: it must be a text$"),
    "effort by its name": (
        lambda: TimingPlan((RuntimeSetting("paretrim", 1),), "quick"),
        r"^TimingPlan\.effort is 'quick': it must be of the class Effort$",
    ),
    "a runtime by its name": (
        lambda: TimingPlan(["paretrim"], Effort()),
        r"^TimingPlan\.settings\[0\] is 'paretrim': it must be of the class RuntimeSetting$",
    ),
    "no list": (lambda: TimingPlan("paretrim", Effort()), r"^TimingPlan\.settings is 'paretrim': it must be a list$"),
    "a metric by its name": (lambda: Classification(metric="f1"), r"^Classification\.metric is 'f1': it must be of the class M"),
    "the same": (lambda: Regression(metric="rmse"), r"^Regression\.metric is 'rmse': it must be of the class Metric$"),
    "no function": (lambda: LossTerm(0.5), r"^LossTerm\.function is 0\.5: it must be a function$"),
    "no number": (lambda: LossTerm(len, "1"), r"^LossTerm\.weight is '1': it must be a finite number or a function$"),
    "one name": (lambda: LossTerm(len, features="conv1"), r"^LossTerm\.features is 'conv1': it must be a list$"),
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


def test_numbers_of_numpy_and_lists_become_pythons_own():
    made = TimingPlan([RuntimeSetting("paretrim", np.int64(2))], Effort(settled=np.float32(0.5), primer_seconds=0))
    assert made == TimingPlan((RuntimeSetting("paretrim", 2),), Effort(settled=0.5, primer_seconds=0.0))
    assert json.loads(json.dumps(dataclasses.asdict(made)))["settings"] == [{"runtime": "paretrim", "threads": 2}]


def test_a_path_of_a_deployment_may_be_a_path():
    assert Deployment("a", Path("a.trim"), "paretrim") == Deployment("a", "a.trim", "paretrim")
