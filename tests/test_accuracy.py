"""Values of training and of stages may be read as accuracies where they are accuracies."""

import pytest

from paretrim.history import StageOutcome
from paretrim.metric import Metric
from paretrim.train.fit import Tick

ERROR = Metric("error", "mm", higher_is_better=False)


def test_values_are_accuracies_for_classification():
    assert Tick("prune", 0, 3, 1, 9, 0.5, 0.75, 61.0).accuracy == 0.75
    outcome = StageOutcome("prune", {}, 1, 2.0, 0.5, 32, 0.25, 0.875)
    assert (outcome.accuracy_before, outcome.accuracy_after) == (0.25, 0.875)


def test_other_values_are_none():
    tick = Tick("prune", 0, 3, 1, 9, 0.5, 0.75, 61.0, ERROR)
    outcome = StageOutcome("prune", {}, 1, 2.0, 0.5, 32, 0.25, 0.875, metric=ERROR)
    for read in (lambda: tick.accuracy, lambda: outcome.accuracy_before, lambda: outcome.accuracy_after):
        with pytest.raises(AttributeError, match="there is no accuracy, since the task is judged by error; read the value"):
            read()
