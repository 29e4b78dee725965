"""Two classifiers on the same images."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paretrim.cli import comparing
from paretrim.errors import InvalidRecipe
from paretrim.results.comparison import BINS, calibration_error, compare, compare_numbers, log_softmax

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.35, 0.25]])
OTHERS = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
LABELS = np.array([0, 1, 1, 1])
GIVEN = {"data": "digits", "json": False, "out": None, "file": None, "at": []}


def test_figures_are_their_formulas():
    found = compare(np.log(PROBABILITIES) + 3, np.log(OTHERS), LABELS)
    assert found.kl == pytest.approx((PROBABILITIES * np.log(PROBABILITIES / OTHERS)).sum(1).mean())
    assert (found.agreement, found.accuracy, found.worse, found.better) == (0.5, (0.5, 0.5), (0,), (3,))
    counts = [(one.label, one.images, one.right_before, one.right_after, one.worse, one.better) for one in found.classes]
    assert counts == [(0, 1, 1, 0, 1, 0), (1, 3, 1, 2, 0, 1), (2, 0, 0, 0, 0, 0)]


def test_equal_files_differ_in_nothing():
    found = compare(PROBABILITIES, PROBABILITIES, LABELS)
    assert (found.kl, found.agreement, found.worse, found.better) == (0.0, 1.0, (), ())


def test_calibration_error_is_the_gap_in_each_bin():
    logs = np.log(PROBABILITIES)
    assert BINS == 15  # the four confidences lie in bins of their own
    gaps = [0.3, 0.2, 0.6, 0.4]
    assert calibration_error(logs, LABELS) == pytest.approx(sum(gaps) / 4)
    sure = log_softmax(np.array([[100.0, 0.0], [100.0, 0.0]]))
    assert calibration_error(sure, np.array([0, 0])) == pytest.approx(0.0)
    assert calibration_error(sure, np.array([0, 1])) == pytest.approx(0.5)


def test_files_of_other_classes_are_not_compared(monkeypatch):
    widths, images = {"a.onnx": 3, "b.onnx": 4}, SimpleNamespace(labels=np.zeros(2, np.int64))
    monkeypatch.setattr(comparing, "described", lambda _file: SimpleNamespace(task=""))
    monkeypatch.setattr(comparing, "_logits", lambda _parsed, file: (np.zeros((2, widths[file.name])), images))
    given = argparse.Namespace(compare=[Path("a.onnx"), Path("b.onnx")], **GIVEN, inside=False)
    with pytest.raises(InvalidRecipe, match=r"'a\.onnx' gives 3 logits and 'b\.onnx' 4; compare files for the same classes"):
        comparing.compare_files(given)


def test_numbers_are_compared_image_by_image():
    first, second = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), np.array([[0.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
    found = compare_numbers(first, second)
    assert (found.images, found.numbers, found.differences, found.worst) == (3, 2, (0.5, 0.0, 2.0), (2, 0, 1))
    assert found.mean_difference == pytest.approx(5 / 6)
    assert found.largest_difference == 3.0
    a, b = first.ravel() - first.mean(), second.ravel() - second.mean()
    assert found.correlation == pytest.approx((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    assert compare_numbers(first, first).correlation == pytest.approx(1.0)
    assert compare_numbers(first, np.ones_like(first)).correlation is None


@pytest.mark.parametrize(
    ("tasks", "inside", "said"),
    [
        (
            ("", "depth"),
            False,
            r"'a\.onnx' for classification and 'b\.onnx' for depth: files for different tasks cannot be compared",
        ),
        (("depth", "depth"), True, "--inside needs classifiers, and these files are for the task 'depth'; leave out"),
        (
            ("depth", "depth"),
            False,
            r"'a\.onnx' gives 3 numbers for each image and 'b\.onnx' 4; compare files with the same outputs",
        ),
    ],
)
def test_files_of_other_tasks_that_do_not_compare(tasks, inside, said, monkeypatch):
    names = ("a.onnx", "b.onnx")
    of_file, widths = dict(zip(names, tasks, strict=True)), dict(zip(names, (3, 4), strict=True))
    monkeypatch.setattr(comparing, "described", lambda file: SimpleNamespace(task=of_file[file.name]))
    monkeypatch.setattr(comparing, "_numbers", lambda _parsed, file: np.zeros((2, widths[file.name])))
    given = argparse.Namespace(compare=list(map(Path, names)), **GIVEN, inside=inside)
    with pytest.raises(InvalidRecipe, match=said):
        comparing.compare_files(given)
