"""The members of a task: classification, and a user-defined one."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.intervals import wilson_interval
from paretrim.metric import ACCURACY, Metric
from paretrim.run.drop import Drop, amount, drop_between, estimate_of, images_needed, loses, worsens
from paretrim.train.task import CLASSIFICATION
from paretrim.train.tasks import REGRESSION, outputs_for, task_named

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_task.py"


@pytest.fixture
def own(monkeypatch):
    spec = importlib.util.spec_from_file_location("own_task", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_task", module)
    spec.loader.exec_module(module)
    return module


def test_classification_is_the_share_of_right_classes():
    logits = np.array([[0.0, 2.0], [3.0, 1.0], [0.0, 1.0], [2.0, 0.0]], np.float32)
    decisions = CLASSIFICATION.decide((logits,))
    scores = CLASSIFICATION.score(decisions, np.array([1, 0, 0, 0]))
    assert decisions.tolist() == [1, 0, 1, 0]
    assert scores.tolist() == [True, True, False, True]
    assert CLASSIFICATION.value(scores) == 0.75
    assert int(CLASSIFICATION.running((torch.from_numpy(logits),), torch.tensor([1, 0, 0, 0]))) == 3


def test_a_recipe_names_a_task(own):
    assert task_named("classification") is CLASSIFICATION
    assert task_named("own_task:Regression") == own.Regression()
    assert task_named("regression") is REGRESSION
    with pytest.raises(InvalidRecipe, match=r"task is .depth.; write one of classification, regression, or package\.module:name"):
        task_named("depth")
    with pytest.raises(InvalidRecipe, match=r"which has no metric; it must be a paretrim\.Task"):
        task_named("own_task:network")


def test_regression_is_the_mean_squared_error():
    outputs = (torch.tensor([[1.0], [2.0], [5.0]]), torch.zeros(3, 1, 1))
    labels = torch.tensor([[1, 0], [4, 1], [5, 0]])
    scores = REGRESSION.score(REGRESSION.decide(tuple(output.numpy() for output in outputs)), labels.numpy())
    assert scores.tolist() == [0.0, 2.5, 0.0]
    assert REGRESSION.value(scores) == pytest.approx(5 / 6)
    assert float(REGRESSION.loss(outputs, labels, label_smoothing=0.0)) == pytest.approx(5 / 6)
    assert float(REGRESSION.running(outputs, labels)) == pytest.approx(2.5)
    assert float(REGRESSION.imitation(outputs, outputs, temperature=4.0)) == 0.0
    single = (torch.tensor([[1.0], [3.0]]),)  # labels [N], as those of a data set of classes
    assert float(REGRESSION.loss(single, torch.tensor([1, 1]), label_smoothing=0.0)) == 2.0
    assert not REGRESSION.metric.higher_is_better
    assert (outputs_for(REGRESSION, 10), outputs_for(CLASSIFICATION, 10)) == (1, 10)


def test_numbers_agree_up_to_a_hundredth_of_the_largest():
    ours = np.array([[10.0], [0.0], [1.0]])
    assert REGRESSION.agreement(ours, ours + np.array([[0.11], [0.09], [0.0]])).tolist() == [False, True, True]


def test_as_many_labels_as_numbers():
    REGRESSION.check_labels(torch.zeros(4, dtype=torch.int64), [(1,)], "a batch has")
    REGRESSION.check_labels(torch.zeros(4, 3), [(2,), (1,)], "a batch has")
    with pytest.raises(DataUnavailable, match=r"a batch has 1 labels for each image and the network returns 10 numbers"):
        REGRESSION.check_labels(torch.zeros(4), [(10,)], "a batch has")
    assert REGRESSION.batch_labels(torch.tensor([1, 2]), 2, "batch 0").dtype == torch.float32


def test_an_estimate_has_an_interval_of_its_kind():
    right = np.arange(100) < 90
    assert estimate_of(right, CLASSIFICATION) == wilson_interval(0.9, 100)
    scores = np.random.default_rng(0).random(400)
    found = estimate_of(scores, REGRESSION)
    half = 1.96 * scores.std() / 20
    assert found.value == pytest.approx(scores.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_labels_of_classes_fit_the_outputs():
    with pytest.raises(DataUnavailable, match=r"a batch has labels 0\.\.4 and the network has 4 outputs"):
        CLASSIFICATION.check_labels(torch.tensor([0, 4]), [(4,)], "a batch has")


def test_a_loss_is_named_in_its_unit():
    assert (amount(0.01), amount(0.005), amount(0.5, REGRESSION.metric)) == ("1 point", "0.5 points", "0.5")
    assert (worsens(ACCURACY), worsens(REGRESSION.metric)) == ("accuracy drops", "mean squared error rises")


def test_a_rising_error_is_a_loss(own):
    stream = np.random.default_rng(1)
    dense = stream.random(200)
    worse = drop_between(dense, dense + 0.5 + 0.01 * stream.standard_normal(200), own.Regression())
    assert worse.value == pytest.approx(0.5, abs=0.01)
    assert 0.49 < worse.interval.low < worse.value < worse.interval.high < 0.51
    assert worse.exceeds(0.4)
    assert worse.beyond(0.4)
    assert not worse.within(0.4)
    assert images_needed(worse, 0.4) is None
    assert images_needed(worse, 0.6) == 1
    assert loses(worse).startswith("mean squared error rises by 0.499 on 200 images (95 % interval 0.498 to 0.5)")
    assert drop_between(dense + 0.5, dense, own.Regression()).value == pytest.approx(-0.5)
    better = loses(drop_between(dense + 0.5 + 0.01 * stream.standard_normal(200), dense, own.Regression()))
    number = r"0\.(?:49|50|5)\d?"
    assert re.fullmatch(rf"mean squared error drops by {number} on 200 images \(95 % interval {number} to {number}\)", better)


def test_what_is_won_is_not_a_negative_drop():
    said = "by 0.83 points on 360 images (95 % interval \N{MINUS SIGN}0.55 to 2.58)"
    assert loses(Drop(lost=1, won=4, images=360)) == f"accuracy rises {said}"
    assert loses(Drop(lost=4, won=1, images=360)) == f"accuracy drops {said}"
    assert loses(Drop(lost=2, won=2, images=360)).startswith("accuracy drops by 0.00 points on 360 images")


def test_a_metric_that_is_no_mean_has_an_interval():
    class Iou:
        metric = Metric("mIoU", "%")

        def value(self, scores):
            both, either = scores.sum(0)
            return both / either

    counts = np.stack([np.arange(1, 101), np.full(100, 200)], 1).astype(float)
    fewer = counts * (0.9, 1.0)
    drop = drop_between(counts, fewer, Iou())
    assert drop.value == pytest.approx(0.1 * counts[:, 0].sum() / counts[:, 1].sum())
    assert 0 < drop.interval.low < drop.value < drop.interval.high < 0.04
    assert "points on 100 images" in str(drop)


def test_a_metric_is_written_as_what_it_is():
    error = Metric("mean squared error", higher_is_better=False)
    assert (ACCURACY.text(0.9512), ACCURACY.change_text(-0.0123)) == ("95.12 %", "\N{MINUS SIGN}1.23 points")
    assert (error.text(0.012341), error.change_text(0.001)) == ("0.01234", "+0.001")
    assert (ACCURACY.heading, error.heading) == ("accuracy, %", "mean squared error")
    assert ACCURACY.gain(0.9, 0.8) > 0 > error.gain(0.9, 0.8)
    assert (ACCURACY.merit(0.5), error.merit(0.5)) == (0.5, -0.5)
