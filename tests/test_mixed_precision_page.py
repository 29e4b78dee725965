"""The page of mixed precision is what its command makes of the stored lines."""

import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/mixed_precision_page.py")


def line(case, accuracy, seed, bits=4.0):
    return {"network": "other", "case": case, "seed": seed, "accuracy": accuracy, "bits_a_weight": bits, "bytes": 1000}


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_every_case_has_every_seed(maker):
    lines = maker.read(maker.LINES)
    for network in maker.networks(lines):
        assert {tuple(one["seed"] for one in own) for own in maker.by_case(lines, network).values()} == {(0, 1, 2)}


def test_ways_are_compared_with_the_case_whose_bits_they_spend(maker):
    lines = []
    for seed, accuracy in ((1, 0.8), (0, 0.7)):
        lines += [line("float", 0.9, seed), line("4 bits", accuracy, seed)]
        lines += [line("by magic, bits as 4 bits", accuracy + 0.02, seed, 3.99)]
    text = maker.page(lines)
    assert "## other, 90.00 % in float32" in text
    assert "| 4 bits | 4.00 | 1,000 | 75.00 ± 63.53 % |  |\n" in text
    assert text.endswith("| by magic, as many bits | 3.99 | 1,000 | 77.00 ± 63.53 % | +2.00 [+2.00, +2.00] |\n")
