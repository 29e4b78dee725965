"""From raw samples to intervals and verdicts. NumPy and the standard library; every function is pure and seeded.

Intervals are 95 %. For times they come from a hierarchical bootstrap (processes are drawn, then rounds within each), because
rounds of one process are more alike than rounds of two. Few processes make a bootstrap too narrow, so its percentiles are
moved outwards by Student's t (expanded percentile interval; Hesterberg 2015, *What Teachers Should Know About the
Bootstrap*, Am. Stat. 69). Neither the order of processes nor of rounds changes any result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from paretrim.bench.types import Latency, Timing, TimingSession, Verdict
from paretrim.errors import InvalidRecipe, UnstableMachine
from paretrim.intervals import CONFIDENCE, Estimate, t_quantile

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RESAMPLES = 10_000

NEEDED = {50: 11, 90: 64, 99: 662}
"""Samples needed to claim a percentile: with fewer, the chance of at most one sample beyond it is above 1 %.

Source: MLPerf inference rules, early stopping at confidence 0.99.
"""

CHUNK = 1 << 21
"""Random draws held at once."""


def summarize(session: TimingSession, *, resamples: int = RESAMPLES) -> tuple[Latency, ...]:
    """Summarise every deployment, in the session's order, against its baseline.

    Raises:
        UnstableMachine: every window drifted or was preempted, so nothing is left.
    """
    kept = kept_rounds(session)
    floor = ratio(session, session.copy.deployment.name, resamples=resamples)
    result = []
    for timing in session.timings:
        groups = _groups(timing, kept)
        p50, p90, p99, mean = _pooled(groups, seed=session.seed, resamples=resamples)
        name = timing.deployment.name
        speedup = ratio(session, name, resamples=resamples)
        result.append(
            Latency(
                runtime=timing.deployment.runtime,
                runtime_version=timing.runtime_version,
                threads=timing.deployment.threads,
                batch=session.batch,
                samples=int(kept.sum()),
                processes=len(groups),
                p50_ms=p50,
                p90_ms=p90 if kept.sum() >= NEEDED[90] else None,
                p99_ms=p99 if kept.sum() >= NEEDED[99] else None,
                speedup=speedup,
                baseline=session.baseline,
                floor=floor,
                noise=session.noise,
                name=name,
                verdict=verdict(speedup, floor),
                wilcoxon_p=signed_rank_p([float(np.median(group)) for group in _log_ratios(session, name, session.baseline)]),
                mean_ms=mean,
                min_ms=float(min(group[0] for group in groups)),
                outliers=int(outliers(timing, kept).sum()),
                dropped_rounds=int((~kept).sum()),
            )
        )
    return tuple(result)


def shared_windows(session: TimingSession) -> Flags:
    """Windows [process, window] before or after which the deployments' cores were found to be one physical core."""
    shared = np.array(session.contention, np.float64) > 1 + session.effort.shared
    found: Flags = shared[:, :-1] | shared[:, 1:]
    return found


def kept_rounds(session: TimingSession) -> Flags:
    """Rounds [process, round] of windows without drift, preemption or shared cores, as :class:`Effort` says.

    If cores are shared more often than not, that is how the machine is: no window is left out for it.
    """
    reference = np.array(session.reference_ns, np.float64)
    median = np.median(reference, axis=1, keepdims=True)
    steady = np.abs(reference - median) <= session.effort.drift * median
    waited = np.array(session.waited, np.float64)
    # The usual waiting of an engine's own helpers is in the median; a burst above it is another program.
    alone = waited <= np.median(waited, axis=1, keepdims=True) + session.effort.preempted
    windows = steady[:, :-1] & steady[:, 1:] & alone
    shared = shared_windows(session)
    if 2 * shared.sum() <= shared.size:
        windows &= ~shared
    return np.repeat(windows, session.effort.window, axis=1)[:, : session.effort.rounds]


def outliers(timing: Timing, kept: Flags) -> Flags:
    """Samples [process, round] beyond Tukey's outer fences, three interquartile ranges from the quartiles of their process."""
    samples = np.where(kept, np.array(timing.samples_ns, np.float64), np.nan)
    flags = np.zeros(samples.shape, np.bool_)
    for process in np.flatnonzero(kept.any(axis=1)):
        low, high = np.nanquantile(samples[process], [0.25, 0.75])
        reach = 3 * (high - low)
        flags[process] = (samples[process] < low - reach) | (samples[process] > high + reach)
    return flags


def ratio(session: TimingSession, name: str, *, over: str | None = None, resamples: int = RESAMPLES) -> Estimate:
    """Time of ``over`` (default: the baseline) divided by the time of ``name``: above 1, ``name`` is the faster.

    Per round the ratio of the two, which ran next to each other; per process the median; over processes the geometric mean, so
    that swapping the two gives exactly the inverse.

    Raises:
        InvalidRecipe: a deployment is not in the session.
        UnstableMachine: no round is left.
    """
    middle, low, high = _log_ratio(_log_ratios(session, name, over or session.baseline), session.seed, resamples)
    return Estimate(math.exp(middle), math.exp(low), math.exp(high))


def verdict(speedup: Estimate, floor: Estimate) -> Verdict:
    """Decide whether a speed-up is real: its interval must lie outside what the baseline differs from its own copy."""
    margin = max(abs(math.log(floor.low)), abs(math.log(floor.high)))
    if math.log(speedup.low) > margin:
        return "faster"
    if math.log(speedup.high) < -margin:
        return "slower"
    return "no difference"


def signed_rank_p(values: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that ``values`` (log ratios of processes) centre on 0; exact, ties by mid-rank.

    With five processes it cannot fall below 0.0625: a check beside the interval, not a verdict.
    """
    array = np.array([value for value in values if value], np.float64)
    if not len(array):
        return 1.0
    size = np.abs(array)
    # Twice the mid-rank is a whole number, so sums can be counted exactly.
    twice = np.array([2 * (size < value).sum() + (size == value).sum() + 1 for value in size])
    ways = np.zeros(int(twice.sum()) + 1)
    ways[0] = 1
    for step in twice:
        ways[step:] = ways[step:] + ways[:-step]
    observed = int(twice[array > 0].sum())
    tail = min(ways[: observed + 1].sum(), ways[observed:].sum()) / ways.sum()
    return min(1.0, 2 * float(tail))


def _find(session: TimingSession, name: str) -> Timing:
    for timing in (*session.timings, session.copy):
        if timing.deployment.name == name:
            return timing
    known = ", ".join(timing.deployment.name for timing in session.timings)
    raise InvalidRecipe(f"the session has no deployment '{name}'; it has {known}")


def _groups(timing: Timing, kept: Flags) -> list[Floats]:
    """Kept samples of each process in ms."""
    samples = np.array(timing.samples_ns, np.float64) / 1e6
    return _canonical([samples[process][kept[process]] for process in range(len(samples))])


def _canonical(groups: Sequence[Floats]) -> list[Floats]:
    """Sort within and between processes, which makes a seeded bootstrap blind to their order; drop processes without samples."""
    kept = sorted((np.sort(group) for group in groups if len(group)), key=lambda group: group.tolist())
    if not kept:
        raise UnstableMachine(
            "every window drifted or was preempted, so no sample is left; measure again on a quiet machine with a steady "
            "clock, or leave latency out (--effort none)"
        )
    return kept


def _log_ratios(session: TimingSession, name: str, over: str) -> list[Floats]:
    """Logarithms of time of ``over`` / time of ``name`` in every kept round, one array per process that has any."""
    kept = kept_rounds(session)
    other, this = (np.log(np.array(_find(session, deployment).samples_ns, np.float64)) for deployment in (over, name))
    return _canonical([(other - this)[process][kept[process]] for process in range(len(kept))])


def _log_ratio(groups: Sequence[Floats], seed: int, resamples: int) -> tuple[float, float, float]:
    """Mean over processes of the median over rounds, with the ends of its interval."""
    middle = float(np.mean([np.median(group) for group in groups]))
    # Seeded draws are not symmetric; always drawing on the positive side makes inverse ratios exactly inverse.
    sign = -1.0 if middle < 0 else 1.0
    drawn_from = _canonical([sign * group for group in groups])
    low, high = _limits(_mean_of_medians(drawn_from, np.random.default_rng(seed), resamples), len(drawn_from))
    ends = sorted((sign * low, sign * high))
    return middle, min(ends[0], middle), max(ends[1], middle)


def _limits(draws: Floats, processes: int) -> tuple[float, float]:
    """Ends of the interval: percentiles of the draws, moved out for few processes (not for one, which has no t)."""
    tail = (1 - CONFIDENCE) / 2
    if processes > 1:
        reach = t_quantile(1 - 2 * tail, processes - 1) * math.sqrt(processes / (processes - 1))
        tail = NormalDist().cdf(-reach)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _mean_of_medians(groups: Sequence[Floats], stream: np.random.Generator, resamples: int) -> Floats:
    """Hierarchical bootstrap draws of the mean over processes of the median over rounds.

    Rounds need not be drawn one by one: the k-th smallest of n draws with replacement from sorted values is exactly
    ``values[floor(n * u)]`` with u the k-th of n uniform order statistics, Beta(k, n - k + 1), and given it the next one is the
    smallest of n - k uniforms on what is left. Source: Hutson and Ernst 2000, J. R. Statist. Soc. B 62.
    """
    chosen = stream.integers(len(groups), size=(resamples, len(groups)))
    medians = np.empty(chosen.shape)
    for process, values in enumerate(groups):
        here = chosen == process
        count, n = int(here.sum()), len(values)
        k = (n + 1) // 2
        lower = stream.beta(k, n - k + 1, count)
        upper = lower if n % 2 else lower + (1 - lower) * stream.beta(1, n - k, count)
        ranks = [np.minimum((n * u).astype(np.int64), n - 1) for u in (lower, upper)]
        medians[here] = (values[ranks[0]] + values[ranks[1]]) / 2
    return np.asarray(medians.mean(axis=1))


def _pooled(groups: Sequence[Floats], *, seed: int, resamples: int) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """Percentiles 50, 90, 99 and mean of all samples together, with hierarchical bootstrap intervals, in the samples' unit."""
    everything = np.concatenate(groups)
    shares = [percent / 100 for percent in NEEDED]
    values = [*np.quantile(everything, shares), everything.mean()]
    sizes = np.array([len(group) for group in groups])
    starts = np.cumsum(sizes) - sizes
    per_process = max(len(everything) // len(groups), 1)
    stream = np.random.default_rng(seed)
    step = max(CHUNK // (per_process * len(groups)), 1)
    draws = []
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        chosen = stream.integers(len(groups), size=(count, len(groups), 1))
        uniform = stream.random((count, len(groups), per_process), dtype=np.float32)
        within = np.minimum((uniform * sizes[chosen]).astype(np.int64), sizes[chosen] - 1)
        sample = everything[starts[chosen] + within].reshape(count, -1)
        draws.append(np.vstack([np.quantile(sample, shares, axis=1), sample.mean(axis=1)]))
    ends = [_limits(row, len(groups)) for row in np.hstack(draws)]
    p50, p90, p99, mean = (
        Estimate(float(v), min(low, float(v)), max(high, float(v))) for v, (low, high) in zip(values, ends, strict=True)
    )
    return p50, p90, p99, mean
