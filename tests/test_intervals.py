"""Intervals against SciPy's."""

from __future__ import annotations

import pytest
from scipy import stats

from paretrim.errors import InvalidRecipe
from paretrim.intervals import accuracy_interval, beats_guessing, mean_interval, t_quantile, wilson_interval


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 31, 100])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99, 0.999])
def test_t_quantile_is_scipys(freedom: int, confidence: float) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9)


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (3, 10), (9512, 10_000), (1, 1)])
def test_wilson_is_scipys(successes: int, count: int) -> None:
    own = wilson_interval(successes / count, count)
    other = stats.binomtest(successes, count).proportion_ci(method="wilson")
    assert (own.low, own.high) == pytest.approx((other.low, other.high), abs=1e-12)
    assert own.low <= own.value <= own.high


def test_mean_interval_of_known_numbers() -> None:
    found = mean_interval([0.94, 0.95, 0.96])
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.95, 0.95 - 4.302653 * 0.01 / 3**0.5, 0.95 + 4.302653 * 0.01 / 3**0.5)
    )


def test_an_accuracy_is_wilsons() -> None:
    assert accuracy_interval(9512, 10_000) == wilson_interval(0.9512, 10_000)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_an_impossible_accuracy_is_refused(correct: int, n: int) -> None:
    with pytest.raises(InvalidRecipe, match=f"{correct} correct of {n} images is not an accuracy"):
        accuracy_interval(correct, n)


def test_to_be_better_than_guessing_takes_the_whole_interval() -> None:
    assert not beats_guessing(0.12, 100, 10)
    assert beats_guessing(0.12, 10_000, 10)
