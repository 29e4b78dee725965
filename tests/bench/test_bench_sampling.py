import gc
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from bench_sessions import session
from hypothesis import given
from hypothesis import strategies as st
from synthetic_openers import Spinning, logits

from paretrim.bench.effort import Effort
from paretrim.bench.pinning import usable_cores
from paretrim.bench.sampling import (
    NUMBERS,
    ReferenceWork,
    busy_after,
    differing,
    make_schedule,
    no_garbage_collection,
    outputs_of,
    time_rounds,
    warm_up,
)
from paretrim.bench.statistics import kept_rounds
from paretrim.errors import ExportMismatch

LAST_CORE = usable_cores()[-1:]
IMAGES = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(3, axis=1)


class Clock:
    """Time that passes only when a deployment says so."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def deployment(self, name, nanoseconds, trace=None):
        """A deployment that takes as long as ``nanoseconds`` gives next."""

        def call(images):
            self.now += next(nanoseconds)
            if trace is not None:
                trace.append((name, tuple(images[:, 0, 0, 0])))
            return logits(images)

        return call


def forever(value):
    while True:
        yield value


def run(effort, deployments=3, *, seed=0, reference=lambda: 300_000):
    clock, trace, marks = Clock(), [], []
    calls = [clock.deployment(index, forever(1000 * (index + 1)), trace) for index in range(deployments)]
    schedule = make_schedule(seed, 0, deployments=deployments, rounds=effort.rounds, images=len(IMAGES), batch=2)
    timed = time_rounds(
        calls,
        IMAGES,
        schedule,
        effort,
        reference=reference,
        contention=lambda: 1.5,
        waited=lambda: clock.now // 4,
        mark=marks.append,
        clock=clock,
    )
    assert timed.contention == [1.5] * len(timed.reference_ns)
    assert timed.waited == pytest.approx([0.25] * (len(timed.reference_ns) - 1), abs=0.001)
    return timed.samples_ns, timed.reference_ns, trace, marks


def test_every_deployment_is_timed_once_a_round_alone():
    samples, _, trace, marks = run(Effort(rounds=40, primers=0))
    assert samples == [[1000] * 40, [2000] * 40, [3000] * 40]
    assert len(trace) == 120
    assert marks == [name for name, _ in trace]


def test_rounds_are_interleaved_shuffled_and_share_their_images():
    _, _, trace, _ = run(Effort(rounds=40, primers=0))
    rounds = [trace[start : start + 3] for start in range(0, 120, 3)]
    orders = [tuple(name for name, _ in one) for one in rounds]
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len(set(orders)) == 6
    assert all(len({images for _, images in one}) == 1 for one in rounds)
    assert len({images for one in rounds for _, images in one}) > 20


def test_primers_are_called_and_not_counted():
    samples, _, trace, _ = run(Effort(rounds=5, primers=2))
    assert samples[2] == [3000] * 5
    assert len(trace) == 5 * 3 * 3
    assert trace[0] == trace[1] == trace[2]


def test_primers_end_when_they_have_lasted_long_enough():
    _, _, trace, _ = run(Effort(rounds=1, primers=10, primer_seconds=5e-6))
    called = [name for name, _ in trace]
    assert [called.count(deployment) for deployment in range(3)] == [5 + 1, 3 + 1, 2 + 1]
    _, _, trace, _ = run(Effort(rounds=1, primers=10, primer_seconds=0.0))
    assert len(trace) == 3 * 2


@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 5), st.integers(1, 30))
def test_a_schedule_is_a_function_of_seed_and_process(seed, process, deployments, rounds):
    one, same = (make_schedule(seed, process, deployments=deployments, rounds=rounds, images=7, batch=2) for _ in range(2))
    assert (one.order == same.order).all()
    assert (one.draws == same.draws).all()
    assert (np.sort(one.order, axis=1) == np.arange(deployments)).all()
    assert one.draws.shape == (rounds, 2)
    assert one.draws.max() < 7


def test_processes_and_seeds_have_schedules_of_their_own():
    kinds = [
        make_schedule(seed, process, deployments=3, rounds=20, images=9, batch=1) for seed, process in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({kind.order.tobytes() for kind in kinds}) == 3
    assert len({kind.draws.tobytes() for kind in kinds}) == 3


@pytest.mark.parametrize(("rounds", "expected"), [(1, 2), (10, 2), (11, 3), (20, 3), (25, 4)])
def test_the_reference_runs_around_every_window(rounds, expected):
    count = iter(range(100))
    _, references, _, _ = run(Effort(rounds=rounds, window=10), reference=lambda: next(count))
    assert references == list(range(expected))


def test_windows_with_a_slower_clock_are_dropped():
    clock = Clock()
    schedule = make_schedule(0, 0, deployments=2, rounds=100, images=len(IMAGES), batch=1)
    throttled = range(40, 60)
    calls_made = 0

    def speed():
        return 1.3 if calls_made // 2 in throttled else 1.0

    def deployment(nanoseconds):
        def call(images):
            nonlocal calls_made
            clock.now += int(nanoseconds * speed())
            calls_made += 1
            return logits(images)

        return call

    timed = time_rounds(
        [deployment(2_000_000), deployment(1_000_000)],
        IMAGES,
        schedule,
        Effort(rounds=100, window=10, primers=0),
        reference=lambda: int(300_000 * speed()),
        contention=lambda: 1.0,
        waited=lambda: 0,
        mark=lambda _: None,
        clock=clock,
    )
    measured = session({"slow": [timed.samples_ns[0]], "fast": [timed.samples_ns[1]]}, window=10)
    kept = kept_rounds(replace(measured, reference_ns=(tuple(timed.reference_ns),)))
    # Boundaries 40 and 50 are slow: the windows on both sides of each go, the one before the throttling among them.
    assert np.flatnonzero(~kept[0]).tolist() == list(range(30, 60))
    assert set(np.array(timed.samples_ns[0])[kept[0]]) == {2_000_000}


def test_the_reference_is_the_fastest_of_five():
    ticks = iter([0, 9, 10, 17, 20, 25, 30, 36, 40, 48])
    assert ReferenceWork(clock=lambda: next(ticks)).alone() == 5


def test_one_core_shares_with_no_other():
    assert ReferenceWork(clock=lambda: 1 / 0).contention() == 1.0


def test_the_other_cores_compute_meanwhile_and_sleep_afterwards():
    reference, seen = ReferenceWork(LAST_CORE), []
    now = itertools.count()

    def clock():
        seen.append(reference._computing[0].is_set())
        return next(now)

    reference._clock = clock
    reference.contention()
    # Ten readings of the clock around five products alone, then ten around those together.
    assert seen == [False] * 10 + [True] * 10
    # Sleep is reached, though threads of the linear algebra library may spin for a while.
    assert any(burned(0.05) < 0.02 for _ in range(200))
    assert not reference._computing[0].is_set()


def burned(seconds):
    """CPU seconds of this process while its caller sleeps."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


def test_together_is_the_median_over_the_fastest_alone():
    reference = ReferenceWork(LAST_CORE)
    alone, together = [40, 10, 30, 20, 50], [21, 22, 23, 24, 100]
    moments = itertools.chain.from_iterable((0, value) for value in alone + together)
    reference._clock = lambda: next(moments)
    assert reference.contention() == 2.3


def test_warm_up_lasts_for_the_asked_calls_and_seconds():
    clock = Clock()
    count = iter(range(10_000))
    effort = Effort(warmup_calls=60, warmup_seconds=0.1)

    def counted(images):
        next(count)
        clock.now += 1_000_000
        return logits(images)

    assert warm_up(counted, [IMAGES], effort, clock=clock)
    assert next(count) == 100
    clock.now, effort = 0, Effort(warmup_calls=120, warmup_seconds=0.1)
    assert warm_up(counted, [IMAGES], effort, clock=clock)
    assert next(count) == 101 + 120


def test_warm_up_waits_until_the_times_settle():
    clock = Clock()
    falling = (1_000_000 // (1 + call // 25) for call in range(100_000))
    effort = Effort(warmup_calls=1, warmup_seconds=0.0, settled=0.049, warmup_limit_seconds=60)
    assert warm_up(clock.deployment(0, falling), [IMAGES], effort, clock=clock)
    # Block k takes 1/k of the first, so it differs from the one before by 1/k: below 4.9 % from block 21 on.
    assert next(falling) == 1_000_000 // 22


def test_warm_up_gives_up_on_what_never_settles():
    clock = Clock()
    swinging = (1_000_000 * (1 + call // 25 % 2) for call in range(100_000))
    effort = Effort(warmup_calls=50, warmup_seconds=0.0, warmup_limit_seconds=0.5)
    assert not warm_up(clock.deployment(0, swinging), [IMAGES], effort, clock=clock)
    assert clock.now == pytest.approx(0.5e9, abs=2e6)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_outputs_are_per_image_whatever_the_batch(batch):
    sizes = []

    def call(images):
        sizes.append(len(images))
        return logits(images)

    assert outputs_of(call, IMAGES, batch=batch, count=64) == logits(IMAGES).tolist()
    assert set(sizes) == {batch}


@pytest.mark.parametrize("batch", [1, 3])
def test_as_many_images_are_checked_as_asked_for(batch):
    assert outputs_of(logits, IMAGES, batch=batch, count=4) == logits(IMAGES[:4]).tolist()


def test_several_outputs_are_joined_and_of_many_numbers_some_are_compared():
    wide = np.arange(4 * NUMBERS, dtype=np.float32)

    def call(images):
        return np.zeros((len(images), 2, 1)), np.tile(wide[:-2], (len(images), 1))

    (found,) = outputs_of(call, IMAGES[:1], batch=1, count=64)
    assert found == [0.0, *wide[2:-4:4]]


def test_outputs_differ_beyond_a_thousandth_of_the_largest_number():
    ours = [[1000.0, 0.0], [1.0, -1.0], [0.0, 0.0]]
    assert differing(ours, [[1000.0, 0.9], [1.0, -1.0], [0.0, 0.0]]) == 0
    assert differing(ours, [[1000.0, 1.1], [1.0, -1.002], [0.0, 1e-9]]) == 3
    assert differing([[3.0]], [[4.0]]) == 1  # one number: no largest of several would tell
    assert differing([[3.0]], [[3.0, 0.0]]) == 1


def test_an_output_without_a_row_for_each_image_is_refused():
    with pytest.raises(ExportMismatch, match=r"shape \(10,\) for a batch of 1, but outputs are \[1, \.\.\.\]"):
        outputs_of(lambda images: logits(images)[0], IMAGES, batch=1, count=64)
    with pytest.raises(ExportMismatch, match=r"shape \(2, 10\) for a batch of 1"):
        outputs_of(lambda images: logits(images).repeat(2, axis=0), IMAGES, batch=1, count=64)


def test_an_output_that_is_not_finite_is_refused():
    with pytest.raises(ExportMismatch, match="output for images 0 to 1 is not finite; the deployed file is broken"):
        outputs_of(lambda _: np.full((2, 10), np.inf), IMAGES, batch=2, count=64)


def test_spinning_helpers_are_noticed(monkeypatch):
    spinning = Spinning()
    monkeypatch.setattr(time, "sleep", spinning.sleep)

    def call(images):
        spinning.begin()
        return logits(images)

    assert busy_after(call, IMAGES) > 0.004


def test_a_single_pause_is_not_taken_for_spinning(monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 1.005, 2.0, 2.0001])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    assert busy_after(logits, IMAGES, seconds=0.0) == pytest.approx(1e-4)


def test_garbage_collection_is_off_while_timing_only():
    assert gc.isenabled()
    with no_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
