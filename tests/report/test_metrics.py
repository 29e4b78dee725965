"""Reports of a metric that is no accuracy and of which less is better."""

from dataclasses import replace

import pytest
from fakes import baseline, orders

from paretrim.errors import InvalidRecipe
from paretrim.metric import Metric
from paretrim.report import document, page, terminal
from paretrim.report.frontier import paired_difference, ranks
from paretrim.report.points import aggregate
from paretrim.results import store

ERROR = Metric("mean squared error", higher_is_better=False)


def judged(outcomes, factor=10.0):
    """The same outcomes judged by an error: what was the more accurate has the larger error."""
    return tuple(
        replace(
            one,
            metric=ERROR,
            classes=None,
            deployed_value=factor * one.deployed_value,
            trained_value=factor * one.trained_value,
            onnx_value=None,
            history=tuple(replace(stage, metric=ERROR) for stage in one.history),
        )
        for one in outcomes
    )


def test_a_line_keeps_its_metric_and_values_beyond_1():
    (first, *_) = judged(baseline())
    assert store.decode(store.encode(first)) == first
    assert "metric" not in store.encode(baseline()[0])


def test_less_error_is_better_on_the_frontier_and_in_verdicts():
    low, high = judged(baseline(), 10.0), judged(baseline(), 11.0)
    worse = tuple(replace(one, label="worse") for one in high)
    points = aggregate((*low, *worse))
    assert [rank.on_frontier for rank in ranks(points, None)] == [True, False]
    assert " is worse than " in paired_difference(points[1], points[0]).verdict
    assert " is better than " in paired_difference(points[0], points[1]).verdict


def test_no_error_is_written_as_a_percentage():
    outcomes = judged(orders())
    table = terminal.text(outcomes, width=200)
    assert "mean squared error (lower is better)" in table
    assert "accuracy" not in table
    text = document.render(outcomes)
    assert "## Mean squared error" in text
    assert "accuracy" not in text.lower()
    shown = page.render(outcomes, distributions={}).split("<script type")[0]
    assert "accura" not in shown.lower()
    assert "guessing" not in shown
    assert "A filled point above the line owes" in shown
    assert "A filled point below the line owes" in page.render(orders(), distributions={})


def test_two_metrics_do_not_share_a_page():
    with pytest.raises(InvalidRecipe, match=r"judged by 2 metrics \(accuracy, %, mean squared error\) cannot share one frontier"):
        aggregate((*baseline(), *judged(orders())))
