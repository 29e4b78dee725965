"""Stages that learn from values inside a teacher, with modules of their own."""

from dataclasses import replace

import pytest
import torch
from tiny import SHORT, dense, network, resources
from training_stages import LONG, Hint, MovesMasks

from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.network.places import value_at
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.stage import Prune
from paretrim.stages.together import Together
from paretrim.train.fit import Plan, fit
from paretrim.train.losses import LossTerm, cross_entropy
from paretrim.train.training import Training


def test_random_draws_of_a_stage_depend_on_the_seed(monkeypatch):
    begin, drawn = Hint.begin, []

    def watched(stage, network, resources, /):
        training = begin(stage, network, resources)
        drawn.append(training.extra["projection"].weight.detach().clone())
        return training

    monkeypatch.setattr(Hint, "begin", watched)
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)
        run_stage(dense("residual"), Hint(budget=replace(SHORT, epochs=0)), resources("residual", seed=seed))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_hint_trains_the_network_and_the_projection():
    narrow = Prune(pattern="channel", sparsity=0.5).begin(dense("residual").network, resources("residual")).network
    stage = Hint(budget=replace(LONG, learning_rate=0.05))
    training = stage.begin(narrow, resources("residual"))
    projection = training.extra["projection"].weight.detach().clone()
    batch = next(iter(training.resources.train(60).epoch(0)))

    def distance():
        with torch.no_grad():
            teacher = training.resources.teacher.values(batch, 0, ("down",))["down"]
            found = training.network.features(batch.inputs, (value_at(training.network.structure, "down"),))
            return float(
                (training.extra["projection"](found[value_at(training.network.structure, "down")]) - teacher).square().mean()
            )

    before = distance()
    fit(training, Plan(stage.name, stage.budget, stage.losses(training.resources), lambda _: None))
    assert distance() < 0.7 * before
    assert not torch.equal(training.extra["projection"].weight, projection)


def test_parts_at_once_see_their_own_modules_only():
    parts = (MovesMasks(), Hint())
    training = Together(parts=parts, budget=LONG).begin(dense("residual").network, resources("residual"))
    assert set(training.extra["1"]) == {"projection"}
    assert "projection" not in training.extra["0"]


def test_a_teacher_returns_module_outputs():
    given = resources("residual")
    batch = next(iter(given.train(20).epoch(0)))
    found = given.teacher.values(batch, 0, ("left", "down"))
    last = value_at(given.teacher.network.structure, "left")
    assert last.startswith("left.")
    assert torch.equal(found["left"], given.teacher.network.features(batch.inputs, (last,))[last])
    assert not found["down"].requires_grad
    assert found["down"].dtype == torch.float32
    assert tuple(found["down"].shape[1:]) == given.teacher.shape_at("down")


def test_a_path_is_that_of_a_module_or_a_value_and_others_are_named():
    structure = network("residual").structure
    assert value_at(structure, structure.output) == structure.output
    with pytest.raises(InvalidRecipe, match=r"the network has no module 'dwon'; near it are down.*; name one by its path"):
        value_at(structure, "dwon")
    with pytest.raises(InvalidRecipe, match="has no module 'dwon'"):
        run_stage(dense("residual"), Hint(at="dwon", budget=SHORT), resources("residual"))


def test_teacher_features_need_a_teacher():
    term = LossTerm(cross_entropy().function, teacher_features=("down",))
    with pytest.raises(TrainingFailed, match="learns from a teacher and there is none"):
        fit(
            Training(network("residual"), replace(resources("residual"), teacher=None)),
            Plan("x", SHORT, (term,), lambda _: None),
        )
