"""The page of INT8 without training is what its command makes of the stored lines."""

import numpy as np
import pytest
from script_files import script


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/post_training_page.py")


def line(draw, **facts):
    common = {"network": "net", "data": "some data", "images": 1000, "bytes": 5000, "cpu_seconds": 2.0}
    return {**common, "draw": draw, "unchanged": 990, **facts}


def test_the_page_is_fresh(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(maker.read(maker.LINES))


def test_a_drop_is_the_mean_of_the_draws_with_the_interval_of_a_usual_one(maker):
    lines = [line(0, right=900, lost=5, won=1), line(1, right=900, lost=3, won=3, unchanged=985, cpu_seconds=4.0)]
    lines += [line(0, network="other", right=800, lost=0, won=2), line(0, network="mute", images=200, unchanged=199)]
    text = maker.page(lines)
    assert "| net | some data | 1,000 | 90.00 % | 0.20 [-0.37, 0.85] | 99.00, 98.50 % | 5,000 | 3 |\n" in text
    assert "| mute | some data | 200 | – | – | 99.50 % | 5,000 | 2 |\n" in text
    assert "Over the 2 networks with labels the drop is 0.00 points on average, and at most 0.20, of net.\n" in text


def test_lines_with_settings_have_tables_of_their_own(maker):
    lines = [line(0, right=900, lost=5, won=1), line(0, right=900, lost=2, won=1, unchanged=995, settings='adjust=["gptq"]')]
    usual, other = maker.page(lines).split('\n## With `adjust=["gptq"]`\n')
    assert "| net | some data | 1,000 | 90.00 % | 0.40 [" in usual
    assert "| net | some data | 1,000 | 90.00 % | 0.10 [" in other
    assert "99.50" in other
    assert "Over the 1 networks with labels the drop is 0.40" in usual


def test_decisions_are_compared_with_float32_and_with_labels():
    found = script("benchmarks/post_training.py").against_labels(
        np.array([1, 2, 3, 4]), np.array([1, 0, 3, 0]), np.array([1, 2, 0, 0])
    )
    assert found == {"right": 2, "lost": 1, "won": 1}


def test_settings_of_the_stage_are_given_as_json():
    stage = script("benchmarks/post_training.py").stage_with(['adjust=["bias"]', "weight_bits=4"])
    assert (stage.adjust, stage.weight_bits, stage.budget.epochs) == (("bias",), 4, 0)
