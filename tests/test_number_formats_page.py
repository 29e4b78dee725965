"""The page of number formats is what its command makes of the stored lines."""

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/number_formats_page.py")


def accuracy(case, value, size, **facts):
    return {"kind": "accuracy", "network": "other", "case": case, "accuracy": value, "bytes": size, **facts}


def latency(case, ms, ratio):
    estimates = {
        "p50_ms": {"value": ms, "low": ms, "high": ms},
        "speedup": dict(zip(("value", "low", "high"), ratio, strict=True)),
    }
    common = {"kind": "latency", "network": "other", "runtime": "openvino", "threads": 1, "cpu": "A CPU", "noise": []}
    return {**common, "case": case, **estimates}


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_changes_and_ratios_are_against_float32(maker):
    lines = [accuracy("float32", 0.9, 4000, onnx_bytes=5000), accuracy("8 bits", 0.89, 1000)]
    lines += [latency("float32", 0.5, (1, 1, 1)), latency("8 bits", 0.25, (2.0, 1.9, 2.1))]
    rows = [row for row in maker.page(lines).splitlines() if row.startswith(("| float32", "| 8 bits"))]
    assert rows == [
        "| float32 | 90.00 % | +0.00 | 4,000 | 5,000 | 0.500 ms |",
        "| 8 bits | 89.00 % | -1.00 | 1,000 | none | 2.00 (1.90 to 2.10) |",
    ]


def test_a_heading_says_how_many_images_tested_where_that_is_not_all_of_cifar(maker):
    few = maker.page([accuracy("float32", 0.9, 4000, images=500, calibration_images=64)])
    assert "\n## other, 500 test images, 64 calibration images\n" in few
    assert "\n## other\n" in maker.page([accuracy("float32", 0.9, 4000, images=10_000, calibration_images=512)])


def test_without_latencies_there_are_no_columns_for_them(maker):
    text = maker.page([accuracy("float32", 0.9, 4000)])
    assert "| format | accuracy | change | `.trim` bytes | ONNX bytes |\n" in text
    assert "Latency of one image" not in text
