"""The page of the splits is what its command makes of the stored lines."""

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/allocations_page.py")


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_all_splits_took_the_time_of_their_reference(maker):
    for line in maker.read(maker.LINES):
        assert line["time"] == pytest.approx(1, abs=0.02)


def test_splits_are_compared_seed_by_seed(maker):
    common = {"network": "small ResNet, digits", "zeros_of_reference": 0.8, "time": 1.0}
    lines = [{**common, "split": "global", "seed": seed, "zeros": 0.8, "accuracy": 0.9 + seed / 100} for seed in (0, 1)]
    lines += [{**common, "split": "speed", "seed": seed, "zeros": 0.7, "accuracy": 0.91 + seed / 100} for seed in (0, 1)]
    text = maker.page(lines)
    assert "the time of 80% zeros by `global`" in text
    assert text.endswith("| global | 80.0 % | 90.50 % | – |\n| speed | 70.0 % | 91.50 % | +1.00 [+1.00, +1.00] |\n")
