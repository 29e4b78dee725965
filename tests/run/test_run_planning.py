import copy

import pytest
import torch

from paretrim.distill.stage import Distill
from paretrim.errors import TrainingFailed
from paretrim.planning import describe, predict
from paretrim.prune.stage import Prune
from paretrim.quantize.stage import Quantize
from paretrim.start import start_from
from paretrim.together import Together
from paretrim.train.budget import Budget


@pytest.fixture
def start(recipe):
    return start_from(recipe)[0]


def test_a_plan_scales_a_few_steps_to_the_whole(start):
    before = copy.deepcopy(start.network.state_dict())
    stages = [Prune(budget=Budget(epochs=7, batch_size=64)), Quantize(budget=Budget(epochs=0)), Distill(budget=Budget(epochs=2))]
    found = predict(start, {"": stages}, dense=Budget(epochs=3))
    assert [(stage.name, stage.epochs, stage.steps) for stage in found.stages] == [
        ("dense", 3, 11),
        ("prune", 7, 21),
        ("quantize", 0, 0),
        ("distill", 2, 11),
    ]
    assert found.epochs == 12
    assert all(stage.step_seconds > 0 for stage in found.stages if stage.epochs)
    assert all(stage.seconds >= stage.epochs * stage.steps * stage.step_seconds for stage in found.stages)
    assert found.seconds == sum(stage.seconds for stage in found.stages)
    assert found.disk_bytes > 4 * found.parameters * 8  # four networks with their files
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.network.state_dict().items())


def test_stages_of_a_kind_are_timed_once(start):
    half, most = ([Prune(sparsity=share, budget=Budget(epochs=1))] for share in (0.5, 0.9))
    found = predict(start, {"half": half, "most": most})
    assert found.stages[0].step_seconds == found.stages[1].step_seconds
    assert [stage.candidate for stage in found.stages] == ["half", "most"]
    text = describe(found)
    assert "  half:\n    prune  " in text
    assert "  most:\n    prune  " in text


def test_a_plan_says_what_a_stage_made_of_stages_is_made_of(start):
    found = predict(start, {"": [Together(parts=(Prune(), Distill()), budget=Budget(epochs=1))]})
    assert found.stages[0].name == "prune+distill"


def test_a_plan_fails_where_the_run_would(start):
    with pytest.raises(TrainingFailed, match=r"planning stage 1 \(prune\): .*lower the learning rate"):
        predict(start, {"": [Prune(budget=Budget(epochs=1, learning_rate=1e30))]})
