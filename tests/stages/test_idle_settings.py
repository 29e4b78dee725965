"""Settings that nothing would read are refused; the same settings with their reader are not."""

import dataclasses

import pytest
from tiny import NONE, SHORT, dense, resources

from paretrim.errors import InvalidRecipe, InvalidSettings
from paretrim.network.constraints import weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_recipe, parse_stage, stage_settings
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.straight_through import StraightThrough
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage_table import STAGES
from paretrim.stages.together import Together
from paretrim.train.budget import Budget

TERNARY, POWERS = {"*": Format(grid="ternary")}, {"*": Format(grid="powers")}
LAYERS = tuple(weighted_layers(dense("residual").network))


@pytest.mark.parametrize(
    ("table", "reader", "match"),
    [
        (
            {"percentile": 99.9},
            {"calibrator": "percentile"},
            "percentile is 99.9, but only 'percentile' reads it, so it would have no effect; set calibrator or weight_calibrator",
        ),
        ({"percentile": 99.9, "calibrator": "minmax"}, {"weight_calibrator": "percentile"}, "percentile is 99.9, but only"),
        (
            {"smoothing": 0.7, "adjust": ["equalize"]},
            {"adjust": ["smooth"]},
            "smoothing is 0.7, but only 'smooth' reads it, so it would have no effect; set adjust to 'smooth', or leave",
        ),
        ({"rounding_steps": 100}, {"adjust": ["bias", "adaround"]}, "rounding_steps is 100, but only 'adaround' reads it"),
        (
            {"mixed": {"by": "divergence", "bits": 4.0, "samples": 9}},
            {"mixed": {"by": "hessian", "bits": 4.0, "samples": 9}},
            "samples is 9, but by 'divergence' draws no random vectors, so it would have no effect; set by to hessian or latency",
        ),
        (
            {"mixed": {"by": "variance", "percentiles": [30.0, 30.0]}},
            {"mixed": {"by": "variance", "percentiles": [30.0, 30.5]}},
            r"percentiles are \[30.0, 30.0\] for 3 choices; give them in ascending order",  # no layer would get the second
        ),
    ],
)
def test_a_setting_of_quantize_without_its_reader_is_refused(table, reader, match):
    with pytest.raises(InvalidRecipe, match=match):
        parse_stage({"stage": "quantize", **table}, "stage")
    parse_stage({"stage": "quantize", **table, **reader}, "stage")


NO_GROUPS = {"pattern": "unstructured"}

REFUSED = [
    ("prune", {"multiple_of": 4}, {"pattern": "channel"}, "multiple_of is 4, but pattern unstructured removes no channels"),
    ("prune", {"multiple_of": 1, "pattern": "1x4"}, {"pattern": "channel"}, "multiple_of is 1, but pattern 1x4 removes"),
    ("prune", {"start": 0.1}, {"schedule": "cubic"}, "start is 0.1, but schedule is one_shot, which prunes before training"),
    ("prune", {"end": 0.6}, {"schedule": "cubic"}, "end is 0.6, but schedule is one_shot, which prunes before training"),
    ("prune", {"first": True, "pattern": "channel"}, NO_GROUPS, "first is True, but only layers and ignore select the channels"),
    ("prune", {"last": True, "pattern": "channel"}, NO_GROUPS, "last is True, but only layers and ignore select"),
    ("prune", {"depthwise": False, "pattern": "channel"}, NO_GROUPS, "depthwise is False, but only layers and ignore select"),
    (
        "prune",
        {"allocation": "erk", "pattern": "2:4", "sparsity": 0.5},
        NO_GROUPS,
        "allocation is 'erk', but pattern 2:4 sets the sparsity of every layer",
    ),
    ("prune", {"rounds": 5}, {"score": "snip"}, "rounds is 5, but score 'magnitude' is the same in every round"),
    (
        "prune",
        {"schedule": "cubic", "end": 0.5, "budget": {"epochs": 0}},
        {"budget": {"epochs": 1}},
        "end is 0.5, but the budget has 0 epochs, so that nothing is trained",
    ),
    ("rigl", {"drop": 0.0, "every": 10}, {"drop": 0.1}, "every is 10, but drop is 0, so that masks never change"),
    ("rigl", {"until": 0.0, "every": 10}, {"until": 0.1}, "every is 10, but until is 0, so that masks never change"),
    ("acdc", {"allocation": "global", "pattern": "2:4", "sparsity": 0.5}, NO_GROUPS, "allocation is 'global', but pattern 2:4"),
    (
        "acdc",
        {"warmup": 0.5, "last_dense": 0.25, "last_sparse": 0.25, "phase": 0.1},
        {"warmup": 0.2},
        "phase is 0.1, but warmup, last_dense and last_sparse take all of the budget",
    ),
    (
        "straight_through",
        {"end": 0.4, "pattern": "2:4", "sparsity": 0.5},
        NO_GROUPS,
        "end is 0.4, but pattern 2:4 has its full sparsity from start on",
    ),
    (
        "straight_through",
        {"start": 0.0, "end": 0.0, "freeze": 0.0, "decay": 0.1},
        {"freeze": 0.5},
        "decay is 0.1, but freeze is 0, so that masks never change",
    ),
    ("movement", {"threshold": 0.1}, {"selection": "soft"}, "threshold is 0.1, but selection is 'hard', where sparsity"),
    ("movement", {"selection": "soft", "allocation": "erk"}, {"selection": "hard"}, "allocation is 'erk', but selection is"),
    ("movement", {"score_rate": 0.01}, {"selection": "soft"}, "score_rate is 0.01, but selection is 'hard', which ranks scores"),
    ("lottery", {"rewind": "learning_rate", "epoch": 0}, {"rewind": "weights"}, "epoch is 0, but rewind learning_rate does not"),
    ("thinet", {"until": 0.5, "budget": {"epochs": 0}}, {"budget": {}}, "until is 0.5, but the budget has 0 epochs"),
    ("gates", {"rate": 5.0, "budget": {"epochs": 0}}, {"budget": {}}, "rate is 5.0, but the budget has 0 epochs"),
    ("clipq", {"weight": 1.0}, {"trials": 2}, "weight is 1.0, but trials is 0, so that no rates are chosen"),
    ("clipq", {"trials": 2, "bits": 3}, {"trials": 0}, "bits is 3, but 2 trials choose the rates of all layers"),
    (
        "distill",
        {"alpha": 0.0, "temperature": 2.0},
        {"alpha": 0.1},
        "temperature is 2.0, but alpha is 0, so that only",
    ),
    (
        "distill",
        {"alpha": 1.0, "budget": {"label_smoothing": 0.1}},
        {"decay": 0.5},
        "budget.label_smoothing is 0.1, but alpha is 1, so that the labels do not count",
    ),
    (
        "distill",
        {"criteria": [{"loss": "kd"}], "labels": 0.0, "budget": {"label_smoothing": 0.1}},
        {"labels": 0.5},
        "budget.label_smoothing is 0.1, but labels is 0, so that the labels do not count",
    ),
    ("distill", {"decay": 0.5, "budget": {"epochs": 0}}, {"budget": {}}, "decay is 0.5, but the budget has 0 epochs"),
    (
        "distill",
        {"criteria": [{"loss": "hint", "at": "down", "weight": 0.0, "regressor": "pool"}]},
        {"criteria": [{"loss": "hint", "at": "down", "weight": 0.1, "regressor": "pool"}]},
        r"criteria\[0\].regressor is 'pool', but weight is 0, so that this loss does not count",
    ),
    (
        "distill",
        {"criteria": [{"loss": "dkd", "alpha": 0.0, "beta": 0.0, "warmup": 0.1}]},
        {"criteria": [{"loss": "dkd", "alpha": 0.0, "beta": 0.1, "warmup": 0.1}]},
        r"criteria\[0\].warmup is 0.1, but alpha and beta are 0",
    ),
    (
        "distill",
        {"criteria": [{"loss": "rkd", "distance": 0.0, "angle": 0.0, "at": "down"}]},
        {"criteria": [{"loss": "rkd", "distance": 0.0, "at": "down"}]},
        r"criteria\[0\].at is 'down', but distance and angle are 0",
    ),
    (
        "quantize",
        {"portions": [0.5, 1.0], "budget": {"epochs": 0}},
        {"budget": {}},
        r"portions is \(0.5, 1.0\), but the budget has 0 epochs, so that all",
    ),
    (
        "quantize",
        {"activations": "float32", "weight_calibrator": "mse", "calibrator": "minmax"},
        {"activations": "uniform"},
        "calibrator is 'minmax', but activations is 'float32' and weights have weight_calibrator",
    ),
    (
        "quantize",
        {"formats": {"head": {"group": 16}}},
        {"formats": {"head": {"group": 16, "grid": "grouped", "bits": 4}}},
        "formats.head.group is 16, but the grid 'uniform' has no groups",
    ),
    *(
        ("finetune", {"budget": table}, {"budget": {**table, **reader}}, rf"budget.{match}")
        for table, reader, match in (
            ({"optimizer": "adamw", "momentum": 0.9}, {"optimizer": "muon"}, "momentum is 0.9, but optimizer is 'adamw', which"),
            ({"momentum": 0.0, "nesterov": True}, {"momentum": 0.5}, "nesterov is True, but momentum is 0"),
            ({"muon_rate": 0.1}, {"optimizer": "muon"}, "muon_rate is 0.1, but optimizer is 'sgd', which turns no weights"),
            (
                {"milestones": [0.5]},
                {"schedule": "step"},
                r"milestones is \(0.5,\), but schedule is 'cosine', which has",
            ),
            ({"warmup": 1.0, "schedule": "linear"}, {"warmup": 0.9}, "schedule is 'linear', but warmup is 1.0, so that the rate"),
            ({"schedule": "constant", "skip": 0.1}, {"warmup": 0.2}, "skip is 0.1, but schedule is 'constant' without a warmup"),
            ({"epochs": 0, "batch_size": 128}, {"epochs": 1}, "batch_size is 128, but epochs is 0, so that nothing is trained"),
        )
    ),
]


@pytest.mark.parametrize(("name", "table", "reader", "match"), REFUSED)
def test_a_setting_without_its_reader_is_refused_even_at_its_default(name, table, reader, match, monkeypatch):
    monkeypatch.setattr("paretrim.stages.quantize.clipq.find_spec", lambda name: name)
    said = rf"^recipe: stages\[0\]\.{match}.*, so it would have no effect; .*, or leave \w+ out$"
    with pytest.raises(InvalidRecipe, match=said):
        parse_stage({"stage": name, **table}, "recipe: stages[0]")
    parse_stage({"stage": name, **table, **reader}, "recipe: stages[0]")
    if not {"epochs", "label_smoothing"} & table.get("budget", {}).keys():  # what code has computed
        with pytest.raises(InvalidSettings, match=rf"^\w+\.{match}"):
            STAGES[name](**table)
    STAGES[name](**{**table, **reader})


def test_teachers_that_no_stage_asks_are_refused():
    teachers = {"teacher": {"network": "resnet56"}}, {"teachers": [{"name": "large", "network": "resnet56"}]}
    table = {"model": {"network": "resnet20"}, "data": {"name": "digits"}}
    for given, key in zip(teachers, ("teacher", "teachers"), strict=True):
        with pytest.raises(InvalidRecipe, match=rf"recipe\.{key} is .*, but no stage learns from a teacher, so it would have"):
            parse_recipe({**table, **given, "stages": [{"stage": "together", "parts": [{"stage": "prune"}]}]})
        for stages in (
            [],
            [{"stage": "together", "parts": [{"stage": "prune"}, {"stage": "distill"}]}],
            [{"stage": "prune", "pattern": "channel", "score": "hkdp"}],
        ):
            parse_recipe({**table, **given, "stages": stages})


def test_copies_name_everything_so_only_what_differs_from_the_default_counts():
    cubic = Prune(schedule="cubic", end=0.5)
    with pytest.raises(InvalidSettings, match=r"Prune\.end is 0\.5, but schedule is one_shot"):
        dataclasses.replace(cubic, schedule="one_shot")
    assert dataclasses.replace(cubic, schedule="one_shot", end=0.6) == Prune()
    assert dataclasses.replace(cubic, budget=NONE).end == Prune(schedule="cubic", end=0.5, budget=NONE).end == 0.5
    assert Budget(epochs=0, learning_rate=0.1).epochs == 0
    for stage in (Prune(pattern="channel"), StraightThrough(pattern="2:4", sparsity=0.5), FineTune(Budget(optimizer="adamw"))):
        assert parse_stage(stage_settings(stage), "stored") == stage
    together = Together(parts=(Prune(), Distill()), budget=NONE)
    assert parse_stage(stage_settings(together), "stored") == together


@pytest.mark.parametrize(
    ("settings", "readers", "match"),
    [
        (
            {"portions": (0.3, 1.0), "budget": SHORT},
            {"formats": POWERS},
            r"portions are \[0.3, 1.0\], but no layer's grid fixes weights in portions, as 'powers' does",
        ),
        (
            {"rate": 0.01, "formats": TERNARY},
            {"formats": {"*": Format(grid="ternary"), "head": Format(bits=8)}},
            "rate is 0.01, but no layer's grid has a price of bits, as 'uniform' has, so it would have no effect",
        ),
        (
            {"adjust": ("bias", "gptq"), "formats": TERNARY},
            {"formats": {"*": Format(grid="ternary"), "head": Format(bits=8)}},
            "adjust names 'gptq', which rounds weights on the grid 'uniform', but no layer is on it",
        ),
        (
            {"adjust": ("adaround",), "formats": {"*": Format(grid="float16")}, "activations": "float32"},
            {"formats": {"*": Format(grid="float16"), "head": Format(bits=8)}, "rounding_steps": 5},
            "adjust names 'adaround', which rounds weights on the grid 'uniform', but no layer is on it, so it would",
        ),
        (
            {"mixed": Mixture(by="latency", microseconds=1e6, times={**dict.fromkeys(LAYERS, (1.0,) * 3), "fc": (1.0,) * 3})},
            {"mixed": Mixture(by="latency", microseconds=1e6, times=dict.fromkeys(LAYERS, (1.0,) * 3), samples=1)},
            f"times names 'fc', but there is no such layer; layers are {', '.join(LAYERS)}",
        ),
    ],
)
def test_a_setting_that_no_layer_follows_is_refused_when_the_stage_begins(settings, readers, match):
    with pytest.raises(InvalidRecipe, match=match):
        Quantize(**{"budget": NONE, **settings}).begin(dense("residual").network, resources("residual"))
    run_stage(dense("residual"), Quantize(**{"budget": NONE, **settings, **readers}), resources("residual"))
