"""Two classifiers on the same images."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paretrim.cli import comparing
from paretrim.errors import InvalidRecipe
from paretrim.results.comparison import BINS, calibration_error, compare, log_softmax

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.35, 0.25]])
OTHERS = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
LABELS = np.array([0, 1, 1, 1])


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
    monkeypatch.setattr(comparing, "_logits", lambda _parsed, file: (np.zeros((2, widths[file.name])), images))
    given = argparse.Namespace(compare=[Path("a.onnx"), Path("b.onnx")], data="digits", json=False, inside=False, out=None)
    with pytest.raises(InvalidRecipe, match=r"'a\.onnx' gives 3 logits and 'b\.onnx' 4; compare files for the same classes"):
        comparing.compare_files(given)
