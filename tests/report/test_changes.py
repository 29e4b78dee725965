"""Decisions that differ from the first file's: on the page and in the run folder."""

import json
from dataclasses import asdict, replace

import fakes
import numpy as np
import pytest

from paretrim.report import page
from paretrim.report.changes import CLASSES, IMAGES, most_changed, section
from paretrim.results.comparison import compare, comparison_of
from paretrim.results.run_folder import CHANGES, change_in, changes_in, keep_change, keep_index


@pytest.fixture
def found():
    """Three classes of two images: class 0 loses one image, class 1 gains one, class 2 keeps both."""
    labels = np.array([0, 0, 1, 1, 2, 2])
    first, second = np.eye(3)[[0, 0, 1, 0, 2, 2]], np.eye(3)[[0, 2, 1, 1, 2, 2]]
    return compare(4 * first, 2 * second, labels)


def test_the_section_says_which_classes_and_images_changed(found):
    text = section({"a<b>": found}, reference="dense", inside="inside.html")
    for said in ("against dense", "6 test images", "a&lt;b&gt;", "66.67 %", "counted from 0: 1.", 'href="inside.html"'):
        assert said in text
    assert "<tr><td>0<td>2<td>2<td>1<td>1<td>0" in text
    assert "<tr><td>1<td>2<td>1<td>2<td>0<td>1" in text
    assert "<tr><td>2<td>2" not in text  # nothing changed in it
    assert "href" not in section({"int8": found}, reference="dense", inside="")
    assert section({}, reference="dense", inside="inside.html") == ""


def test_classes_are_named_where_names_are_known():
    logits, labels = np.eye(3), np.arange(3)
    found = compare(logits, logits[[1, 1, 2]], labels, ("cat", "a<b", "2"))
    assert [one.title for one in found.classes] == ["0 cat", "1 a<b", "2"]
    assert comparison_of(json.loads(json.dumps(asdict(found)))) == found
    text = section({"int8": replace(found, classes=found.classes[::-1])}, reference="dense", inside="")
    assert "<tr><td>0 cat<td>1" in text
    flipped = compare(logits, logits[[0, 0, 2]], labels, ("cat", "a<b", "2"))
    assert "<tr><td>1 a&lt;b<td>1" in section({"int8": flipped}, reference="dense", inside="")


def test_a_comparison_kept_before_classes_had_names_is_read(found):
    facts = json.loads(json.dumps(asdict(found)))
    for one in facts["classes"]:
        del one["name"]
    assert comparison_of(facts) == found


def test_the_classes_that_lost_most_come_first(found):
    assert [one.label for one in most_changed(found)] == [0, 1]


def test_long_lists_are_cut_and_say_so(found):
    classes = tuple(replace(found.classes[0], label=label) for label in range(CLASSES + 3))
    text = section({"int8": replace(found, classes=classes, worse=tuple(range(IMAGES + 2)))}, reference="dense", inside="")
    assert text.count("<td>2<td>2<td>1<td>1<td>0") == CLASSES
    assert "3 more classes changed less" in text
    assert f"{IMAGES - 1} and 2 more" in text


def test_a_page_has_the_section(found):
    outcomes = fakes.baseline()
    assert "What changed" in page.render(outcomes, changes={"int8": found})
    assert "What changed" not in page.render(outcomes)


def test_a_comparison_comes_back_from_json(found):
    assert comparison_of(json.loads(json.dumps(asdict(found)))) == found
    for damaged in ({}, {**asdict(found), "classes": [{"label": 1}]}, {**asdict(found), "accuracy": [1.0]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            comparison_of(damaged)


def test_a_folder_keeps_what_changed(found, tmp_path):
    assert changes_in(tmp_path) == {}
    for name in ("dense", "int8"):
        (tmp_path / name).mkdir()
    keep_index(tmp_path, [{"label": name, "recipe": "0123", "seed": 0, "folder": name} for name in ("dense", "int8")])
    assert changes_in(tmp_path) == {}
    keep_change(tmp_path / "int8", "ab", found)
    assert changes_in(tmp_path) == {"int8": found}
    assert change_in(tmp_path / "int8", "ab") == found
    assert change_in(tmp_path / "int8", "of other files") is None
    (tmp_path / "int8" / CHANGES).write_text("[]")
    assert change_in(tmp_path / "int8") is None


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), None, "x", [[]], {}])
@pytest.mark.parametrize("key", ["images", "classes", "worse"])
def test_a_comparison_that_was_edited_is_made_again(found, tmp_path, key, odd):
    """JSON as Python reads it has infinities, of which no integer can be made."""
    keep_change(tmp_path, "ab", found)
    facts = json.loads((tmp_path / CHANGES).read_text())
    facts["comparison"][key] = odd if key == "images" else [odd]
    (tmp_path / CHANGES).write_text(json.dumps(facts))
    assert change_in(tmp_path, "ab") is None
