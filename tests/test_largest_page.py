"""docs/large-networks.md is what its lines make, and the benchmark measures what it says."""

import dataclasses
import importlib
import importlib.util
import json

import pytest
from script_files import ROOT
from torch import nn

from paretrim.capture import agreement
from paretrim.run import judge


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def page():
    return importlib.import_module("largest_page")


def line(**given):
    said = {"network": "vgg19", "parameters": 143667240, "capture_cpu_s": 2.5, "deploy_cpu_s": 6.25, "onnx_cpu_s": None}
    found = {"trim_bytes": 478 * 10**6, "refused": "", "load": 1.5, "cpu": "a CPU"}
    return page().LargestLine(**said | found | {"versions": {"torch": "2", "numpy": "1"}, "commit": "abc"} | given)


def test_the_page_is_what_its_lines_make():
    text = page().PAGE.read_text(encoding="utf-8")
    assert page().page_of(text, page().RESULTS) == text


def test_lines_come_back_and_a_later_one_replaces_an_earlier_one():
    first, second = line(), line(network="alexnet")
    again = dataclasses.replace(first, deploy_cpu_s=8.0)
    assert page().read("\n".join(map(page().to_json, (first, second, again)))) == [again, second]


def test_elapsed_time_is_added_to_the_line_before_it():
    nothing = {"capture_cpu_s": None, "deploy_cpu_s": None, "trim_bytes": None}
    first, timed = line(), line(elapsed_s=4.5, commit="later", **nothing)
    assert page().read("\n".join(map(page().to_json, (first, timed)))) == [dataclasses.replace(first, elapsed_s=4.5)]
    assert page().read("\n".join(map(page().to_json, (first, timed, first)))) == [first]


def test_elapsed_time_is_not_measured_on_a_busy_machine(monkeypatch):
    bench = importlib.import_module("largest")
    asked, busy = [], []
    monkeypatch.setattr(bench, "wait_until_quiet", lambda seconds, threads: (busy, 0.0))
    monkeypatch.setattr(bench.subprocess, "run", lambda command, check: asked.append(command))
    bench.main(["--elapsed", "--networks", "vgg19"])
    assert "--elapsed" in asked[0]
    busy.append("7 tasks want to run (limit 1)")
    with pytest.raises(SystemExit, match=r"elapsed time is measured on an idle machine: 7 tasks want to run \(limit 1\)"):
        bench.main(["--elapsed", "--networks", "vgg19"])
    assert len(asked) == 1


def test_a_table_says_what_is_slow_and_what_was_refused(tmp_path):
    results = tmp_path / "lines.jsonl"
    none = {"capture_cpu_s": None, "deploy_cpu_s": None, "trim_bytes": None}
    slow = line(network="wide", parameters=200 * 10**6, deploy_cpu_s=7.5, onnx_cpu_s=12.0, load=3)
    waited = line(network="waited", parameters=300 * 10**6, elapsed_s=11.0, **none)
    refused = line(network="other", parameters=10**6, refused="it has attention", **none)
    results.write_text("\n".join(map(page().to_json, (line(elapsed_s=5.1), slow, refused, waited))))
    made = page().page_of(f"Before\n{page().BEGIN}\nold\n{page().END}\nafter\n", results)
    assert made.startswith("Before\n")
    assert made.endswith(f"{page().END}\nafter\n")
    assert "| vgg19 | 143.7 | 5.1 | 2.5 | 6.2 | 8.8 | - | 478 |" in made
    assert "| wide | 200.0 | - | 2.5 | 7.5 | 10.0 | 12.0 | 478 |" in made
    assert "| waited | 300.0 | 11.0 | - | - | - | - | - |" in made
    assert made.index("| waited |") < made.index("| wide |") < made.index("| vgg19 |")
    assert (
        "with 2 threads of an idle machine, 1 of 2 networks take less than 10 seconds. In CPU seconds of one thread it is 1 of 2."
    ) in made
    assert "- other (1 million parameters): it has attention" in made
    assert "- a CPU; torch 2; commit abc." in made
    assert "- Runnable processes per core: 1.5 to 3.0." in made
    assert page().page_of(made, results) == made


def test_no_lines_make_no_table_and_a_page_without_markers_is_refused(tmp_path):
    assert page().NOTHING in page().page_of(f"{page().BEGIN}{page().END}", tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="the page needs '<!-- From here"):
        page().page_of("nothing", tmp_path / "absent.jsonl")


def test_the_comparison_with_the_module_is_part_of_capture(monkeypatch, tmp_path):
    """And the written file is decoded and compared, once."""
    bench = importlib.import_module("largest")
    compared, known = [], []
    compare, load = agreement._compare, judge.open_session
    monkeypatch.setattr(agreement, "_compare", lambda *given: compared.append(compare(*given)))
    monkeypatch.setattr(judge, "open_session", lambda path, **given: known.append(given["known"]) or load(path, **given))
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert {"capture", "deploy", "bytes"} == {*bench.seconds_of(module, tmp_path, onnx=False)}
    assert compared == [None]
    assert len(known) == 1
    assert known[0] is not None


def test_elapsed_time_that_was_disturbed_is_no_line(monkeypatch):
    bench = importlib.import_module("largest")
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(
        bench, "made", lambda name: nn.Sequential(nn.Conv2d(3, 4, 3, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    )
    said = []
    monkeypatch.setattr(bench, "disturbed", lambda before, after, seconds: said)
    found = bench.measure("small", elapsed=True)
    assert found.elapsed_s > 0
    assert (found.capture_cpu_s, found.deploy_cpu_s, found.trim_bytes) == (None, None, None)
    said.append("tasks waited for a CPU 55% of the time")
    with pytest.raises(SystemExit, match="small: tasks waited for a CPU 55% of the time"):
        bench.measure("small", elapsed=True)


def test_networks_of_timm_are_named_with_their_library(monkeypatch, capsys):
    bench, asked = importlib.import_module("largest"), []
    monkeypatch.setattr(bench.subprocess, "run", lambda command, check: asked.append(command[command.index("--networks") + 1]))
    bench.main(["--timm"])
    assert asked == [f"timm/{name}" for name in bench.TIMM]
    assert len({*asked}) == 20


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_the_benchmark_measures_one_network(monkeypatch, capsys):
    bench = importlib.import_module("largest")
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda count: None)
    assert "vit_b_16" not in bench.largest(200)
    assert bench.largest(2)[0] == "regnet_y_128gf"
    bench.main(["--here", "--networks", "squeezenet1_1"])
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 1235496
    assert found["refused"] == ""
    assert found["capture_cpu_s"] > 0
    assert found["deploy_cpu_s"] > 0
    assert 3.9 < found["trim_bytes"] / 1e6 < 4.9
