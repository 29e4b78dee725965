"""Laws of dominance, and differences that are only claimed where they are shown."""

from __future__ import annotations

from dataclasses import replace

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretrim.report import terminal, wording
from paretrim.report.frontier import dominates, non_dominated, order_study, paired_difference, paired_differences, ranks
from paretrim.report.points import Point, aggregate, settings_of

costs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).map(lambda t: tuple(map(float, t))), max_size=25
)


@given(costs)
def test_the_frontier_is_exactly_what_nobody_dominates(entries: list[tuple[float, ...]]) -> None:
    kept = non_dominated(entries)
    front = [entry for entry, keep in zip(entries, kept, strict=True) if keep]
    assert not any(dominates(a, b) for a in front for b in front)
    for entry, keep in zip(entries, kept, strict=True):
        assert keep != any(dominates(other, entry) for other in front)
    assert bool(front) == bool(entries)


@given(costs)
def test_order_of_the_entries_does_not_matter(entries: list[tuple[float, ...]]) -> None:
    assert non_dominated(entries[::-1]) == non_dominated(entries)[::-1]


def test_equal_points_do_not_dominate_each_other() -> None:
    assert non_dominated([(1.0, 2.0), (1.0, 2.0)]) == (True, True)


def test_ranks_name_a_frontier_point() -> None:
    points = aggregate(fakes.many(40))
    for setting in settings_of(points):
        standings = ranks(points, setting)
        front = {point.label for point, rank in zip(points, standings, strict=True) if rank.on_frontier}
        for rank in standings:
            assert rank.on_frontier or rank.dominated_by in front


def test_a_point_without_latency_is_compared_with_nobody() -> None:
    worst = replace(fakes.outcome("unmeasured", accuracy=0.1), latencies=(), file_bytes=10**9)
    points = aggregate((*fakes.baseline(1), worst))
    standing = ranks(points, settings_of(points)[0])[1]
    assert not standing.measured
    assert not standing.on_frontier
    assert standing.dominated_by == ""


def test_without_any_latency_accuracy_and_bytes_decide() -> None:
    outcomes = [replace(one, latencies=()) for one in (*fakes.baseline(1), fakes.outcome("worse", accuracy=0.5))]
    assert [rank.dominated_by for rank in ranks(aggregate(outcomes), None)] == ["", "FP32 baseline"]


def arm(label: str, *accuracies: float, first_seed: int = 0) -> Point:
    runs = [replace(fakes.outcome(label, seed=first_seed + i), deployed_value=value) for i, value in enumerate(accuracies)]
    return aggregate(runs)[0]


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=2, max_size=5))
def test_no_verdict_against_its_interval(pairs: list[tuple[int, int]]) -> None:
    found = paired_difference(arm("A", *(a / 1e4 for a, _ in pairs)), arm("B", *(b / 1e4 for _, b in pairs)))
    claims = "is more accurate" in found.verdict or "is less accurate" in found.verdict
    if found.interval is None:
        assert "nothing can be said" in found.verdict
    else:
        assert claims == (found.interval.low > 0 or found.interval.high < 0)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((0.951, 0.952, 0.950), (0.940, 0.942, 0.939), "A is more accurate than B, by 0.92 to 1.21 points"),
        ((0.940, 0.942, 0.939), (0.951, 0.952, 0.950), "A is less accurate than B, by 0.92 to 1.21 points"),
        ((0.95, 0.96), (0.96, 0.95), "no difference shown: −12.71 to +12.71 points includes 0"),
        ((0.95, 0.95), (0.95, 0.95), "no difference shown: +0.00 to +0.00 points includes 0"),
        ((0.95, 0.96), (0.94, 0.95), "nothing can be said: the 2 differences are all equal, so their spread is unknown"),
        ((0.95,), (0.94,), "nothing can be said: 1 common seed, at least 2 are needed"),
    ],
)
def test_verdicts(first: tuple[float, ...], second: tuple[float, ...], verdict: str) -> None:
    assert paired_difference(arm("A", *first), arm("B", *second)).verdict == verdict


def test_only_common_seeds_are_paired() -> None:
    found = paired_difference(arm("A", 0.9, 0.8, 0.7), arm("B", 0.5, 0.7, 0.9, first_seed=1))
    assert found.seeds == (1, 2)
    assert paired_difference(arm("A", 0.9), arm("B", 0.9, first_seed=5)).verdict.startswith(
        "nothing can be said: no common seeds"
    )


def test_more_comparisons_widen_the_intervals() -> None:
    points = [arm("A", 0.95, 0.96, 0.97), arm("B", 0.94, 0.96, 0.95), arm("C", 0.93, 0.96, 0.95)]
    together = paired_differences(points)
    alone = paired_difference(points[1], points[0])
    assert together[0].confidence == pytest.approx(0.975)
    assert together[0].interval is not None
    assert alone.interval is not None
    assert together[0].interval.low < alone.interval.low


def test_an_order_study_holds_orders_of_the_same_stages() -> None:
    assert [point.label for point in order_study(aggregate(fakes.orders(2)))] == ["PQD", "PDQ", "QPD", "QDP", "DPQ", "DQP"]
    assert order_study(aggregate(fakes.baseline(2))) == ()
    grid = order_study(aggregate(fakes.many(60)))
    assert len({point.order for point in grid}) == len(grid) > 1
    settings = [sorted((stage.name, str(stage.settings)) for stage in point.runs[0].history) for point in grid]
    assert all(one == settings[0] for one in settings)


def test_a_point_at_chance_is_on_no_frontier() -> None:
    """Smallest and fastest by far, and right on 10.4 % of 10,000 images of ten classes."""
    useless = replace(fakes.outcome("useless", accuracy=0.1, gain=50.0), deployed_value=0.104, file_bytes=1, classes=10)
    slow, points = fakes.baseline(1)[0], []
    for shown in (0.104, 0.12):
        points = aggregate([replace(slow, classes=10), replace(useless, deployed_value=shown)])
        for setting in (None, *settings_of(points)):
            dense, one = ranks(points, setting)
            assert dense.on_frontier
            assert (one.guesses, one.on_frontier) == (shown == 0.104, shown == 0.12)
    points = aggregate([slow, replace(useless, classes=10)])
    assert wording.standing(ranks(points, None)[1]) == "no better than guessing"
    assert "no, guesses" in terminal.text([slow, useless])
