"""The page of the pruning methods is what its command makes of the stored lines."""

import json

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/pruning_methods_page.py")


def line(method, accuracy, seed, **facts):
    common = {"pattern": "1x4", "sparsity": 0.8, "zeros": 0.8, "bytes": 1000, "epochs": 4}
    return {"method": method, "seed": seed, "accuracy": accuracy, **common, **facts}


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.made()
    assert maker.CIFAR_PAGE.read_text(encoding="utf-8") == maker.made_of_cifar()


@pytest.mark.parametrize("lines", ["LINES", "CIFAR_LINES"])
def test_every_method_has_every_seed(maker, lines):
    seeds = {}
    for one in maker.read(getattr(maker, lines)):
        seeds.setdefault((one["method"], one["pattern"], one["sparsity"]), []).append(one["seed"])
    (common,) = {tuple(sorted(found)) for found in seeds.values()}
    assert len(common) > 1


def test_methods_are_compared_seed_by_seed(maker, tmp_path):
    lines = [line("dense", 0.98, seed, pattern="", sparsity=0.0, epochs=0) for seed in (0, 1)]
    lines += [line("magnitude, one shot", accuracy, seed) for seed, accuracy in enumerate((0.90, 0.80))]
    lines += [line("other", accuracy, seed, bytes=2000 + 200 * seed) for seed, accuracy in enumerate((0.92, 0.82))]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    text = maker.page(maker.read(path))
    assert "## 80% pruned, blocks of four\n" in text
    rows = [row for row in text.splitlines() if row.startswith(("| other", "| magnitude"))]
    assert rows == [
        "| other | 87.0 ± 63.5 % | +2.0 [+2.0, +2.0] | 2,100 ± 1,271 | 80.0 % |",
        "| magnitude, one shot | 85.0 ± 63.5 % | – | 1,000 ± 0 | 80.0 % |",
    ]


def test_latencies_have_a_column_where_there_are_any(maker):
    lines = [line("dense", 0.98, seed, pattern="", sparsity=0.0, epochs=0) for seed in (0, 1)]
    lines += [line(method, 0.9, seed) for method in ("magnitude, one shot", "other") for seed in (0, 1)]
    assert "latency, µs" not in maker.page(lines)
    found = [{"p50_ms": {"value": 0.01 + 0.002 * seed}, "speedup": {"value": 1.5}} for seed in (0, 1)]
    timed = [line("other", 0.0, seed, **facts) for seed, facts in enumerate(found)]
    rows = [row for row in maker.page(lines, timed).splitlines() if row.startswith(("| other", "| magnitude"))]
    assert [row.split(" | ")[-2:] for row in sorted(rows)] == [["–", "– |"], ["11.0 ± 12.7", "1.50 ± 0.00 |"]]


def test_pruning_with_a_teacher_has_a_table_of_its_own(maker):
    lines = [line("dense", 0.98, seed, pattern="", sparsity=0.0, epochs=0) for seed in (0, 1)]
    lines += [line("magnitude, one shot", 0.9, seed) for seed in (0, 1)]
    taught = [{"method": "dense", "pattern": "", "seed": seed, "accuracy": 0.9} for seed in (0, 1)]
    taught += [{"method": "labels", "pattern": "channel", "seed": seed, "accuracy": 0.88} for seed in (0, 1)]
    assert "with and without a teacher" not in maker.page(lines)
    text = maker.page(lines, (), taught)
    assert text.endswith("| whole channels | labels | 88.0 ± 0.0 % | -2.0 [-2.0, -2.0] |\n")
