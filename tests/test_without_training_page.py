"""The page of compression without training is what its command makes of the stored lines."""

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/without_training_page.py")


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_a_drop_is_the_difference_to_the_float_network_in_points(maker):
    common = {"network": "other", "calibration_images": 64}
    lines = [{**common, "case": "float", "accuracies": [0.9, 0.8]}, {**common, "case": "cut", "accuracies": [0.8, 0.86]}]
    text = maker.page(lines)
    assert "## other, 85.00 %, 64 calibration images" in text
    assert text.endswith("| cut | 83.00 % | 2.00 |\n")
