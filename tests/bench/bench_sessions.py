"""Sessions with given samples, for tests of the statistics."""

from dataclasses import replace

import numpy as np

from paretrim.bench.effort import Effort
from paretrim.bench.statistics import ratio, verdict
from paretrim.bench.types import Deployment, Load, Machine, Timing, TimingSession

MACHINE = Machine("Test CPU", 2, ("avx2", "avx512_vnni"), 1 << 30, "Linux 6.0 x86_64", "3.11.7")


def timing(name, samples_ns):
    rows = tuple(tuple(int(value) for value in row) for row in samples_ns)
    return Timing(Deployment(name, f"{name}.onnx", "reference"), "2.0", "00" * 32, rows)


def session(samples, *, copy=None, window=25, seed=0):
    """A quiet session from ``name -> samples_ns [process, round]``; the first is the baseline and by default its own copy."""
    names = list(samples)
    first = np.asarray(samples[names[0]])
    processes, rounds = first.shape
    windows = -(-rounds // window)
    return TimingSession(
        timings=tuple(timing(name, rows) for name, rows in samples.items()),
        copy=timing(f"{names[0]} (A/A copy)", first if copy is None else copy),
        baseline=names[0],
        batch=1,
        images=64,
        effort=Effort(processes=processes, rounds=rounds, window=window),
        seed=seed,
        reference_ns=((300_000,) * (windows + 1),) * processes,
        waited=((0.02,) * windows,) * processes,
        contention=((1.0,) * (windows + 1),) * processes,
        loads=((Load(pressure=0.01, runnable=1), Load()),) * processes,
        machine=MACHINE,
        versions={"numpy": "2.0"},
        noise=(),
    )


def noisy(stream, level_ns, *, processes=5, rounds=60, between=0.01, within=0.03):
    """Log-normal samples whose processes differ by ``between`` and rounds by ``within`` (standard deviations of the log)."""
    levels = between * stream.standard_normal((processes, 1)) + within * stream.standard_normal((processes, rounds))
    return level_ns * np.exp(levels)


def preempt(one, process, window, share):
    """The session with one window in which its threads waited for ``share`` of the time."""
    rows = [list(row) for row in one.waited]
    rows[process][window] = share
    return replace(one, waited=tuple(tuple(row) for row in rows))


def drift(one, process, boundary, factor):
    """The session with one reference time multiplied."""
    rows = [list(row) for row in one.reference_ns]
    rows[process][boundary] = int(rows[process][boundary] * factor)
    return replace(one, reference_ns=tuple(tuple(row) for row in rows))


def crowd(one, process, boundary, times):
    """The session with one moment at which the reference took ``times`` as long together as alone."""
    rows = [list(row) for row in one.contention]
    rows[process][boundary] = times
    return replace(one, contention=tuple(tuple(row) for row in rows))


def faster(session, a, b, *, resamples):
    """The verdict on two deployments of one session, where the baseline is neither."""
    floor = ratio(session, session.copy.deployment.name, resamples=resamples)
    return verdict(ratio(session, a, over=b, resamples=resamples), floor)
