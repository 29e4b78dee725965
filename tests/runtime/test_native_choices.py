"""Stored kernel choices: when they are reused, and that invalid ones do no harm."""

import json
import os
import shutil

import numpy as np
import pytest
from random_graphs import random_graph
from session_graphs import GRAPH, IMAGES

import paretrim.runtime
from paretrim.graph import interpreter
from paretrim.graph.storage import save
from paretrim.runtime.kernel_choices import LARGEST_FILE, choices_file, keep_choices, read_choices


def test_kernel_choices_are_kept_beside_the_file_and_used_again(file):
    first = paretrim.runtime.load(file)
    assert not first.network.choices_were_used
    kept = json.loads(choices_file(file).read_text())
    assert kept == {"format": 1, "choices": {"best, 1 thread": first.network.choices}}

    second = paretrim.runtime.load(file)
    assert second.network.choices_were_used
    assert second.network.choices == first.network.choices
    np.testing.assert_array_equal(second(IMAGES), first(IMAGES))

    paretrim.runtime.load(file, threads=2, instruction_set="plain")
    assert set(read_choices(file)) == {"best, 1 thread", "plain, 2 threads"}
    assert paretrim.runtime.load(file).network.choices_were_used


def test_choices_of_another_network_are_measured_again(file):
    other = random_graph(4, quantized=True)[0]
    save(other, file.with_name("other.graph"))
    paretrim.runtime.load(file.with_name("other.graph"))
    shutil.copy(choices_file(file.with_name("other.graph")), choices_file(file))
    session = paretrim.runtime.load(file)
    assert not session.network.choices_were_used
    np.testing.assert_array_equal(session(IMAGES), interpreter.run(GRAPH, IMAGES))
    assert read_choices(file)["best, 1 thread"] == session.network.choices


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"format": 9}',
        b'{"format": NaN}',
        b'{"format": 1, "choices": [7]}',
        b'{"format": 1, "choices": {"best, 1 thread": 7}}',
        b'{"format": 1, "choices": {"best, 1 thread": "\\ud800"}}',
        b'{"format": 1, "choices": {"best, 1 thread": "", "\\udfff": ""}}',
        b'{"format": 1, "choices": {"best, 1 thread": "\\u0000"}}',
        b'{"format": 1, "choices": {"best, 1 thread": 1' + b"0" * 5000 + b"}}",
        b"[" * 9999,
        b"[" * 999_999,
        b" " * (LARGEST_FILE + 1),
        b'{"format": 1, "choices": {"of another machine": "' + b"x" * (LARGEST_FILE - 60) + b'"}}',
    ],
    ids=lambda content: repr(content[:60]),
)
def test_damaged_choices_are_measured_again(file, content):
    choices_file(file).write_bytes(content)
    assert not paretrim.runtime.load(file).network.choices_were_used
    assert paretrim.runtime.load(file).network.choices_were_used


def in_the_way(place, kind):
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "loop of links":
        place.symlink_to(place)
    else:
        place.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop of links", "endless device"])
def test_what_is_no_file_of_choices_is_not_read(file, kind):
    in_the_way(choices_file(file), kind)
    np.testing.assert_array_equal(paretrim.runtime.load(file)(IMAGES), interpreter.run(GRAPH, IMAGES))


def test_a_name_too_long_for_choices_beside_it_loads(file):
    longest = file.with_name("n" * 249 + ".graph")
    file.rename(longest)
    np.testing.assert_array_equal(paretrim.runtime.load(longest)(IMAGES), interpreter.run(GRAPH, IMAGES))


@pytest.mark.parametrize(
    "change",
    [lambda text: text[:-3], lambda text: text + "|x", lambda text: text.replace("|", "|-9999999999"), lambda _: "|" * 99],
)
def test_invalid_choices_are_ignored(file, change):
    text = paretrim.runtime.load(file).network.choices
    keep_choices(file, {}, {"best, 1 thread": change(text)})
    again = paretrim.runtime.load(file).network
    assert again.choices_were_used == (again.choices == change(text))
    assert read_choices(file)["best, 1 thread"] == again.choices
    np.testing.assert_array_equal(paretrim.runtime.load(file)(IMAGES), interpreter.run(GRAPH, IMAGES))


def names_beside(file):
    return sorted(path.name for path in file.parent.iterdir())


def test_nothing_is_kept_where_it_is_not_wanted_or_not_allowed(file, monkeypatch):
    paretrim.runtime.load(file, remember=False)
    paretrim.runtime.load(file, measure=False)
    assert names_beside(file) == ["model.graph"]
    # A folder in the way refuses writing to everyone, the superuser included.
    choices_file(file).mkdir()
    assert not paretrim.runtime.load(file).network.choices_were_used
    assert names_beside(file) == ["model.graph", "model.graph.plan.json"]
