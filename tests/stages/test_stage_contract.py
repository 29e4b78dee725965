"""The contract of every stage, over a table of stages and networks."""

import functools
import json
import tomllib
from dataclasses import dataclass, replace

import pytest
import torch
from tiny import NETWORKS, NONE, STAGES, dense, resources, same, start, state

from paretrim.errors import TrainingFailed
from paretrim.graph.interpreter import run
from paretrim.network.constraints import sparsity, weight_bits, weighted_layers
from paretrim.network.freeze import freeze
from paretrim.run.candidate import load_candidate, save_candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage, stage_settings
from paretrim.stages.finetune import FineTune
from paretrim.stages.stage_table import STAGES as NAMED

every_network = pytest.mark.parametrize("name", NETWORKS)
two_networks = pytest.mark.parametrize("name", ["residual", "without_norm"])
every_stage = pytest.mark.parametrize("kind", STAGES)


def test_every_stage_with_a_name_is_among_them():
    """Two make networks of other channels, which these tests do not expect: test_gates.py and test_thin.py have theirs."""
    found = {part.name for stage in STAGES.values() for part in (stage, *getattr(stage, "parts", ()))}
    assert NAMED.keys() - found == {"gates", "thin"}


@functools.cache
def result(kind, name, seed=0):
    return run_stage(dense(name), STAGES[kind], resources(name, seed=seed))


@every_network
@every_stage
def test_the_parent_is_unchanged_and_the_seed_decides_all_bits(kind, name):
    parent = dense(name)
    before, structure, mode = state(parent), parent.network.structure, parent.network.training
    again = run_stage(parent, STAGES[kind], resources(name))
    assert same(state(again), state(result(kind, name)))
    assert same(before, state(parent))
    assert (structure, mode, len(parent.history)) == (parent.network.structure, parent.network.training, 1)


@every_network
@every_stage
def test_a_look_at_the_network_does_not_end_its_training(kind, name):
    """Otherwise the rest of an epoch trains with statistics that no longer follow the weights."""
    training = STAGES[kind].begin(dense(name).network, resources(name))
    training.network.train()
    for progress in (0.0, 0.3, 0.7):
        STAGES[kind].advance(training, progress)
        assert all(module.training for module in training.network.modules()), progress


@every_network
@every_stage
def test_history_says_what_was_done(kind, name):
    found = result(kind, name)
    assert found.history[:1] == dense(name).history
    assert len(found.history) == 2
    last = found.history[-1]
    assert (last.name, last.epochs, found.epochs) == (STAGES[kind].name, 2, 10)
    assert last.value_before == dense(name).history[-1].value_after
    assert (last.sparsity, last.bits) == (sparsity(found.network), weight_bits(found.network))
    assert last.settings == stage_settings(STAGES[kind])


@every_stage
def test_another_seed_gives_another_result(kind):
    other = result(kind, "residual", 1)
    assert not same(state(result(kind, "residual")), state(other))


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    run_stage(dense("depthwise"), STAGES["together"], resources("depthwise"))
    assert torch.equal(torch.rand(3), expected)


@two_networks
@every_stage
def test_zero_epochs_train_nothing(kind, name):
    found = run_stage(dense(name), replace(STAGES[kind], budget=NONE), resources(name))
    assert found.history[-1].epochs == 0
    if STAGES[kind].name in ("finetune", "distill"):
        assert same(state(found), state(dense(name)))
    else:
        assert found.history[-1].bits == result(kind, name).history[-1].bits
    if STAGES[kind].name == "prune":
        assert found.history[-1].sparsity == result(kind, name).history[-1].sparsity


@dataclass(frozen=True)
class Spoils(FineTune):
    """Training that ends in a weight that is NaN."""

    def advance(self, training, progress, /):
        if progress == 1.0:
            weighted_layers(training.network)["0"].weight.data[0, 0, 0, 0] = float("nan")


def test_training_that_ends_in_nan_names_stage_and_layer():
    said = r"stage 2 \(finetune\): '0\.weight' holds NaN or infinity at the end of the stage; check the weights it began with"
    with pytest.raises(TrainingFailed, match=said):
        run_stage(dense("without_norm"), Spoils(budget=STAGES["finetune"].budget), resources("without_norm"))


@every_stage
def test_settings_survive_json_and_toml(kind):
    settings = stage_settings(STAGES[kind])
    assert parse_stage(json.loads(json.dumps(settings)), "stage") == STAGES[kind]
    assert parse_stage(tomllib.loads(toml(settings)), "stage") == STAGES[kind]


def toml(table):
    """Enough of TOML for settings: no None (a key left out means its default), inline tables for nesting."""
    return "\n".join(f"{key} = {value_text(value)}" for key, value in table.items() if value is not None)


def value_text(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {value_text(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return json.dumps(value)


@two_networks
@every_stage
def test_a_candidate_survives_its_file(kind, name, tmp_path):
    found = result(kind, name)
    save_candidate(found, tmp_path / "candidate")
    again = load_candidate(tmp_path / "candidate")
    assert same(state(found), state(again))
    assert again.history == found.history
    images = resources(name).calibration
    with torch.no_grad():
        assert torch.equal(found.network(images), again.network(images))


@two_networks
@every_stage
def test_the_result_freezes_to_the_trained_network(kind, name):
    found = result(kind, name)
    graph = freeze(found.network)
    assert graph.quantized == (found.history[-1].bits < 32)
    images = resources(name).calibration[:20]
    with torch.no_grad():
        logits = found.network(images).numpy()
    assert (run(graph, images.numpy()).argmax(1) == logits.argmax(1)).mean() >= 0.9
    exported = [node.tensors["weight"] for node in graph.nodes if node.op in ("conv2d", "linear")]
    layers = weighted_layers(found.network).values()
    for weight, layer in zip(exported, layers, strict=True):
        if layer.mask is not None:
            assert not weight[~layer.mask.numpy()].any()
        assert (weight == 0).sum() == int((layer.effective_weight() == 0).sum())
    assert freeze(found.network, start(name).spec).input.takes_pixels
