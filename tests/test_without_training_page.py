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


def test_lines_with_an_interval_and_their_number_of_images_say_so(maker):
    common = {"network": "other", "calibration_images": 64, "images": 500}
    lines = [
        {**common, "case": "float", "accuracies": [0.9], "drop": [0.0, 0.0, 0.0]},
        {**common, "case": "cut", "accuracies": [0.88], "drop": [0.02, -0.001, 0.041]},
    ]
    text = maker.page(lines)
    assert "## other, 90.00 %, 64 calibration images, 500 test images" in text
    assert text.endswith("| cut | 88.00 % | 2.00 [-0.10, 4.10] |\n")
