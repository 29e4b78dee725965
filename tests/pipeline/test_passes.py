"""The number of passes over the validation images: each costs a whole evaluation."""

from dataclasses import dataclass, replace

import pytest
import torch
from tiny import FLOAT32, MEAN, NETWORKS, NONE, SHAPE, STD, image_set, start
from torch.utils.data import DataLoader, TensorDataset

from paretrim import compress
from paretrim.data.batches import EvalBatches
from paretrim.graph.types import InputSpec
from paretrim.network import freeze, integer_network
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.run.judge import as_the_file_takes, deploy, judge
from paretrim.run.pipeline import run_stages
from paretrim.run.start import TestSet
from paretrim.runtime import Session
from paretrim.stages.quantize.stage import Quantize


@dataclass
class Counting:
    """A loader that counts the images it gives."""

    loader: DataLoader
    images: int = 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for inputs, labels in self.loader:
            self.images += len(inputs)
            yield inputs, labels


@pytest.fixture
def computed(monkeypatch):
    """Images by what computed them: the network in float32, torch's integers, the native runtime."""
    counts = dict.fromkeys(("float", "torch integers", "native"), 0)

    def counted(kind, owner, name):
        original = getattr(owner, name)

        def call(self, images):
            counts[kind] += len(images)
            return original(self, images)

        monkeypatch.setattr(owner, name, call)

    for kind, owner in (("float", Network), ("torch integers", integer_network.IntegerNetwork), ("native", Session)):
        counted(kind, owner, "outputs")
    return counts


def test_int8_without_training_computes_validation_images_once_in_float_and_once_in_integers(computed, tmp_path):
    batch = next(iter(EvalBatches(images=image_set(), batch_size=120, mean=MEAN, std=STD).epoch(0)))
    data = TensorDataset(batch.inputs, batch.labels)
    validation = Counting(DataLoader(data, 16))
    train = DataLoader(TensorDataset(batch.inputs[:40], batch.labels[:40]), 8)
    compress(NETWORKS["residual"](), train, validation, stages=[Quantize(budget=NONE)], folder=tmp_path, execution=FLOAT32)
    # Seen a third time for the digest that tells data sets apart, without computing anything; the first batch for its shape.
    assert validation.images == 3 * len(data) + 16
    # Beside validation the runtime computes the images of the exact check, and the network a few that capture compares.
    assert computed["native"] == len(data) + 32
    assert computed["torch integers"] == 0
    assert 0 <= computed["float"] - len(data) < 16


def test_the_dense_network_is_validated_once_for_all_recipes_that_begin_with_it(computed, tmp_path):
    begin = start("residual")
    images = sum(len(batch.labels) for batch in begin.validation.epoch(0))
    for bits in (8, 7, 6):
        done = run_stages(begin, [Quantize(budget=NONE, weight_bits=bits)], tmp_path)[-1]
        assert done.history[0].value_before == begin.value
    assert computed == {"float": images, "torch integers": 0, "native": 3 * images}
    other = replace(begin, network=run_stages(begin, [], tmp_path)[0].network)
    assert other.value == begin.value
    assert computed["float"] == 2 * images


def test_recipes_taken_up_again_compute_nothing(computed, tmp_path):
    begin = start("plain")
    run_stages(begin, [Quantize(budget=NONE)], tmp_path)
    computed.update(dict.fromkeys(computed, 0))
    run_stages(replace(begin), [Quantize(budget=NONE)], tmp_path)
    assert not any(computed.values())


@pytest.mark.parametrize("spec", [InputSpec(SHAPE), InputSpec(SHAPE, MEAN, STD)], ids=["normalised", "pixels"])
def test_a_quantized_candidate_is_frozen_once_from_the_end_of_its_stage_to_its_judgement(spec, monkeypatch, tmp_path):
    frozen = []

    def lower(*arguments):
        frozen.append(lowered(*arguments))
        return frozen[-1]

    begin = replace(start("residual"), spec=spec)
    lowered = freeze.lower
    monkeypatch.setattr(freeze, "lower", lower)
    candidate = run_stages(begin, [Quantize(budget=NONE)], tmp_path)[-1]
    deployed = deploy(candidate, begin, tmp_path / "files")
    images = image_set()
    batches = EvalBatches(images=images, batch_size=120, mean=MEAN, std=STD)
    shown = as_the_file_takes(next(iter(batches.epoch(0))).inputs, spec)
    assert judge(candidate, deployed, TestSet(shown, images.labels.numpy(), batches), begin).agreement == 1
    assert len(frozen) == 1
    same_network(deployed.graph, freeze.freeze(candidate.network, spec))
    assert run_stages(begin, [], tmp_path)[-1].integers is None


def same_network(one, other):
    assert (one.input, one.output, one.classes) == (other.input, other.output, other.classes)
    for found, expected in zip(one.nodes, other.nodes, strict=True):
        assert (found.name, found.op, found.inputs, found.type) == (expected.name, expected.op, expected.inputs, expected.type)
        assert found.attributes == expected.attributes
        assert {name: (array.dtype, array.tobytes()) for name, array in found.tensors.items()} == {
            name: (array.dtype, array.tobytes()) for name, array in expected.tensors.items()
        }


def test_a_candidate_that_was_trained_further_is_frozen_again(tmp_path):
    candidate = run_stages(start("residual"), [Quantize(budget=NONE)], tmp_path)[-1]
    before = candidate.integers
    assert candidate.integers is before
    with torch.no_grad():
        for layer in weighted_layers(candidate.network).values():
            layer.weight.mul_(-1)
    same_network(candidate.integers, freeze.freeze(candidate.network))
    assert candidate.integers is not before
