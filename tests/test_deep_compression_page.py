"""The page of Deep Compression is what its command makes of the stored lines."""

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/deep_compression_page.py")


def line(seed, accuracy, size):
    common = {"network": "other", "way": "shared", "images": 200, "float": 0.9, "float_bytes": 1000}
    return {**common, "seed": seed, "accuracy": accuracy, "bytes": size}


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_every_way_has_every_seed(maker):
    for ways in maker.by_network(maker.read(maker.LINES)).values():
        assert all([one["seed"] for one in own] == [0, 1, 2] for own in ways.values())


def test_times_are_float_bytes_over_file_bytes_and_a_change_is_in_points(maker):
    text = maker.page([line(0, 0.91, 20), line(1, 0.89, 20)])
    assert "one image is\n0.50 points" in text
    assert text.endswith("| shared | 90.0 ± 12.7 % | +0.00 [-12.71, +12.71] | 20 | 50.0 ± 0.0 |\n")
