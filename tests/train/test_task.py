"""What a task is asked: classification, and one of the user's own."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.metric import ACCURACY, Metric
from paretrim.search.drop import drop_between, images_needed, loses
from paretrim.train.task import CLASSIFICATION, task_named

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
    with pytest.raises(InvalidRecipe, match=r"task is .regression.; write classification, or package\.module:name"):
        task_named("regression")
    with pytest.raises(InvalidRecipe, match=r"which has no metric; it must be a paretrim\.Task"):
        task_named("own_task:network")


def test_labels_of_classes_fit_the_outputs():
    with pytest.raises(DataUnavailable, match=r"a batch has labels 0\.\.4 and the network has 4 outputs"):
        CLASSIFICATION.check_labels(torch.tensor([0, 4]), [(4,)], "a batch has")


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
    assert (ACCURACY.text(0.9512), ACCURACY.change_text(-0.0123)) == ("95.12 %", "−1.23 points")
    assert (error.text(0.012341), error.change_text(0.001)) == ("0.01234", "+0.001")
    assert (ACCURACY.heading, error.heading) == ("accuracy, %", "mean squared error")
    assert ACCURACY.gain(0.9, 0.8) > 0 > error.gain(0.9, 0.8)
    assert (ACCURACY.merit(0.5), error.merit(0.5)) == (0.5, -0.5)
