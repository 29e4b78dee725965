"""docs/training-speed.md is what its lines make, and the benchmark measures every way to quantize."""

import dataclasses
import importlib

import pytest
from script_files import ROOT


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def module(name):
    return importlib.import_module(name)


def line(**given):
    said = {"network": "resnet20", "recipe": "lsq", "bfloat16": True, "batch": 128, "threads": 1, "rounds": 9}
    found = {"ratio": 1.2, "ratio_low": 1.1, "ratio_high": 1.3, "step_cpu_ms": 300.0, "plain_cpu_ms": 250.0}
    origin = {"load": 1.5, "cpu": "a CPU", "versions": {"torch": "2", "numpy": "1"}, "commit": "abc"}
    return module("quantized_steps_page").StepLine(**said | found | origin | given)


def test_the_page_is_what_its_lines_make():
    page = module("quantized_steps_page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page_of(text, page.RESULTS) == text


def test_lines_come_back_and_a_later_one_replaces_an_earlier_one():
    page = module("quantized_steps_page")
    first, second = line(), line(recipe="pact", ratio=1.7, ratio_low=1.65, ratio_high=1.8)
    again = dataclasses.replace(first, ratio=1.25)
    assert page.read("\n".join(map(page.to_json, (first, second, again)))) == [again, second]


def test_a_table_says_what_exceeds_the_limit(tmp_path):
    page = module("quantized_steps_page")
    results = tmp_path / "lines.jsonl"
    slow = {"ratio": 1.7, "ratio_low": 1.65, "ratio_high": 1.8}
    lines = [line(recipe="pact", **slow), line(), line(bfloat16=False, ratio_high=1.61)]
    results.write_text("\n".join(map(page.to_json, lines)))
    made = page.page_of(f"Before\n{page.BEGIN}\nold\n{page.END}\nafter\n", results)
    assert made.startswith("Before\n")
    assert made.endswith(f"{page.END}\nafter\n")
    assert "## resnet20, bfloat16, batches of 128\n" in made
    assert "| [lsq](../recipes/methods/lsq.toml) | 1.20 [1.10, 1.30] | 300 | within 1.6 x |" in made
    assert "| [pact](../recipes/methods/pact.toml) | 1.70 [1.65, 1.80] | 300 | exceeds 1.6 x |" in made
    assert "| 1.20 [1.10, 1.61] | 300 | 1.6 x lies in the interval |" in made
    assert made.index("lsq.toml") < made.index("pact.toml")
    assert "a CPU; torch 2; commit abc; batches of 128, 1 thread, 9 rounds; 1.5 runnable processes per core." in made
    assert page.page_of(made, results) == made


def test_no_lines_make_no_table_and_a_page_without_markers_is_refused(tmp_path):
    page = module("quantized_steps_page")
    assert page.NOTHING in page.page_of(f"{page.BEGIN}{page.END}", tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="the page needs '<!-- From here"):
        page.page_of(f"{page.END}{page.BEGIN}", tmp_path / "absent.jsonl")


def test_every_grid_of_integers_is_measured():
    from paretrim.network.formats import ACTIVATION_GRIDS, WEIGHT_GRIDS

    bench = module("quantized_steps")
    measured = [method for method in bench.METHODS if method.recipe in bench.recipes()]
    for kind, names in (
        ("weight grid", WEIGHT_GRIDS),
        ("activation grid", ACTIVATION_GRIDS),
        ("scales", ("learned", "observed")),
    ):
        assert {method.name for method in measured if method.kind == kind} >= set(names)


@pytest.mark.slow
def test_a_small_measurement_has_a_line_for_each_recipe(capsys):
    page, bench = module("quantized_steps_page"), module("quantized_steps")
    bench.main(["--recipes", "lsq,inq", "--rounds", "2", "--steps", "1", "--batch", "2", "--json", "--precision", "float32"])
    found = page.read(capsys.readouterr().out)
    assert [one.recipe for one in found] == ["lsq", "inq"]
    assert all(0 < one.ratio_low <= one.ratio <= one.ratio_high for one in found)
