"""The page of calibrators and adjustments is what its command makes of the stored lines, and has every one of them."""

import pytest
from script_files import script

from paretrim.stages.quantize.adjustments import AFTER, BEFORE


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/calibrators_page.py")


def line(case, bits, accuracy, unchanged=1.0):
    common = {"network": "other", "bytes": 1234, "images": 1000, "calibration_images": 64}
    return {**common, "case": case, "bits": bits, "accuracy": accuracy, "unchanged": unchanged}


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_rows_have_both_widths_and_a_dash_where_nothing_was_measured(maker):
    lines = [line("float32", None, 0.92), line("mse", 8, 0.91, 0.99), line("kl", 8, 0.9), line("mse", 4, 0.85, 0.9)]
    text = maker.page(lines)
    assert "on\n1,000 test images" in text
    assert "## other, 92.00 % in float32\n\n| | 8-bit weights | unchanged | bytes | 4-bit weights | unchanged | bytes |\n" in text
    assert (
        "| mse | 91.00 % | 99.00 % | 1,234 | 85.00 % | 90.00 % | 1,234 |\n| kl | 90.00 % | 100.00 % | 1,234 | - | - | - |\n"
        in text
    )


def test_every_calibrator_for_files_without_training_and_every_adjustment_has_a_row():
    cases = script("benchmarks/calibrators.py").CASES.values()
    assert {stage.calibrator for stage in cases} == {"mse", "minmax", "percentile", "kl"}  # those of LSQ are for training
    assert {name for stage in cases for name in stage.adjust} == {*BEFORE, *AFTER}
