"""The README's table and picture are made of stored lines, and its sentences about them are true of those lines."""

import pytest
from peer_results import module


@pytest.fixture
def rows():
    """The stored cases on the README's network."""
    return module("first_screen").stored_rows()


def test_the_table_and_the_picture_are_fresh(rows):
    made, parts = module("first_screen"), module("page_parts")
    page = made.README.read_text(encoding="utf-8")
    assert page == parts.with_part(page, made.BEGIN, made.END, made.table(rows)), "run python benchmarks/first_screen.py"
    assert made.FIGURE.read_text(encoding="utf-8") == made.picture(rows), "run python benchmarks/first_screen.py"


def test_the_table_has_the_most_accurate_file_of_each_side(rows):
    made = module("first_screen")
    lines = made.table(rows).splitlines()
    assert len(lines) == 3 + 2 * len(made.TASKS)
    best = max(row.accuracy for row in rows if row.case.task == module("peer_cases").HALF and row.ours)
    (ours,) = [line for line in lines if line.startswith("| 50 %") and "**Paretrim**" in line]
    assert f"| {best:.2f} " in ours


def test_the_sentences_above_the_table_are_true(rows):
    """Paretrim's files are the smallest and the fastest; ONNX Runtime leads without training; who takes less CPU time."""
    cases = module("peer_cases")
    for task in module("first_screen").TASKS:
        here = [row for row in rows if row.case.task == task]
        ours = max((row for row in here if row.ours), key=lambda row: row.accuracy)
        peers = [row for row in here if not row.ours]
        assert ours.file_bytes < min(row.file_bytes for row in peers), task
        assert ours.p50_ms < min(row.p50_ms for row in peers if row.p50_ms is not None), task
        trained = task in (cases.TRAINED, cases.SPARSE)
        assert (ours.cpu_s < min(row.cpu_s for row in peers)) is trained, task
    plain = [row for row in rows if row.case.task == cases.INT8]
    assert max(plain, key=lambda row: row.accuracy).case.title == "ONNX Runtime"


def test_the_frontier_is_the_cases_that_no_faster_one_equals(rows):
    made = module("first_screen")
    one, two, three = rows[:3]
    timed = {"slow": (one, 3.0), "fast": (two, 1.0), "middle": (three, 2.0)}
    accuracies = {name: row.accuracy for name, (row, _) in timed.items()}
    found = made.unbeaten(timed)
    assert found[0] == "fast"
    assert ("middle" in found) is (accuracies["middle"] > accuracies["fast"])
    assert ("slow" in found) is (accuracies["slow"] > max(accuracies["fast"], accuracies["middle"]))


def test_a_file_that_is_not_drawn_is_named(rows):
    made = module("first_screen")
    highest = max(row.accuracy for row in rows if row.latency)
    far = [row for row in rows if row.latency and row.accuracy < highest - 15]
    text = made.picture(rows)
    for row in far:
        assert f"not drawn: {made.label(row)} ({row.accuracy:.1f})" in text
