import copy
import re
from types import SimpleNamespace

import pytest
import torch

import paretrim.run.planning
from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.run.drop import seen_before
from paretrim.run.pipeline import finished_dense, finished_stages, run_stages, train_dense
from paretrim.run.plan_text import describe, doubt
from paretrim.run.planning import predict, step_seconds
from paretrim.run.start import start_from
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
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


@pytest.mark.parametrize(
    ("moments", "expected"),
    [([3.0], 0.0), ([3.0, 8.0], 5.0), ([3.0, 8.0, 9.0], 1.0), ([0.0, 9.0, 10.0, 11.0, 31.0], 1.0), ([0.0, 9.0, 10.0, 13.0], 2.0)],
)
def test_a_slow_step_is_not_scaled_up_and_a_single_step_is_used(moments, expected):
    assert step_seconds(moments) == expected


def test_a_plan_counts_in_words(start):
    nothing = describe(predict(start, {"": [Quantize(budget=Budget(epochs=0))]}))
    assert re.search(r" parameters, [^,]* of calibration and validation predicted, at most", nothing)
    once = describe(predict(start, {"": [Prune(budget=Budget(epochs=1))]}))
    assert re.search(r" parameters, 1 epoch, .* of training predicted, at most", once)


def _warned(validation, validation_images, test, test_images):
    dense = SimpleNamespace(trained_value=test, test_images=test_images)
    later = SimpleNamespace(trained_value=0.1, test_images=test_images)
    return seen_before([((), dense), ((SimpleNamespace(value_before=validation),), later)], validation_images)


def test_validation_accuracy_far_above_test_accuracy_is_told():
    (said,) = _warned(0.998, 5000, 0.9266, 10_000)
    assert said.startswith("warning: the dense network is right on 99.80 % of 5,000 validation images (99.63 to 99.89) and on")
    assert "its weights were probably trained on the validation images" in said
    assert _warned(0.94, 500, 0.9266, 10_000) == ()  # intervals meet
    assert _warned(0.9366, 10**6, 0.9286, 10**6) == ()  # less than a point
    assert _warned(0.80, 5000, 0.92, 10_000) == ()
    stage = SimpleNamespace(value_before=0.998)
    alone = SimpleNamespace(trained_value=0.5, test_images=10_000)
    assert seen_before([((stage,), alone)], 5000) == ()  # the dense network is not among them
    assert seen_before([((), alone)], 5000) == ()  # nothing noted what it is worth


def test_stages_of_a_kind_are_timed_once(start):
    half, most = ([Prune(sparsity=share, budget=Budget(epochs=1))] for share in (0.5, 0.9))
    found = predict(start, {"half": half, "most": most})
    assert found.stages[0].step_seconds == found.stages[1].step_seconds
    assert [stage.candidate for stage in found.stages] == ["half", "most"]
    text = describe(found)
    assert "  half:\n    prune  " in text
    assert "  most:\n    prune  " in text


def test_what_candidates_begin_with_alike_is_trained_once(start):
    half, most = Prune(sparsity=0.5, budget=Budget(epochs=1)), Prune(sparsity=0.9, budget=Budget(epochs=1))
    ends = Quantize(budget=Budget(epochs=2)), Distill(budget=Budget(epochs=4))
    found = predict(start, {"a": [half, ends[0]], "b": [half, ends[1]], "c": [most, ends[0]]}, dense=Budget(epochs=1))
    assert [stage.shared for stage in found.stages] == [False, False, False, True, False, False, False]
    assert found.epochs == 1 + (1 + 2) + 4 + (1 + 2)
    assert found.seconds == sum(stage.seconds for stage in found.stages)
    assert found.stages[3].seconds == 0
    assert not found.finished
    assert describe(found).count("as above") == 1


def test_a_plan_says_what_a_stage_made_of_stages_is_made_of(start):
    found = predict(start, {"": [Together(parts=(Prune(), Distill()), budget=Budget(epochs=1))]})
    assert found.stages[0].name == "prune+distill"


def test_a_run_does_not_begin_twice_what_does_not_train(start, monkeypatch):
    begun = []
    timed = paretrim.run.planning._timed
    monkeypatch.setattr(
        paretrim.run.planning,
        "_timed",
        lambda network, stage, *a, **k: begun.append(stage.name) or timed(network, stage, *a, **k),
    )
    prune, quantize = Prune(budget=Budget(epochs=0), sparsity=0.3), Quantize(budget=Budget(epochs=0))
    chains = {"a": [prune, quantize], "b": [prune, Prune(budget=Budget(epochs=1)), quantize]}
    found = predict(start, chains, untrained=False)
    assert begun == ["prune", "prune", "quantize"]  # those of "b": an error in the last one must not wait for its training
    assert [(one.unpredicted, one.shared) for one in found.stages] == [(True, False)] * 2 + [(False, True)] + [(False, False)] * 2
    assert not found.finished
    text = describe(found)
    assert re.search(r"1 epoch, .* of training and calibration, whose time is not predicted, at most", text)
    assert text.count("not predicted") == 3
    only = predict(start, {"": [quantize]}, untrained=False)
    assert "0 epochs" not in describe(only)
    assert " parameters, calibration, whose time is not predicted, at most" in describe(only)
    begun.clear()
    found = predict(start, {"": [quantize]}, dense=Budget(epochs=1), untrained=False)
    assert begun == ["finetune", "quantize"]
    assert not any(one.unpredicted for one in found.stages)


def test_a_plan_fails_where_the_run_would(start):
    with pytest.raises(TrainingFailed, match=r"planning stage 1 \(prune\): .*lower the learning rate"):
        predict(start, {"": [Prune(budget=Budget(epochs=1, learning_rate=1e30))]})


def test_what_an_earlier_run_has_finished_is_not_timed(start, tmp_path, monkeypatch):
    stages = [Prune(budget=Budget(epochs=0)), Quantize(budget=Budget(epochs=0)), Distill(budget=Budget(epochs=2))]
    run_stages(start, stages[:2], tmp_path)
    done, network = finished_stages(start, stages, tmp_path)
    assert done == 2
    assert len(network.grids) > 0
    found = predict(
        start, {"": stages}, dense=Budget(epochs=3), dense_finished=True, finished={"": finished_stages(start, stages, tmp_path)}
    )
    assert [stage.finished for stage in found.stages] == [True, True, True, False]
    assert not found.finished
    assert found.seconds == found.stages[-1].seconds > 0
    assert describe(found).count("finished") == 3

    monkeypatch.setattr(paretrim.run.planning, "_timed", None)  # nothing may be timed any more
    monkeypatch.setattr(paretrim.run.planning, "evaluate", None)
    over = predict(start, {"": stages[:2]}, finished={"": finished_stages(start, stages[:2], tmp_path)})
    assert over.finished
    assert over.seconds == 0
    assert "nothing left to train" in describe(over)


def test_a_dense_network_is_finished_where_its_file_is(start, tmp_path):
    assert finished_dense(start, None, tmp_path) is start
    assert finished_dense(start, Budget(epochs=0), tmp_path) is None
    trained = train_dense(start, Budget(epochs=0), tmp_path)
    again = finished_dense(start, Budget(epochs=0), tmp_path)
    assert again is not None
    assert again.key() == trained.key()


def test_a_plan_says_how_good_the_network_is_and_doubts_guesses(start):
    found = predict(start, {"": [Prune(budget=Budget(epochs=0))]})
    assert found.images == 143
    assert 0 <= found.value <= 0.3  # untrained
    text = describe(found)
    assert f"right on {100 * found.value:.1f} % of the first 143 validation images\n" in text
    assert predict(start, {"": []}, dense=Budget(epochs=1)).value is None
    assert "not shown to be better than guessing among 10 classes; train it longer, or check its weights" in doubt(0.1, 143, 10)
    assert doubt(0.5, 143, 10) == ""


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (Prune(layers=("nope",), budget=Budget(epochs=1)), r"planning stage 2 \(prune\): prune: layers names 'nope'"),
        (Prune(sparsity=0.99999, budget=Budget(epochs=1)), r"planning stage 2 \(prune\): sparsity 0\.99999 leaves 0 of"),
        (
            Prune(allocation="cost", costs={"nope": 1.0}, budget=Budget(epochs=1)),
            r"planning stage 2 \(prune\): prune: costs names 'nope'",
        ),
    ],
)
def test_a_second_stage_of_a_kind_cannot_fail_only_after_the_first_has_trained(start, second, said):
    with pytest.raises(InvalidRecipe, match=said):
        predict(start, {"": [Prune(sparsity=0.5, budget=Budget(epochs=1)), second]}, dense=Budget(epochs=1))


def test_stages_that_differ_only_in_length_begin_once(start, monkeypatch):
    begun = []
    begin = Quantize.begin
    monkeypatch.setattr(Quantize, "begin", lambda self, *given: begun.append(self.weight_bits) or begin(self, *given))
    stages = [Quantize(weight_bits=bits, budget=Budget(epochs=epochs)) for bits, epochs in ((8, 1), (8, 3), (4, 1))]
    predict(start, {str(number): [stage] for number, stage in enumerate(stages)})
    assert begun == [8, 4]


def test_zeros_of_an_earlier_stage_are_not_announced_as_fewer(start):
    stages = [Prune(sparsity=share, budget=Budget(epochs=0)) for share in (0.8, 0.5, 0.9)]
    assert [share for share, _ in predict(start, {"": stages}).zeros] == [0.8, 0.9]
