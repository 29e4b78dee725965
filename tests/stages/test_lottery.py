"""Lottery tickets: the share of a round, rewinding of weights and learning rates, and the early weights."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import SHORT, Interrupted, dense, interrupting_in, network, prune, resources, same, start, state
from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import weighted_layers
from paretrim.run import pipeline
from paretrim.run.pipeline import finished_dense, run_stage, run_stages, train_dense
from paretrim.run.planning import predict
from paretrim.run.recipe import parse_recipe
from paretrim.stages.prune.lottery import Lottery
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
from paretrim.train.budget import learning_rate_at
from paretrim.train.checkpoint import load_state

NONE = replace(SHORT, epochs=0)
MODEL = {"model": {"network": "resnet20"}, "data": {"name": "digits"}}


def living(candidate):
    return sum(int(layer.mask.sum()) for layer in weighted_layers(candidate.network).values() if layer.mask is not None)


def test_every_round_prunes_its_share_of_the_rest():
    stage = Lottery(share=0.3, rewind="learning_rate", budget=NONE)
    found = run_stage(dense("residual"), replace(stage, share=0.0), resources("residual"))
    left = living(found)
    for _ in range(4):
        found = run_stage(found, stage, resources("residual"))
        left -= math.ceil(0.3 * left)
        assert living(found) == left


def test_learning_rate_rewinding_equals_one_shot_pruning():
    total = sum(
        layer.mask.numel()
        for layer in weighted_layers(
            run_stage(dense("residual"), Prune(sparsity=0.0, budget=NONE), resources("residual")).network
        ).values()
        if layer.mask is not None
    )
    gone = math.ceil(0.4 * total)
    plain = Prune(sparsity=gone / total, budget=SHORT)
    found = Lottery(share=0.4, rewind="learning_rate", budget=SHORT)
    assert same(*(state(run_stage(dense("residual"), stage, resources("residual"))) for stage in (plain, found)))


def test_remaining_weights_rewind_and_trained_ones_decide_the_mask():
    begun = Lottery(share=0.5).begin(dense("residual").network, resources("residual")).network
    early, cut = network("residual"), run_stage(dense("residual"), prune(budget=NONE), resources("residual")).network
    for name, layer in weighted_layers(begun).items():
        mask = weighted_layers(cut)[name].mask
        assert (layer.mask is None) == (mask is None)
        wanted = weighted_layers(early)[name].weight
        assert torch.equal(layer.weight, wanted if mask is None else wanted * mask)
    for name, norm in begun.batch_norms().items():
        for tensor in ("gamma", "beta", "mean", "variance"):
            assert torch.equal(getattr(norm, tensor), getattr(early.batch_norms()[name], tensor))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "constant"])
def test_the_rest_of_the_learning_rates_is_repeated(schedule):
    whole = replace(SHORT, schedule=schedule, warmup=0.2)
    for progress in (0.0, 0.3, 0.9):
        later = learning_rate_at(progress, replace(whole, skip=0.25))
        assert later == learning_rate_at(0.25 + 0.75 * progress, whole)


def test_early_weights_are_those_that_the_dense_training_had(tmp_path):
    begin, budget = start("residual"), replace(SHORT, epochs=3)
    trained = train_dense(begin, budget, tmp_path / "whole")
    assert same(state(trained.early(0)), state(begin.network))
    assert same(state(trained.early(3)), state(trained.network))

    with pytest.raises(Interrupted):
        train_dense(begin, budget, tmp_path / "killed", report=interrupting_in(2))
    (checkpoint,) = (tmp_path / "killed").rglob("epoch-*.safetensors")
    tensors, _ = load_state(checkpoint)
    early = state(trained.early(1))
    assert all(torch.equal(tensors[f"network.{name}"], tensor) for name, tensor in early.items())


def test_early_weights_are_trained_once(tmp_path, monkeypatch):
    trained = train_dense(start("plain"), SHORT, tmp_path)
    first = state(trained.early(1))
    monkeypatch.setattr(pipeline, "fit", None)
    again = finished_dense(start("plain"), SHORT, tmp_path)
    assert same(first, state(again.early(1)))
    with pytest.raises(InvalidRecipe, match="after epoch 3 of its dense training is needed, but that has only 2"):
        again.early(3)


def test_a_lottery_run_resumes_and_can_be_planned(tmp_path):
    begin, stages = start("plain"), (Lottery(epoch=1, budget=SHORT),) * 2
    trained = train_dense(begin, SHORT, tmp_path)
    found = run_stages(trained, stages, tmp_path)[-1]
    again = run_stages(train_dense(begin, SHORT, tmp_path), stages, tmp_path)[-1]
    assert same(state(found), state(again))
    planned = predict(begin, {"ticket": stages}, dense=SHORT)
    assert [stage.name for stage in planned.stages] == ["dense", "lottery", "lottery"]


def test_times_repeats_a_stage():
    entry = {"stage": "lottery", "rewind": "learning_rate"}
    once = parse_recipe({**MODEL, "stages": [entry, {"stage": "quantize"}]})
    thrice = parse_recipe({**MODEL, "stages": [{**entry, "times": 3}, {"stage": "quantize"}]})
    assert thrice.stages == (once.stages[0],) * 3 + once.stages[1:]
    assert thrice.digest == parse_recipe({**MODEL, "stages": [entry] * 3 + [{"stage": "quantize"}]}).digest
    for times in (0, 101, "3", True, 2.0):
        with pytest.raises(InvalidRecipe, match=r"stages\[0\].times is .*; write how often the stage is done, 1 to 100"):
            parse_recipe({**MODEL, "stages": [{**entry, "times": times}]})


def test_missing_early_weights_are_refused_before_training(tmp_path):
    ticket = {"stage": "lottery", "epoch": 2}
    unknown = r"this recipe has no dense training; give it a \[dense\] budget, or set rewind"
    with pytest.raises(InvalidRecipe, match=unknown):
        parse_recipe({**MODEL, "stages": [ticket]})
    with pytest.raises(InvalidRecipe, match="lottery: epoch is 2, but the dense training has 1; name an earlier one"):
        parse_recipe({**MODEL, "dense": {"epochs": 1}, "stages": [{"stage": "together", "parts": [ticket]}]})
    assert parse_recipe({**MODEL, "dense": {"epochs": 2}, "stages": [ticket]}).stages == (Lottery(epoch=2),)
    with pytest.raises(InvalidRecipe, match=unknown):
        run_stages(start("plain"), [prune(), Together(parts=(Lottery(),), budget=SHORT)], tmp_path)
    with pytest.raises(InvalidRecipe, match=unknown):
        Lottery().begin(network("plain"), replace(resources("plain"), early=None))


def test_rewinding_into_changed_layers_is_refused():
    channels = run_stage(dense("plain"), prune(pattern="channel", budget=NONE), resources("plain"))
    with pytest.raises(
        InvalidRecipe, match=r"the dense network had '.*' of shape .*, but the network now has shape .*; rewind before stages"
    ):
        run_stage(channels, Lottery(budget=NONE), resources("plain"))
    begun = network("plain")
    next(iter(weighted_layers(begun).values())).bias = nn.Parameter(torch.zeros(8))
    with pytest.raises(InvalidRecipe, match=r"had '.*bias' of shape \(8,\), but the network now has none"):
        Lottery().begin(network("plain"), replace(resources("plain"), early=lambda _epoch: begun))
    quantized = run_stage(dense("plain"), Quantize(budget=NONE), resources("plain"))
    assert run_stage(quantized, Lottery(budget=SHORT), resources("plain")).history[-1].bits == 8


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Lottery(pattern="channel"), "lottery: pattern channel cannot be pruned by a share in every round"),
        (lambda: Lottery(pattern="2:4"), "lottery: pattern 2:4 cannot be pruned by a share"),
        (lambda: Lottery(rewind="learning_rate", epoch=1), "epoch is 1, but rewind learning_rate does not rewind weights"),
    ],
)
def test_conflicting_settings_are_refused(make, match):
    with pytest.raises(InvalidRecipe, match=match):
        make()
