"""Aggregation over seeds and the intervals behind it."""

from __future__ import annotations

from dataclasses import replace

import fakes
import pytest

from paretrim.errors import InvalidRecipe
from paretrim.intervals import Estimate
from paretrim.report.points import aggregate, baseline_of, setting_name, settings_of


def test_one_seed_has_wilson_and_several_have_t() -> None:
    (one,), (several,) = aggregate(fakes.baseline(1)), aggregate(fakes.baseline(4))
    assert one.basis == "Wilson interval over 10,000 test images, one seed"
    assert several.basis == "t interval over 4 seeds"
    assert several.seeds == (0, 1, 2, 3)
    assert several.deployed.low < several.deployed.value < several.deployed.high


def test_latency_over_seeds_spans_all_intervals() -> None:
    outcomes = fakes.baseline(3)
    (point,) = aggregate(outcomes)
    for setting, speed in point.speeds.items():
        each = [t.p50_ms for o in outcomes for t in o.latencies if (t.runtime, t.threads) == (setting.runtime, setting.threads)]
        assert speed.p50_ms.low == min(e.low for e in each)
        assert speed.p50_ms.high == max(e.high for e in each)
        assert speed.samples == 4500


def test_settings_are_told_apart_by_what_differs() -> None:
    one = fakes.outcome("A")
    other = replace(one, label="B", machine=replace(one.machine, cpu="Other"), latencies=(replace(one.latencies[0], batch=8),))
    settings = settings_of(aggregate([one, other]))
    names = [setting_name(setting, settings) for setting in settings]
    assert "onnxruntime, 1 thread, batch 1, Example Zen 5 @ 4.46 GHz" in names
    assert "onnxruntime, 1 thread, batch 8, Other" in names
    alone = settings_of(aggregate([one]))
    assert setting_name(alone[0], alone) == "onnxruntime, 1 thread"


def test_the_baseline_is_what_latencies_name_or_the_untouched_one() -> None:
    points = aggregate(fakes.orders(1))
    assert baseline_of(points) is points[0]
    unnamed = aggregate([replace(one, latencies=()) for one in fakes.orders(1)])
    assert baseline_of(unnamed) is unnamed[0]
    assert baseline_of(unnamed[1:]) is None


def test_shared_labels_become_distinct() -> None:
    outcomes = [fakes.outcome("A", study="x"), fakes.outcome("A", study="y"), fakes.outcome("B", study="y")]
    assert [point.label for point in aggregate(outcomes)] == ["A · x", "A · y", "B"]
    networks = [fakes.outcome("A"), replace(fakes.outcome("A"), network="vgg16")]
    assert [point.label for point in aggregate(networks)] == ["A · resnet18", "A · vgg16"]


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ((), "there are no outcomes to report; run a study first"),
        (
            (fakes.outcome("A"), replace(fakes.outcome("B"), data="cifar100")),
            r"outcomes of 2 data sets \(cifar10, cifar100\) cannot share one frontier; report each alone",
        ),
        ((fakes.outcome("A"), fakes.outcome("A")), r"label 'A' has several outcomes with seed 0; .*results\.store\.latest"),
        (
            (fakes.outcome("A"), fakes.outcome("A", seed=1, order=("prune",))),
            r"label 'A' stands for several orders \(no stage; prune\); give each its own label",
        ),
    ],
)
def test_what_cannot_be_aggregated_is_refused(outcomes: tuple[fakes.Outcome, ...], message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        aggregate(outcomes)


def test_percentiles_unknown_in_one_seed_are_unknown() -> None:
    one, other = fakes.baseline(2)
    blind = replace(other, latencies=tuple(replace(t, p99_ms=None) for t in other.latencies))
    (point,) = aggregate([one, blind])
    assert all(speed.p99_ms is None and isinstance(speed.p90_ms, Estimate) for speed in point.speeds.values())
