"""benchmarks/runtime.py as far as it is a function of a session: lines, verdicts, tables; and docs/speed.md is not stale."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from paretrim.bench.effort import Effort
from paretrim.bench.types import Deployment, Load, Machine, Timing, TimingSession
from paretrim.intervals import Estimate

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    """As when a script of that folder runs; its modules are forgotten afterwards."""
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in names:
        sys.modules.pop(name, None)


def module(name):
    return importlib.import_module(name)


def session(milliseconds, batch=1):
    """Every deployment takes exactly these times in every round; the first is the baseline."""

    def timing(name, value):
        return Timing(Deployment(name, "file", "reference"), "1", "00", ((round(value * 1e6),) * 30,) * 4)

    names = list(milliseconds)
    return TimingSession(
        timings=tuple(timing(name, value) for name, value in milliseconds.items()),
        copy=timing(f"{names[0]} (A/A copy)", milliseconds[names[0]]),
        baseline=names[0],
        batch=batch,
        images=64,
        effort=Effort(processes=4, rounds=30),
        seed=0,
        reference_ns=((1000,) * 3,) * 4,
        waited=((0.0,) * 2,) * 4,
        contention=((1.0,) * 3,) * 4,
        loads=((Load(), Load()),) * 4,
        machine=Machine("a CPU", 2, (), 1, "Linux", "3.11"),
    )


TIMES = {
    "openvino on 1": 1.2,
    "onnxruntime on 1": 1.0,
    "paretrim 0 on 1": 1.0,
    "paretrim 0.8 on 1": 0.5,
    "openvino on 2": 0.8,
    "onnxruntime on 2": 0.9,
    "paretrim 0 on 2": 0.5,
    "paretrim 0.8 on 2": 0.4,
}


def origin(**given):
    said = {"cpu": "a CPU", "weights": "random", "versions": {"paretrim": "0.1"}, "commit": "0123abc", "effort": "quick"}
    return module("runtime_lines").Origin(**said | given)


def latency_lines(network="resnet18", batch=1, **given):
    runtime = module("runtime")
    peers = {"openvino": "20/20", "onnxruntime": "20/20"}
    return list(runtime.latency_lines(session(TIMES | given, batch), network, {0.0: 0.01, 0.8: 0.79}, [1, 2], peers, origin()))


def startup_line(**given):
    said = {"network": "resnet18", "zeros": 0.8, "threads": 1, "file": "trim", "file_bytes": 1234567, "first_result_ms": 80.0}
    said |= {"first_result_ms_low": 78.0, "first_result_ms_high": 82.0, "import_ms": 90.0, "first_start_ms": 300.0}
    return module("runtime_lines").StartupLine(**said | {"starts": 11, "origin": origin()} | given)


def layer_line(**given):
    said = {"network": "resnet18", "zeros": 0.8, "layer": "layer1", "kernel": "tiles", "positions": 256, "time_us": 10.0}
    said |= {"surviving_multiply_adds": 3_000_000, "share_of_peak": 0.6, "share_of_peak_low": 0.55, "share_of_peak_high": 0.62}
    more = {"peak_multiply_adds_a_second": 5e11, "profiles": 9, "origin": origin()}
    return module("runtime_lines").LayerLine(**said | more | given)


def test_a_line_compares_with_the_faster_peer_on_as_many_threads():
    lines = latency_lines()
    assert [(line.zeros, line.threads, line.best_dense_int8, line.best_dense_int8_p50_ms) for line in lines] == [
        (0.0, 1, "onnxruntime", 1.0),
        (0.8, 1, "onnxruntime", 1.0),
        (0.0, 2, "openvino", 0.8),
        (0.8, 2, "openvino", 0.8),
    ]
    assert [line.ratio for line in lines] == pytest.approx([1.0, 2.0, 1.6, 2.0])
    assert [line.over_openvino for line in lines] == pytest.approx([0.8, 1.6, 1.6, 2.0])
    assert [line.ours_p50_ms for line in lines] == [1.0, 0.5, 0.5, 0.4]
    assert [line.zeros_found for line in lines] == [0.01, 0.79, 0.01, 0.79]


def test_threads_are_compared_with_one_thread_and_the_best_number_is_marked():
    lines = latency_lines(**{"paretrim 0.8 on 2": 0.6})
    assert [line.over_one_thread for line in lines] == [None, None, pytest.approx(2.0), pytest.approx(0.5 / 0.6)]
    assert [line.fastest_threads for line in lines] == [False, True, True, False]
    assert [line.threads_verdict for line in lines] == ["", "", "reaches 1.7", "misses 1.7"]


def test_large_networks_are_held_against_the_faster_peer_and_small_ones_against_openvino_at_its_best():
    assert [line.verdict for line in latency_lines()] == [
        "reaches the aim 1",
        "reaches 1.8, misses the aim 2.5",
        "reaches the aim 1",
        "reaches 1.8, misses the aim 2.5",
    ]
    assert [line.verdict for line in latency_lines("resnet20")] == ["", "", "reaches 1.3 x OpenVINO", "misses 2.5 x OpenVINO"]
    assert [line.threads_verdict for line in latency_lines("resnet20")] == [""] * 4


def test_other_networks_and_batches_have_no_goal():
    assert {line.verdict for line in latency_lines("resnet50")} == {""}
    batched = latency_lines(batch=8)
    assert {(line.verdict, line.threads_verdict, line.batch) for line in batched} == {("", "", 8)}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (2.6, 2.7, "reaches the aim 2.5"),
        (2.5, 2.7, "reaches the aim 2.5"),
        (2.4, 2.6, "reaches 1.8, the aim 2.5 lies in the interval"),
        (1.9, 2.0, "reaches 1.8, misses the aim 2.5"),
        (1.7, 1.9, "1.8 lies in the interval, misses the aim 2.5"),
        (1.0, 1.7, "misses 1.8, misses the aim 2.5"),
    ],
)
def test_a_goal_is_reached_as_far_as_the_interval_says(low, high, said):
    estimates = module("estimates")
    assert estimates.verdict(Estimate((low + high) / 2, low, high), estimates.Goal(1.8, 2.5)) == said


def test_a_limit_is_kept_as_far_as_the_interval_says():
    assert startup_line().verdict == "within 100 ms"
    assert startup_line(first_result_ms_high=101.0).verdict == "100 ms lies in the interval"
    assert startup_line(first_result_ms_low=101.0, first_result_ms_high=102.0).verdict == "exceeds 100 ms"
    assert startup_line(network="vgg16_bn").verdict == ""


def test_only_layers_with_large_maps_are_held_against_the_peak():
    assert layer_line().verdict == "reaches 0.5"
    assert layer_line(share_of_peak_low=0.4).verdict == "0.5 lies in the interval"
    assert layer_line(positions=255).verdict == ""


def test_a_median_has_an_interval_that_widens_with_the_spread():
    median = module("estimates").median
    assert median([2.0] * 5) == Estimate(2.0, 2.0, 2.0)
    found = median([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found.value == 3.0
    assert 1.0 <= found.low < 3.0 < found.high <= 100.0


def test_a_json_line_has_the_promised_keys_and_is_read_as_it_was():
    lines = module("runtime_lines")
    every = [latency_lines()[3], startup_line(), startup_line(first_start_ms=None), layer_line()]
    for line in every:
        assert lines.from_json(lines.to_json(line)) == line
    promised = {"network", "zeros", "threads", "ours_p50_ms", "best_dense_int8", "best_dense_int8_p50_ms", "ratio"}
    content = json.loads(lines.to_json(every[0]))
    assert promised | {"ratio_low", "ratio_high", "measure", "verdict"} <= set(content)
    assert (content["measure"], content["verdict"]) == ("latency", "reaches 1.8, misses the aim 2.5")


def test_a_later_line_replaces_an_earlier_one_with_the_same_key():
    lines = module("runtime_lines")
    first, second = latency_lines()[:2]
    again = dataclasses.replace(first, ratio=9.0)
    text = "\n".join(lines.to_json(line) for line in (first, second, again))
    assert lines.read(text) == [again, second]


def test_surviving_blocks_are_counted_in_fours_of_input_channels():
    weight = np.zeros((2, 6, 3, 3), np.int8)
    weight[0, 0, 1, 1] = weight[0, 3, 1, 1] = 5  # one block
    weight[0, 4, 1, 1] = 1  # the next four channels, of which there are two
    weight[1, 0, 0, 0] = weight[1, 0, 0, 1] = -1  # two kernel positions
    assert module("layer_rates").surviving_blocks(weight) == 4
    assert module("layer_rates").surviving_blocks(np.ones((2, 3), np.int8)) == 2


def test_the_page_is_what_its_lines_make():
    page = module("speed_page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page_of(text, page.RESULTS) == text


def test_a_changed_number_changes_the_page_and_a_second_making_does_not(tmp_path):
    lines, page = module("runtime_lines"), module("speed_page")
    results, text = tmp_path / "runtime.jsonl", f"Before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    every = [
        *latency_lines(),
        startup_line(),
        layer_line(),
        layer_line(layer="fast", share_of_peak=0.9, share_of_peak_low=0.4, time_us=20.0),
    ]
    results.write_text("\n".join(map(lines.to_json, every)) + "\n")
    made = page.page_of(text, results)
    assert page.page_of(made, results) == made
    assert made.startswith("Before\n")
    assert made.endswith(f"{page.END}\nafter\n")
    assert "| resnet18 | 80 % | 79.0 % | 2 (best) | 1 | 0.400 | openvino 0.800 | 2.00 [2.00, 2.00] | 2.00 [2.00, 2.00] |" in made
    assert "| resnet18 | 0 % | 2 | 1 | 2.00 [2.00, 2.00] | reaches 1.7 |" in made
    assert "| resnet18 | 80 % | .trim | 1,234,567 | 1 | 80.0 [78.0, 82.0] | 90 | 300 | within 100 ms |" in made
    assert "| resnet18 | 80 % | 80 % | 60 % (layer1) | 1 of 2 |" in made  # 10 µs at 60 %, 20 µs at 90 %

    results.write_text(results.read_text().replace('"first_result_ms": 80.0', '"first_result_ms": 81.0'))
    assert "81.0 [78.0, 82.0]" in page.page_of(made, results)


def test_no_lines_make_no_table_and_a_page_without_markers_is_refused(tmp_path):
    page = module("speed_page")
    made = page.page_of(f"{page.BEGIN}{page.END}", tmp_path / "absent.jsonl")
    assert made == f"{page.BEGIN}\n\n{page.NOTHING}\n\n{page.END}"
    with pytest.raises(ValueError, match="the page needs '<!-- From here"):
        page.page_of(f"{page.END}{page.BEGIN}", tmp_path / "absent.jsonl")


def test_quick_is_resnet18_alone_unless_networks_are_named():
    parse = module("runtime").parse
    assert parse(["--quick"]).networks == "resnet18"
    assert parse(["--quick", "--networks", "resnet20"]).networks == "resnet20"
    assert parse([]).networks == "resnet18,vgg16_bn,wide_resnet_28_10,resnet20,resnet56"


def test_quick_asks_for_less_unless_told_otherwise():
    parse = module("runtime").parse
    assert (parse(["--quick"]).networks, parse(["--quick"]).zeros) == ("resnet18", "0,80,95")
    assert (parse([]).zeros, parse(["--quick", "--zeros", "0,90"]).zeros) == ("0,80,90,95", "0,90")
