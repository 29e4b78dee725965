import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from bench_sessions import crowd, drift, faster, noisy, preempt, session, timing
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.bench.statistics import NEEDED, kept_rounds, outliers, ratio, signed_rank_p, summarize, verdict
from paretrim.errors import InvalidRecipe, UnstableMachine
from paretrim.intervals import Estimate


def pair(seed=0, factor=0.8, **shape):
    stream = np.random.default_rng(seed)
    slow = noisy(stream, 1_000_000, **shape)
    return session(
        {"slow": slow, "fast": noisy(stream, 1_000_000 * factor, **shape)}, copy=noisy(stream, 1_000_000, **shape), seed=seed
    )


def test_percentiles_are_those_of_the_pooled_samples():
    one = pair(rounds=200)
    latency = summarize(one, resamples=200)[1]
    pooled = np.array(one.timings[1].samples_ns).ravel() / 1e6
    assert latency.p50_ms.value == pytest.approx(np.quantile(pooled, 0.5))
    assert latency.p90_ms.value == pytest.approx(np.quantile(pooled, 0.9))
    assert latency.p99_ms.value == pytest.approx(np.quantile(pooled, 0.99))
    assert latency.mean_ms.value == pytest.approx(pooled.mean())
    assert latency.min_ms == pooled.min()
    assert (latency.samples, latency.processes, latency.name, latency.baseline) == (1000, 5, "fast", "slow")


@pytest.mark.parametrize("estimate", ["p50_ms", "p90_ms", "p99_ms", "mean_ms", "speedup"])
def test_an_interval_holds_its_value(estimate):
    found = getattr(summarize(pair(rounds=200), resamples=200)[1], estimate)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("samples", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_percentile_is_claimed_only_when_the_samples_support_it(samples, p90, p99):
    latency = summarize(pair(processes=1, rounds=samples), resamples=20)[0]
    assert (latency.p90_ms is not None, latency.p99_ms is not None) == (p90, p99)


def test_the_needed_samples_are_those_of_the_mlperf_rule():
    # The fewest samples of which at most one lies above the percentile with a chance of 1 % or less.
    for percent, needed in NEEDED.items():
        chance = [scipy.stats.binom.cdf(1, n, 1 - percent / 100) for n in (needed - 1, needed)]
        assert chance[1] <= 0.01 < chance[0]


def test_intervals_of_one_process_agree_with_scipy():
    one = pair(processes=1, rounds=150)
    logs = np.log(one.timings[0].samples_ns[0]) - np.log(one.timings[1].samples_ns[0])
    theirs = scipy.stats.bootstrap(
        (logs,), np.median, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1), vectorized=True
    ).confidence_interval
    ours = ratio(one, "fast")
    assert ours.value == pytest.approx(np.exp(np.median(logs)))
    assert (ours.low, ours.high) == pytest.approx((math.exp(theirs.low), math.exp(theirs.high)), abs=0.002)

    samples = np.array(one.timings[1].samples_ns[0]) / 1e6
    mean = summarize(one)[1].mean_ms
    theirs = scipy.stats.bootstrap((samples,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert (mean.low, mean.high) == pytest.approx((theirs.low, theirs.high), abs=5e-4)


@pytest.mark.parametrize("rounds", [11, 12])
def test_medians_drawn_by_rank_are_medians_of_resamples(rounds):
    one = pair(processes=4, rounds=rounds)
    logs = np.log(np.array(one.timings[0].samples_ns, float)) - np.log(np.array(one.timings[1].samples_ns, float))
    stream = np.random.default_rng(3)
    chosen = stream.integers(4, size=(10_000, 4, 1))
    drawn = np.median(logs[chosen, stream.integers(rounds, size=(10_000, 4, rounds))], axis=2).mean(axis=1)
    reach = scipy.stats.t.ppf(0.975, 3) * math.sqrt(4 / 3)
    tail = scipy.stats.norm.cdf(-reach)
    ours = ratio(one, "fast", resamples=50_000)
    spread = drawn.std()
    assert math.log(ours.low) == pytest.approx(np.quantile(drawn, tail), abs=spread)
    assert math.log(ours.high) == pytest.approx(np.quantile(drawn, 1 - tail), abs=spread)


def test_intervals_cover_the_true_ratio_about_as_often_as_they_say():
    trials = 200
    covered = 0
    for seed in range(trials):
        found = ratio(pair(seed, processes=5, rounds=30, between=0.03), "fast")
        covered += found.low <= 1.25 <= found.high
    # 95 % asked for; 91 % is two and a half standard errors of this simulation below, and beyond a bootstrap without widening.
    assert covered / trials > 0.91


def test_without_a_difference_the_verdict_is_rarely_one():
    wrong = sum(faster(pair(seed, factor=1.0, rounds=30), "fast", "slow", resamples=200) != "no difference" for seed in range(60))
    assert wrong <= 2


def test_verdicts():
    one = pair(factor=0.8)
    assert faster(one, "fast", "slow", resamples=500) == "faster"
    assert faster(one, "slow", "fast", resamples=500) == "slower"
    assert faster(one, "fast", "fast", resamples=500) == "no difference"
    assert [latency.verdict for latency in summarize(one, resamples=500)] == ["no difference", "faster"]


def test_a_difference_within_the_floor_is_none():
    assert verdict(Estimate(1.02, 1.01, 1.03), Estimate(1.0, 0.995, 1.005)) == "faster"
    assert verdict(Estimate(1.02, 1.01, 1.03), Estimate(1.0, 0.98, 1.005)) == "no difference"
    assert verdict(Estimate(0.97, 0.96, 0.98), Estimate(1.0, 0.99, 1.01)) == "slower"
    assert verdict(Estimate(0.97, 0.96, 0.98), Estimate(1.0, 0.99, 1.03)) == "no difference"


def test_a_copy_that_differs_raises_the_floor():
    stream = np.random.default_rng(0)
    slow = noisy(stream, 1_000_000)
    one = session({"slow": slow, "fast": slow * 0.97}, copy=slow * 0.95)
    assert ratio(one, "fast", resamples=500).low > 1.02
    assert faster(one, "fast", "slow", resamples=500) == "no difference"


shapes = st.tuples(st.integers(1, 6), st.integers(11, 40), st.integers(0, 2**16))


@settings(max_examples=20, deadline=None)
@given(shapes, st.sampled_from([2, 4, 1024]))
def test_scaling_time_scales_times_and_leaves_ratios(shape, factor):
    processes, rounds, seed = shape
    one = pair(seed, processes=processes, rounds=rounds)
    scaled = replace(
        one,
        timings=tuple(timing(t.deployment.name, np.array(t.samples_ns) * factor) for t in one.timings),
        copy=timing(one.copy.deployment.name, np.array(one.copy.samples_ns) * factor),
    )
    for old, new in zip(summarize(one, resamples=50), summarize(scaled, resamples=50), strict=True):
        assert (new.speedup.value, new.speedup.low) == pytest.approx((old.speedup.value, old.speedup.low), rel=1e-9)
        assert (new.p50_ms.low, new.p50_ms.high) == pytest.approx((old.p50_ms.low * factor, old.p50_ms.high * factor), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_the_order_of_processes_and_rounds_changes_nothing(shape):
    processes, rounds, seed = shape
    one = pair(seed, processes=processes, rounds=rounds)
    stream = np.random.default_rng(seed)
    rows, columns = stream.permutation(processes), stream.permutation(rounds)
    moved = replace(
        one,
        timings=tuple(timing(t.deployment.name, np.array(t.samples_ns)[rows][:, columns]) for t in one.timings),
        copy=timing(one.copy.deployment.name, np.array(one.copy.samples_ns)[rows][:, columns]),
    )
    for old, new in zip(summarize(one, resamples=50), summarize(moved, resamples=50), strict=True):
        assert (new.p50_ms, new.p90_ms) == (old.p50_ms, old.p90_ms)
        assert (new.speedup.low, new.speedup.high) == pytest.approx((old.speedup.low, old.speedup.high), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_swapping_two_deployments_inverts_their_ratio(shape):
    processes, rounds, seed = shape
    one = pair(seed, processes=processes, rounds=rounds)
    there, back = ratio(one, "fast", over="slow", resamples=50), ratio(one, "slow", over="fast", resamples=50)
    assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low), rel=1e-9)


def test_drifted_windows_are_left_out_and_counted():
    stream = np.random.default_rng(0)
    slow = noisy(stream, 1_000_000, processes=2, rounds=60)
    spoiled = slow.copy()
    spoiled[0, :50] *= 3
    one = session({"slow": slow, "fast": spoiled}, window=25)
    assert kept_rounds(one).all()
    drifted = drift(one, 0, 1, 1.04)
    assert kept_rounds(drifted).sum(axis=1).tolist() == [10, 60]
    assert not kept_rounds(drifted)[0, :50].any()
    latency = summarize(drifted, resamples=50)[1]
    assert (latency.samples, latency.dropped_rounds) == (70, 50)
    assert ratio(drifted, "fast", resamples=50).value == pytest.approx(1.0)
    assert kept_rounds(drift(one, 0, 1, 1.029)).all()
    assert not kept_rounds(drift(one, 1, 3, 0.96))[1, 50:].any()


def test_preempted_windows_are_left_out():
    one = session({"slow": noisy(np.random.default_rng(0), 1e6, processes=2, rounds=60)}, window=25)
    assert kept_rounds(preempt(one, 0, 1, 0.11)).all()
    kept = kept_rounds(preempt(one, 0, 1, 0.13))
    assert np.argwhere(~kept).tolist() == [[0, number] for number in range(25, 50)]
    # What is so in every window is the engine's own way: marked in words, not dropped.
    assert kept_rounds(replace(one, waited=((0.9,) * 3,) * 2)).all()


def test_windows_in_which_cores_were_shared_are_left_out():
    one = session({"slow": noisy(np.random.default_rng(0), 1e6, processes=2, rounds=100)}, window=25)
    assert kept_rounds(crowd(one, 0, 2, 1.29)).all()
    kept = kept_rounds(crowd(one, 0, 2, 1.31))
    assert np.argwhere(~kept).tolist() == [[0, number] for number in range(25, 75)]
    half = crowd(crowd(one, 0, 2, 1.9), 1, 1, 1.9)
    assert kept_rounds(half).sum() == 100
    # More than half of the windows: the machine's cores are like that, and leaving out would choose.
    assert kept_rounds(crowd(half, 0, 4, 1.9)).all()


def test_a_process_that_drifted_throughout_is_no_process():
    one = session({"slow": noisy(np.random.default_rng(0), 1e6, processes=3, rounds=20)}, window=25)
    latency = summarize(drift(one, 1, 0, 1.2), resamples=50)[0]
    assert (latency.processes, latency.samples, latency.dropped_rounds) == (2, 40, 20)


def test_nothing_left_is_an_error():
    one = session({"slow": np.full((1, 20), 1e6)}, window=25)
    with pytest.raises(
        UnstableMachine, match="every window drifted or was preempted, so no sample is left; measure again on a quiet machine"
    ):
        summarize(drift(one, 0, 0, 2), resamples=10)


def test_outliers_are_flagged_and_kept():
    samples = noisy(np.random.default_rng(0), 1_000_000, processes=2, rounds=50)
    samples[1, 7] = 9_000_000
    one = session({"slow": samples})
    flags = outliers(one.timings[0], kept_rounds(one))
    assert np.argwhere(flags).tolist() == [[1, 7]]
    latency = summarize(one, resamples=10)[0]
    assert (latency.outliers, latency.samples) == (1, 100)
    assert latency.mean_ms.value == pytest.approx(np.array(one.timings[0].samples_ns).mean() / 1e6)


def test_an_unknown_deployment_is_named():
    with pytest.raises(InvalidRecipe, match="the session has no deployment 'quick'; it has slow, fast"):
        ratio(pair(), "quick")


@given(st.lists(st.floats(-1, 1).filter(lambda value: abs(value) > 1e-3), min_size=1, max_size=12, unique_by=abs))
def test_signed_rank_agrees_with_scipy(values):
    assert signed_rank_p(values) == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue)


def test_signed_rank_with_ties_and_zeros():
    assert signed_rank_p([0.0, 0.0]) == 1.0
    assert signed_rank_p([0.1] * 5) == pytest.approx(2 / 2**5)
    assert signed_rank_p([0.1, -0.1]) == 1.0


def test_the_check_over_processes_is_in_the_summary():
    assert [latency.wilcoxon_p for latency in summarize(pair(processes=6), resamples=50)] == [1.0, 2 / 2**6]
