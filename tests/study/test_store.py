"""The store gives back what went in, and refuses everything else by file and line."""

from __future__ import annotations

import json
import multiprocessing
import string
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_outcomes import one

from paretrim.bench.types import Latency, Machine
from paretrim.errors import CorruptFile
from paretrim.graph.entropy import WeightSummary
from paretrim.history import StageOutcome
from paretrim.intervals import Estimate
from paretrim.results import store
from paretrim.results.outcome import FORMAT, Outcome

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), finite, words)
free = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
estimates = st.builds(Estimate, finite, finite, finite)
latencies = st.builds(
    Latency,
    **dict.fromkeys(("runtime", "runtime_version", "baseline"), words),
    **dict.fromkeys(("threads", "batch", "samples", "processes"), st.integers()),
    noise=st.lists(words, max_size=2).map(tuple),
    **dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "speedup", "floor"), estimates),
)
machines = st.builds(Machine, words, st.integers(), st.lists(words, max_size=2).map(tuple), st.integers(), words, words)
layer_outcomes = st.builds(
    WeightSummary,
    words,
    st.lists(st.integers(), max_size=4).map(tuple),
    words,
    st.integers(),
    st.integers(),
    st.integers(),
    finite,
)
stages = st.builds(
    StageOutcome, words, st.dictionaries(words, free, max_size=3), st.integers(), finite, finite, st.integers(), finite, finite
)
outcomes = st.builds(
    Outcome,
    **dict.fromkeys(("study", "recipe", "label", "data", "network", "runtime", "file", "commit", "created"), words),
    **dict.fromkeys(("seed", "test_images", "file_bytes", "weights", "zeros"), st.integers()),
    **dict.fromkeys(("trained_value", "deployed_value", "agreement", "entropy_bytes"), finite),
    order=st.lists(words, max_size=3).map(tuple),
    layers=st.lists(layer_outcomes, max_size=2).map(tuple),
    latencies=st.lists(latencies, max_size=2).map(tuple),
    history=st.lists(stages, max_size=2).map(tuple),
    machine=machines,
    versions=st.dictionaries(words, words, max_size=2),
    settings=st.dictionaries(words, free, max_size=3),
    trim_bytes=st.none() | st.integers(),
    format=st.sampled_from((1, FORMAT)),
)


def test_bits_by_layer_are_kept_and_left_out_where_there_are_none() -> None:
    stage = StageOutcome("quantize", {}, 0, 1.0, 0.0, 8, 0.9, 0.9, {"fc": 8, "conv": 4})
    assert store.decode(store.encode(one(history=(stage,)))).history == (stage,)
    assert "layer_bits" not in store.encode(one())


def edited(**changes: object) -> str:
    return json.dumps(json.loads(store.encode(one())) | changes)


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_what_goes_in_comes_out(outcome: Outcome) -> None:
    line = store.encode(outcome)
    assert store.decode(line) == outcome
    assert store.encode(store.decode(line)) == line
    assert line.isascii()
    assert line.isprintable()


def test_a_line_of_the_first_format_reads_and_writes_as_it_was() -> None:
    line = store.encode(one(format=1))
    assert "trim_bytes" not in line
    assert store.decode(line).trim_bytes is None
    assert store.encode(store.decode(line)) == line
    newer = store.decode(store.encode(one(trim_bytes=7, onnx_value=0.5)))
    assert (newer.trim_bytes, newer.onnx_value, newer.format) == (7, 0.5, FORMAT)


def test_lines_before_format_5_have_accuracies_where_later_ones_have_values() -> None:
    new, old = (json.loads(store.encode(one(onnx_value=0.5, format=version))) for version in (5, 4))
    renamed = {"trained_value": "trained_accuracy", "deployed_value": "deployed_accuracy", "onnx_value": "onnx_accuracy"}
    of_stage = {"value_before": "accuracy_before", "value_after": "accuracy_after"}
    (stage,) = new["history"]
    assert old == {renamed.get(name, name): value for name, value in new.items()} | {
        "format": 4,
        "history": [{of_stage.get(name, name): value for name, value in stage.items()}],
    }
    assert (stage["value_before"], stage["value_after"]) == (0.95, 0.949)
    assert store.decode(json.dumps(old)) == one(onnx_value=0.5, format=4)


@pytest.mark.parametrize(
    ("version", "taken", "given", "message"),
    [
        (4, "trained_accuracy", "trained_value", "unknown 'trained_value'; missing 'trained_accuracy'; allowed are "),
        (5, "trained_value", "trained_accuracy", "unknown 'trained_accuracy'; missing 'trained_value'; allowed are "),
    ],
)
def test_a_line_has_the_names_of_its_format(version: int, taken: str, given: str, message: str) -> None:
    plain = json.loads(store.encode(one(format=version)))
    plain[given] = plain.pop(taken)
    with pytest.raises(CorruptFile, match=message):
        store.decode(json.dumps(plain))


def test_equal_outcomes_are_equal_lines() -> None:
    assert store.encode(one(settings={"a": 1, "b": 2})) == store.encode(one(settings={"b": 2, "a": 1}))


def test_numpy_numbers_and_lists_become_plain() -> None:
    outcome = one(seed=np.int64(3), deployed_value=np.float32(0.5), settings={"widths": [np.int32(1), 2]})
    assert store.decode(store.encode(outcome)) == one(seed=3, deployed_value=0.5, settings={"widths": (1, 2)})


@dataclass(frozen=True)
class Optional:
    maybe: Estimate | None
    table: Mapping[str, str]


@pytest.mark.parametrize("value", [Optional(None, {}), Optional(Estimate(1.0, 0.5, 2.0), {"a": "b"})])
def test_the_codec_follows_type_hints(value: Optional) -> None:
    plain = json.loads(json.dumps(store._to_plain(value, Optional, place="here")))
    assert store._from_plain(plain, Optional, place="here") == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"deployed_value": float("nan")},
            r"outcome 'P', seed 0, deployed_value: is nan \(float\); allowed is a finite number",
        ),
        ({"file_bytes": 1.5}, r"file_bytes: is 1.5 \(float\); allowed is a whole number"),
        ({"trim_bytes": 1.5}, r"trim_bytes: is 1.5 \(float\); allowed is a whole number"),
        ({"file_bytes": True}, r"file_bytes: is True \(bool\); allowed is a whole number"),
        ({"entropy_bytes": 10**400}, r"entropy_bytes: is 10+\.\.\. \(int\); allowed is a finite number"),
        ({"label": "\ud800"}, "allowed is text that UTF-8 can hold"),
        ({"commit": None}, r"commit: is None \(NoneType\); allowed is text"),
        ({"settings": {"f": print}}, "settings, f: is .* allowed is text, a number, true, false, nothing, an array or an object"),
        ({"settings": {1: 2}}, r"settings: is 1 \(int\); allowed is text"),
        ({"machine": "laptop"}, r"machine: is 'laptop' \(str\); allowed is a Machine"),
        ({"layers": 3}, r"layers: is 3 \(int\); allowed is an array"),
        ({"versions": ()}, r"versions: is \(\) \(tuple\); allowed is an object"),
        ({"versions": {"numpy": 2}}, r"versions, numpy: is 2 \(int\); allowed is text"),
    ],
)
def test_what_cannot_be_stored_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        store.encode(one(**changes))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line: not a JSON line"),
        ("[" * 100_000, "line: not a JSON line"),
        ("[]", r"line: is \[\] \(list\); allowed is an object"),
        ("{}", f"line: has format None; allowed is a whole number from 1 to {FORMAT}"),
        ('{"format": true}', "has format True"),
        (
            f'{{"format": {FORMAT + 1}}}',
            f"has format {FORMAT + 1} and this version of paretrim reads up to {FORMAT}; install a newer one",
        ),
        ('{"format": 0}', f"has format 0; allowed is a whole number from 1 to {FORMAT}"),
        ('{"format": 1, "format": 1}', "key 'format' occurs twice"),
        (edited(extra=1), "keys of Outcome do not match: unknown 'extra'; allowed are study, recipe"),
        ('{"format": 1}', "missing 'agreement', 'commit'"),
        (edited(machine={}), "line, machine: keys of Machine do not match: missing 'cores', 'cpu'"),
        (edited(machine=4), r"line, machine: is 4 \(int\); allowed is an object"),
        (edited(seed="0"), r"line, seed: is '0' \(str\); allowed is a whole number"),
        (edited(agreement=1).replace('"agreement": 1', '"agreement": NaN'), "NaN is not a JSON number"),
        (edited(agreement=1).replace('"agreement": 1', '"agreement": 1e999'), r"agreement: is inf \(float\)"),
    ],
)
def test_an_invalid_line_is_refused(line: str, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        store.decode(line)


def test_a_wrong_truth_value_or_type_hint_is_refused() -> None:
    with pytest.raises(CorruptFile, match=r"here: is 1 \(int\); allowed is true or false"):
        store._from_plain(1, bool, place="here")
    with pytest.raises(CorruptFile, match="allowed is <class 'bytes'>"):
        store._from_plain("x", bytes, place="here")


def test_append_and_read(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "outcomes.jsonl"
    for seed in range(3):
        store.append(path, one(seed=seed))
    assert store.read(path) == tuple(one(seed=seed) for seed in range(3))


@pytest.mark.parametrize("cut", [1, 100, -2])
def test_a_torn_last_line_is_counted_and_the_next_append_removes_it(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "outcomes.jsonl"
    store.append(path, one(seed=0))
    with path.open("a") as file:
        file.write(store.encode(one(seed=1))[:cut])
    assert store.inspect(path) == store.Contents((one(seed=0),), torn=1)
    store.append(path, one(seed=2))
    assert store.inspect(path) == store.Contents((one(seed=0), one(seed=2)), torn=0)


def test_a_last_line_that_lacks_only_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(store.encode(one(seed=0)))
    assert store.inspect(path) == store.Contents((one(seed=0),), torn=0)
    store.append(path, one(seed=1))
    assert store.read(path) == (one(seed=0), one(seed=1))


@pytest.mark.parametrize(("broken", "message"), [(b"{", "not a JSON line"), (b"", "not a JSON line"), (b"\xff", "not UTF-8")])
def test_a_broken_middle_line_is_an_error_with_file_and_line(tmp_path: Path, broken: bytes, message: str) -> None:
    path = tmp_path / "outcomes.jsonl"
    line = store.encode(one()).encode()
    path.write_bytes(line + b"\n" + broken + b"\n" + line + b"\n")
    with pytest.raises(CorruptFile, match=rf"outcomes.jsonl', line 2: {message}"):
        store.read(path)


def test_a_newer_format_in_the_last_line_is_not_taken_for_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(edited(format=9))
    with pytest.raises(CorruptFile, match="line 1: has format 9"):
        store.read(path)


def test_an_unstorable_outcome_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    store.append(path, one())
    before = path.read_bytes()
    with pytest.raises(CorruptFile, match="agreement"):
        store.append(path, one(agreement=float("inf")))
    assert path.read_bytes() == before


def test_a_missing_store_is_the_operating_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        store.read(tmp_path / "none.jsonl")


def _append_some(path: Path, first: int) -> None:
    for seed in range(first, first + 10):
        store.append(path, one(seed=seed, commit=string.ascii_letters * 400))


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_some, args=(path, first)) for first in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(outcome.seed for outcome in store.read(path)) == list(range(20))


def test_latest_keeps_the_last_line_of_each_run() -> None:
    old, new, other = one(created="2027"), one(commit="new", created="2026"), one(seed=1)
    assert store.latest((old, other, new)) == (new, other)
    assert store.latest(()) == ()


def test_imports_without_torch() -> None:
    code = "import sys; import paretrim.results.store; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
