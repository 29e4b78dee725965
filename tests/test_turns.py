"""benchmarks/turns.py: workloads are timed in turn, and the untimed first call does not count."""

from script_files import script


def test_every_workload_is_timed_once_a_round_in_orders_that_change():
    now, called = [0.0], []

    def workload(name, seconds):
        def run():
            called.append(name)
            now[0] += seconds if called.count(name) > 1 else 100

        return run

    workloads = {"slow": workload("slow", 3.0), "fast": workload("fast", 1.0)}
    seconds = script("benchmarks/turns.py").seconds_in_turn(workloads, 8, clock=lambda: now[0])
    assert seconds == {"slow": [3.0] * 8, "fast": [1.0] * 8}
    rounds = [tuple(called[at : at + 2]) for at in range(2, len(called), 2)]
    assert called[:2] == ["slow", "fast"]
    assert set(rounds) == {("slow", "fast"), ("fast", "slow")}
