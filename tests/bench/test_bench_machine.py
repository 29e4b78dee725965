import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from paretrim.bench.effort import EFFORTS, PUBLISHED, QUICK, Effort
from paretrim.bench.machine import describe, doctor, governors, quiet, runtime_version, standing, versions
from paretrim.bench.machine_load import disturbed, read_load, unquiet, wait_until_quiet, waited_ns
from paretrim.bench.pinning import choose_cores, open_pinned, pinned_to, usable_cores
from paretrim.bench.types import Load
from paretrim.errors import InvalidRecipe, UnstableMachine


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def proc(tmp_path):
    write(tmp_path / "pressure" / "cpu", "some avg10=12.50 avg60=1.00 avg300=0.10 total=1000\nfull avg10=0.00 total=0\n")
    write(tmp_path / "loadavg", "1.25 0.50 0.25 3/100 4711\n")
    write(tmp_path / "stat", "cpu  10 20 30 40 0 0 0 5 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    write(tmp_path / "cpuinfo", "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu avx2 fma avx512_vnni\n")
    write(tmp_path / "meminfo", "MemTotal:        1024 kB\n")
    return tmp_path


def test_load_is_read(proc):
    assert read_load(proc) == Load(pressure=0.125, waited_us=1000, average=1.25, runnable=3, steal_ticks=5, all_ticks=105)


def test_a_system_that_reports_no_load_counts_as_quiet(tmp_path):
    assert read_load(tmp_path) == Load()
    assert unquiet(Load(), threads=1) == []
    assert disturbed(Load(), Load(), seconds=1) == []
    assert waited_ns(tmp_path / "task") == 0


def test_a_busy_machine_is_described(proc):
    assert unquiet(read_load(proc), threads=2) == [
        "tasks waited for a CPU 12% of the last 10 s (limit 10%)",
        "3 tasks want to run (limit 2, this one among them)",
    ]
    assert unquiet(Load(pressure=0.1, runnable=2), threads=2) == []


def test_disturbances_are_described():
    before = Load(waited_us=0, steal_ticks=10, all_ticks=1000)
    assert disturbed(before, Load(waited_us=300_000, steal_ticks=15, all_ticks=1200), seconds=2) == [
        "the hypervisor took 2.5% of the CPU time (limit 1%)",
        "tasks waited for a CPU 15% of the time (limit 10%)",
    ]
    assert disturbed(before, Load(waited_us=100_000, steal_ticks=11, all_ticks=1200), seconds=2) == []


def test_own_waiting_is_added_over_threads(tmp_path):
    write(tmp_path / "1" / "schedstat", "500 20 3\n")
    write(tmp_path / "2" / "schedstat", "500 22 3\n")
    (tmp_path / "3").mkdir()
    assert waited_ns(tmp_path) == 42


class Waiting:
    """A clock that only sleeping moves, and a machine that becomes quiet after some seconds."""

    def __init__(self, quiet_after):
        self.now, self.quiet_after = 0.0, quiet_after

    def gate(self, seconds):
        return wait_until_quiet(seconds, threads=1, look=self.look, clock=lambda: self.now, sleep=self.sleep)

    def look(self):
        return Load(pressure=0.0 if self.now >= self.quiet_after else 0.5)

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def test_the_gate_waits_for_quiet_and_no_longer():
    assert Waiting(0).gate(60) == ([], 0.0)
    assert Waiting(5).gate(60) == ([], 5.0)


def test_the_gate_gives_up_and_says_why():
    said, waited = Waiting(100).gate(2.5)
    assert said == ["tasks waited for a CPU 50% of the last 10 s (limit 10%)"]
    assert waited == 2.5


def test_the_machine_is_described(proc):
    machine = describe(proc)
    assert (machine.cpu, machine.isa, machine.memory_bytes) == ("Fast 9000", ("avx2", "fma", "avx512_vnni"), 1 << 20)
    assert machine.has_vnni
    assert machine.cores == len(usable_cores())
    told = [replace(machine, cores=cores).processor for cores in (1, 2)]
    assert told == ["Fast 9000, 1 core", "Fast 9000, 2 cores"]


def test_a_machine_without_proc_is_described(tmp_path):
    machine = describe(tmp_path)
    assert machine.cpu
    assert machine.isa == ()
    assert not machine.has_vnni


def test_this_machine_is_described():
    machine = describe()
    assert machine.cores >= 1
    assert machine.memory_bytes > 0


@pytest.mark.parametrize(
    ("flags", "vnni", "bits"),
    [("avx2 avx_vnni", True, 8), ("avx2", False, 7), ("asimd asimddp", False, 8), ("avx512_vnni", True, 8)],
)
def test_the_doctor_advises_on_weight_bits(proc, flags, vnni, bits):
    write(proc / "cpuinfo", f"flags : {flags}\n")
    said = doctor(proc)
    assert (said["vnni"], said["weight_bits"]) == (vnni, bits)
    assert said["advice"].startswith(f"{bits}-bit weights")
    assert said["unquiet"]
    assert json.loads(json.dumps(said)) == said | {"machine": said["machine"] | {"isa": list(said["machine"]["isa"])}}


def test_versions_are_those_installed():
    import numpy

    assert versions()["numpy"] == numpy.__version__
    assert runtime_version("reference") == numpy.__version__
    assert runtime_version("abacus") == "unknown"


def test_governors_other_than_performance_are_reported(tmp_path):
    for core in usable_cores():
        write(tmp_path / f"cpu{core}" / "cpufreq" / "scaling_governor", "powersave\n")
    assert governors(tmp_path) == ("powersave",)
    assert quiet(proc=tmp_path, cpus=tmp_path) == ["the frequency governor is 'powersave'; 'performance' keeps the clock steady"]
    assert governors(tmp_path / "none") == ()


def test_a_quota_of_cpu_time_is_reported(tmp_path):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert standing(cpus=tmp_path, quota=tmp_path / "cpu.max") == [
        "this container is stopped whenever it has used 0.5 CPUs' worth of time; measure without that quota"
    ]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert standing(cpus=tmp_path, quota=tmp_path / "cpu.max") == []


@pytest.mark.parametrize(
    ("threads", "usable", "expected"),
    [(1, [0], (0,)), (1, [0, 1], (1,)), (2, [0, 1], (1, 0)), (2, [0, 1, 2, 3], (1, 2)), (1, [3, 5], (5,))],
)
def test_the_lowest_core_is_avoided(tmp_path, threads, usable, expected):
    assert choose_cores(threads, usable, cpus=tmp_path) == expected


@pytest.mark.parametrize("written", ["{0},{1}", "{0}-{1}"])
def test_physical_cores_come_before_their_siblings(tmp_path, written):
    for core in range(4):
        first = core // 2 * 2
        write(tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list", written.format(first, first + 1))
    assert choose_cores(2, range(4), cpus=tmp_path) == (2, 0)
    assert choose_cores(4, range(4), cpus=tmp_path) == (2, 0, 1, 3)
    assert choose_cores(2, [1, 3], cpus=tmp_path) == (3, 1)


def test_too_many_threads_for_the_cores():
    with pytest.raises(UnstableMachine, match="asks for 3 threads and this process may use 2 cores; measure with at most 2"):
        choose_cores(3, [0, 1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux pins threads")
def test_caller_and_helpers_have_their_cores():
    usable = usable_cores()
    cores = choose_cores(min(2, len(usable)), usable)
    halt = threading.Event()
    masks = {}

    def helper():
        halt.wait(10)

    def open_deployment():
        masks["while opening"] = os.sched_getaffinity(0)
        thread = threading.Thread(target=helper)
        thread.start()
        return thread

    try:
        thread = open_pinned(open_deployment, cores)
        assert masks["while opening"] == set(cores)
        assert os.sched_getaffinity(thread.native_id) == set(cores[1:] or cores)
        assert pinned_to(cores[0])
    finally:
        halt.set()
        os.sched_setaffinity(0, usable)
    thread.join()
    assert pinned_to(cores[0]) == (len(usable) == 1)


def test_presets():
    assert EFFORTS["standard"] == Effort()
    assert (Effort().processes, Effort().rounds, PUBLISHED.processes) == (5, 300, 10)
    assert QUICK.processes * QUICK.rounds >= 64


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("processes", 0, "1 or more"),
        ("rounds", -1, "1 or more"),
        ("checked", 0, "1 or more"),
        ("drift", 0.0, "above 0"),
        ("drift", float("nan"), "a finite number"),
        ("rounds", "many", "a whole number"),
        ("settled", float("inf"), "a finite number"),
        ("gate_seconds", -1.0, "0 or more"),
        ("primers", -1, "0 or more"),
    ],
)
def test_invalid_effort_is_refused(field, value, rule):
    with pytest.raises(InvalidRecipe, match=f"^Effort.{field} is {value!r}: it must be {rule}$"):
        Effort(**{field: value})


def test_nothing_here_imports_torch():
    folder = Path(__file__).parents[2] / "src" / "paretrim" / "bench"
    modules = ", ".join(f"paretrim.bench.{path.stem}" for path in sorted(folder.glob("[a-z]*.py")))
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'torch' not in sys.modules"], check=True)
