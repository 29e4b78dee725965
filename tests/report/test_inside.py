"""The ``--inside`` page of two networks, and its parts."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from paretrim.report import png
from paretrim.report.inside import HEAT, overlay, write
from paretrim.results.comparison import compare
from paretrim.results.inside import BINS, Example, InsideComparison, SweepPoint, histogram, histograms


def test_a_histogram_counts_all_but_zeros_on_shared_bins():
    found = histogram("conv", [0.0, 0.0, 1.0, 3.0], [-1.0, 2.0])
    assert (found.low, found.high, found.zeros) == (-1.0, 3.0, (0.5, 0.0))
    assert [sum(counts) for counts in found.counts] == [2, 2]
    assert found.counts[0][BINS // 2] == found.counts[0][-1] == found.counts[1][0] == found.counts[1][BINS * 3 // 4] == 1
    assert sum(histogram("flat", [2.0], [2.0]).counts[0]) == 1
    assert [one.name for one in histograms({"a": [1.0], "b": [1.0]}, {"b": [2.0]})] == ["b"]


def test_a_png_holds_its_pixels():
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    data = png.encoded(pixels)
    start = data.index(b"IDAT") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    rows = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(2, 10)
    assert rows[:, 0].tolist() == [0, 0]
    assert rows[:, 1:].tobytes() == pixels.tobytes()
    assert int.from_bytes(data[start + length : start + length + 4], "big") == zlib.crc32(data[start - 4 : start + length])


def test_a_map_colours_the_image_where_it_is_large():
    image = np.full((4, 4), 100, np.uint8)
    found = overlay(image, np.array([[0.0, 1.0], [0.0, 0.0]], np.float32))
    assert (found[:, :2] == 100).all()
    assert (found[2:] == 100).all()
    assert found[0, 3].tolist() == np.round(25 + 0.75 * HEAT).tolist()


@pytest.fixture
def inside():
    maps = (np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32))
    example = Example(3, 1, np.zeros((4, 4, 3), np.uint8), maps, 0.25)
    hist = histograms({"conv<1>": [0.0, 1.0]}, {"conv<1>": [2.0, 3.0]})
    return InsideComparison(2, (0.25, 0.75), (example,), hist, hist, (SweepPoint(0.5, (0.9, 0.8)),))


def test_the_page_says_everything_and_loads_nothing(inside, tmp_path):
    found = compare([[2.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 1.0]], np.array([0, 1]))
    write(tmp_path / "page.html", ("a<b>.trim", "c.trim"), found, inside)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for said in ("a&lt;b&gt;.trim", "maps 0.500 over 2 images", "image 3, class 1: 0.250", "conv&lt;1&gt;", "90.00 %", "80.00 %"):
        assert said in text
    assert "<b>" not in text
    assert "http" not in text
    assert text.count("data:image/png;base64,") == 3


def test_as_json_it_has_no_pixels(inside):
    facts = inside.facts()
    assert facts["grad_cam"] == {"similarity": 0.5, "images": [0.25, 0.75]}
    assert facts["sweep"] == [{"sparsity": 0.5, "accuracy": (0.9, 0.8)}]
    assert facts["weights"][0]["name"] == "conv<1>"


def test_without_maps_the_page_and_the_facts_say_so(inside, tmp_path):
    found = compare([[2.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 1.0]], np.array([0, 1]))
    write(tmp_path / "page.html", ("a.trim", "c.trim"), found, replace(inside, similarity=(), examples=()))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for said in ("Grad-CAM is left out: a network has no layer that returns a map", "Accuracy on 2 images", "conv&lt;1&gt;"):
        assert said in text
    assert "<img" not in text
    assert replace(inside, similarity=(), examples=()).facts()["grad_cam"] is None
