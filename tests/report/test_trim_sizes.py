"""Where lines have the size of the ``.trim`` file, it decides the frontier, and the ONNX file's size is shown beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import fakes
import pytest

from paretrim.report import document, page, terminal, wording
from paretrim.report.frontier import ranks
from paretrim.report.points import aggregate


def line(label, order, accuracy, sizes):
    onnx, trim = sizes
    made = fakes.outcome(label, order=order, bits=8)
    return replace(made, deployed_value=accuracy, latencies=(), file_bytes=onnx, trim_bytes=trim)


DENSE = line("FP32 baseline", (), 0.953, (40_000_000, 30_000_000))
SPARSE = line("sparse", ("prune",), 0.95, (11_000_000, 1_230_000))
NARROW = line("narrow", ("quantize",), 0.90, (5_000_000, 4_560_000))
LINES = (DENSE, SPARSE, NARROW)
OLD = tuple(replace(line, trim_bytes=None) for line in LINES)
MIXED = (*LINES[:2], OLD[2])


@pytest.mark.parametrize(
    ("lines", "best"), [(LINES, [True, True, False]), (OLD, [True, True, True]), (MIXED, [True, True, True])]
)
def test_one_kind_of_file_decides_for_all_points(lines, best):
    points = aggregate(lines)
    assert [rank.on_frontier for rank in ranks(points, None)] == best
    assert [point.file_bytes.value for point in points] == [40_000_000, 11_000_000, 5_000_000]
    sizes = {point.size.value for point in points}
    assert sizes == ({30_000_000, 1_230_000, 4_560_000} if lines is LINES else {40_000_000, 11_000_000, 5_000_000})


def test_a_size_over_several_seeds_spans_its_files():
    (point,) = aggregate([SPARSE, replace(SPARSE, seed=1, trim_bytes=1_250_000)])
    assert (point.size.low, point.size.value, point.size.high) == (1_230_000, 1_240_000, 1_250_000)


def test_the_terminal_shows_both_and_says_which_decides():
    text = terminal.text(LINES, width=200)
    heading = next(row for row in text.splitlines() if row.startswith("#")).split()
    assert heading.index(".trim") < heading.index("ONNX")
    assert "size" not in heading
    row = next(line for line in text.splitlines() if " sparse " in line)
    assert row.index("1.23 MB") < row.index("11.0 MB")
    assert "no, see 2" in text
    timed = [replace(line, latencies=fakes.outcome(line.label).latencies) for line in LINES]
    assert "frontier: accuracy, .trim bytes and p50 with onnxruntime, 1 thread" in terminal.text(timed, width=200)
    old = terminal.text(OLD, width=200)
    assert ".trim" not in old
    assert "ONNX" not in old


def test_the_page_draws_the_one_and_lists_the_other(tmp_path):
    page.write(page.render(LINES), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert [point["bytes"][0] for point in data["points"]] == [30_000_000, 1_230_000, 4_560_000]
    assert "Accuracy in %, against the size of the .trim file" in text
    assert "as good in accuracy and .trim bytes" in text
    headings = re.findall(r'<button type="button">([^<]*)</button>', text)
    assert headings.index(".trim") < headings.index("ONNX")
    assert text.index("data-v=1230000>1.23 MB") < text.index("data-v=11000000>11.0 MB")
    assert "11,000,000 bytes), its .trim file (1,230,000 bytes)" in text
    page.write(page.render(OLD), tmp_path / "b.html")
    old = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "Accuracy in %, against file size" in old
    assert ".trim</button>" not in old
    assert ".trim file" not in old


def test_the_study_s_page_has_a_column_for_each():
    text = document.render(LINES)
    assert "| arm | zeros of all | .trim | ONNX | weights' entropy |" in text
    assert re.search(r"\| sparse \|[^|]*\| 1\.23 MB \| 11\.0 MB \|", text)
    assert "\n- accuracy and .trim bytes: FP32 baseline, sparse\n" in text
    old = document.render(OLD)
    assert "| arm | zeros of all | file | weights' entropy |" in old
    assert "\n- accuracy and bytes: FP32 baseline, sparse, narrow\n" in old


def test_words_compare_the_files_that_decide():
    dense, sparse, _ = aggregate(LINES)
    assert wording.size_claim(sparse, dense) == "24.4× smaller"
