"""The three readers (the runtime, the Python reader and the one written from ``SPEC.md``) accept and reject the same files."""

import dataclasses
import json
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import spec_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from trim_networks import small
from trim_records import CONTENT, join, split

from paretrim import trimfile
from paretrim.errors import CorruptFile, ParetrimError, UnsupportedOperation
from paretrim.graph import functions
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

HERE = Path(__file__).parent
ONLY_HERE = "cannot be planned|dropout is for training"
"""What the runtime says of a good file of a network that it does not compute."""


def verdicts(content):
    """Whether each reader takes a file, and the graph that each finds; an error of another kind than the readers' own goes on."""
    found = {}
    try:
        native.plan_trim(content, threads=1, instruction_set="", measure=False, choices="")
        found["runtime"] = True
    except CorruptFile:
        found["runtime"] = False
    except UnsupportedOperation as error:
        found["runtime"] = str(error)
    for name, read, refusal in (("python", trimfile.from_bytes, CorruptFile), ("page", spec_reader.read, ValueError)):
        try:
            found[name] = plain_bytes(read(content).graph)
        except refusal:
            found[name] = False
    return found


def assert_agreed(content):
    """All take the file as the same network, or none does; the runtime may say that it does not compute it."""
    found = verdicts(content)
    assert found["python"] == found["page"], found
    if isinstance(found["runtime"], str) and found["python"]:
        with pytest.raises(UnsupportedOperation, match=ONLY_HERE):
            raise UnsupportedOperation(found["runtime"])
    else:
        assert (found["runtime"] is True) == bool(found["python"]), found
    return bool(found["python"])


STAGE = {"name": "prune", "settings": {}, "epochs": 1, "bits": 8, "seconds": 0, "sparsity": 0.5, "accuracy_before": 1,
         "accuracy_after": 0.5}  # fmt: skip


def provenance(**changes):
    return json.dumps({"format": 1, "recipe": "", "history": [], "measured": {}} | changes)


def nested(depth):
    return provenance(history=[STAGE | {"settings": {"a": 0}}]).replace('"a": 0', '"a": ' + "[" * depth + "]" * depth)


TAKEN = {
    "nothing": "",
    "plain": provenance(),
    "spaces": " \t\r\n" + provenance() + "\n ",
    "other order": '{"recipe":"","measured":{"b":1,"a":2},"history":[],"format":1}',
    "escapes": provenance(recipe='\0\x1b[31m"\\/é\u2028😀'),
    "raw characters": json.dumps(json.loads(provenance(recipe="é\u2028😀\x7f")), ensure_ascii=False),
    "int64": provenance(measured={"least": -(2**63), "most": 2**63 - 1, "zero": -0.0}),
    "small and large": provenance(measured={"x": 1e-400, "y": 1.7976931348623157e308}).replace("0.0", "1E-400"),
    "truth": provenance(measured={"x": True}),
    "a stage": provenance(history=[STAGE, STAGE | {"settings": {"a": [None, False, {"b": -1.5e-3}]}}]),
    "depth 64": nested(60),
}
REFUSED = {
    "no JSON": "{",
    "words": "format",
    "a list": "[]",
    "a number": "1",
    "only spaces": "  ",
    "twice": provenance()[:-1] + ',"format":1}',
    "twice, escaped": provenance(measured={"a": 1}).replace('"a": 1', '"a": 1, "\\u0061": 2'),
    "twice, deep": nested(0).replace('"a": ', '"b": {"c": 1, "c": 1}, "a": 0').replace("0}", "0}"),
    "behind it": provenance() + "x",
    "two": provenance() * 2,
    "comma": provenance().replace("}}", ",}}"),
    "NaN": provenance(measured={"x": float("nan")}),
    "infinity": provenance(measured={"x": float("inf")}),
    "less infinity": provenance(measured={"x": float("-inf")}),
    "rounded to infinity": provenance(measured={"x": 7}).replace("7", "1.7976931348623159e308"),
    "beyond float64": provenance(measured={"x": 7}).replace("7", "-1e999"),
    "beyond int64": provenance(measured={"x": 2**63}),
    "below int64": provenance(measured={"x": -(2**63) - 1}),
    "5,000 digits": provenance(measured={"x": 7}).replace("7", "1" * 5000),
    "leading zero": provenance(measured={"x": 7}).replace("7", "07"),
    "plus": provenance(measured={"x": 7}).replace("7", "+7"),
    "point": provenance(measured={"x": 7}).replace("7", "7."),
    "hexadecimal": provenance(measured={"x": 7}).replace("7", "0x7"),
    "half a character": provenance(recipe="X").replace("X", "\\ud800"),
    "other half": provenance(recipe="X").replace("X", "\\udc00\\ud800"),
    "half and another": provenance(recipe="X").replace("X", "\\ud800\\u0041"),
    "wrong escape": provenance(recipe="X").replace("X", "\\x41"),
    "short escape": provenance(recipe="X").replace("X", "\\u41"),
    "raw control": provenance(recipe="X").replace("X", "\n"),
    "raw zero": provenance(recipe="X").replace("X", "\0"),
    "mark of order": "\ufeff" + provenance(),
    "depth 65": nested(61),
    "depth 100,000": nested(100_000),
    "format 2": provenance(format=2),
    "format 1.0": provenance(format=1.0),
    "format true": provenance(format=True),
    "no format": '{"recipe":"","history":[],"measured":{}}',
    "another key": provenance(more=1),
    "recipe": provenance(recipe=1),
    "history": provenance(history={}),
    "measured": provenance(measured=[]),
    "a measured list": provenance(measured={"x": []}),
    "a measured null": provenance(measured={"x": None}),
    "an empty stage": provenance(history=[{}]),
    "a stage that is none": provenance(history=[1]),
    "a stage with more": provenance(history=[STAGE | {"more": 1}]),
    "epochs 1.0": provenance(history=[STAGE | {"epochs": 1.0}]),
    "bits true": provenance(history=[STAGE | {"bits": True}]),
    "sparsity true": provenance(history=[STAGE | {"sparsity": True}]),
    "settings": provenance(history=[STAGE | {"settings": []}]),
}  # fmt: skip


def with_provenance(text):
    records = split(CONTENT)
    body = text.encode("utf-8", "surrogatepass")
    records[1] = [2, 0, len(body), b"\0" + body]
    return join(records)


@pytest.mark.parametrize("name", TAKEN)
def test_provenance_that_all_take(name):
    assert assert_agreed(with_provenance(TAKEN[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_provenance_that_all_refuse(name):
    content = with_provenance(REFUSED[name])
    assert not assert_agreed(content)
    with pytest.raises(CorruptFile, match=r"^record 1 \(provenance\): "):
        trimfile.from_bytes(content)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_provenance(data):
    text = data.draw(st.sampled_from([*TAKEN.values()]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        new = data.draw(
            st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", ":", "-", "0", "9", "e", ".", " ", "\\u12", "é", "true", "\0"])
        )
        text = text[:at] + new + text[at + data.draw(st.integers(0, 2)) :]
    assert_agreed(with_provenance(text))


def pointwise(function, constant, *, scale=0.0625, zero_point=100, output=0.05, output_zero=7, shift=0):
    """A network of one table, ``shift`` steps beside the function at one place."""
    source = ValueType((2, 1, 1), "uint8", float(np.float32(scale)), zero_point)
    target = ValueType((2, 1, 1), "uint8", float(np.float32(output)), output_zero)
    table = functions.pointwise_table(function, constant, source, target)
    table[200] = table[200] + shift if table[200] < 100 else table[200] - shift
    attributes = {"function": function} | ({} if constant is None else {"constant": constant})
    nodes = (
        Node("q", "quantize", (INPUT,), source),
        Node("f", "pointwise", ("q",), target, attributes, {"table": table}),
        Node("flat", "flatten", ("f",), dataclasses.replace(target, shape=(2,))),
        Node("real", "dequantize", ("flat",), ValueType((2,))),
    )
    return Graph(InputSpec((2, 1, 1)), nodes, ("real",))


FUNCTIONS = [*((name, None) for name in functions.PLAIN), *((name, 0.3) for name in functions.WITH_CONSTANT)]


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(1e-6, 1e6), zero_point=st.integers(0, 255), output=st.floats(1e-6, 1e6), output_zero=st.integers(0, 255))
@pytest.mark.parametrize(("function", "constant"), FUNCTIONS)
def test_every_function_of_the_graph_is_known_to_the_runtime(function, constant, scale, zero_point, output, output_zero):
    """A function that is added to ``graph/functions.py`` is added to ``native/graph/functions.cpp`` too."""
    native.check(pointwise(function, constant, scale=scale, zero_point=zero_point, output=output, output_zero=output_zero))


@pytest.mark.parametrize("shift", [0, 1, 2, 99])
@pytest.mark.parametrize(("function", "constant"), FUNCTIONS)
def test_a_table_is_its_function_for_all_readers(function, constant, shift):
    content = native.write_trim(pointwise(function, constant, shift=shift), provenance="", threads=1)
    assert assert_agreed(content) == (shift <= 1)


def test_a_function_that_is_none_is_refused_by_all():
    for function, constant in (("sigmoidal", None), ("silu", 1.0), ("leaky_relu", None)):
        graph = pointwise("silu", None)
        attributes = {"function": function} | ({} if constant is None else {"constant": constant})
        changed = dataclasses.replace(graph.nodes[1], attributes=attributes)
        graph = dataclasses.replace(graph, nodes=(graph.nodes[0], changed, *graph.nodes[2:]))
        assert not assert_agreed(native.write_trim(graph, provenance="", threads=1))
        with pytest.raises(
            UnsupportedOperation, match=f"pointwise function '{function}' (is unknown|takes no constant|lacks its)"
        ):
            native.check(graph)


def test_scales_of_two_axes_are_refused_by_all():
    graph = small()
    last = graph.nodes[-1]
    tensors = {**last.tensors, "weight_scale": last.tensors["weight_scale"][None]}
    graph = dataclasses.replace(graph, nodes=(*graph.nodes[:-1], dataclasses.replace(last, tensors=tensors)))
    assert not assert_agreed(native.write_trim(graph, provenance="", threads=1))


def test_a_table_of_pixels_is_its_formula_for_all_readers():
    for shift in (0, 1, 2):
        graph = small()
        table = graph.nodes[0].tensors["table"].copy()
        table[1, 100] += shift
        first = dataclasses.replace(graph.nodes[0], tensors={"table": table})
        graph = dataclasses.replace(graph, nodes=(first, *graph.nodes[1:]))
        assert assert_agreed(native.write_trim(graph, provenance="", threads=1)) == (shift <= 1)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("fc", True), (" a b ", True), ("ключ 键 ä", True), ("\xa0\u3000", True), ("😀\U000f0000\ue000\U0010ffff", True),
        ("a" * 500, True), ("ä" * 500, True), ("a" * 501, False), ("", False), ("a\0", False), ("\x1b[31m", False),
        ("\x7f", False), ("\x9b", False), ("\xad", False), ("\u061c", False), ("\u200b", False), ("\u202e", False),
        ("\u2028", False), ("\u2066", False), ("\ufeff", False), ("\ufff9", False), ("\U000e0041", False), ("a\n", False),
    ],
)  # fmt: skip
def test_names_of_nodes(name, taken):
    graph = small()
    graph = dataclasses.replace(
        graph, nodes=(*graph.nodes[:-1], dataclasses.replace(graph.nodes[-1], name=name)), outputs=(name,)
    )
    assert assert_agreed(native.write_trim(graph, provenance="", threads=1)) == taken


def test_a_message_shows_what_would_steer_a_terminal():
    graph = small()
    last = dataclasses.replace(graph.nodes[-1], layer="\x1b[31m\x9b\x07ä", tensors={})
    graph = dataclasses.replace(graph, nodes=(*graph.nodes[:-1], last))
    with pytest.raises(CorruptFile, match=r"\(layer '\\x1b\[31m\\x9b\\x07ä', linear\)"):
        trimfile.from_bytes(native.write_trim(graph, provenance="", threads=1))


SEEDS = [(HERE / "golden.trim").read_bytes(), CONTENT, *(path.read_bytes() for path in sorted((HERE / "corpus").glob("*.trim")))]
SEEDS += [trimfile.to_bytes(random_graph(seed, quantized=seed % 3 > 0)[0]) for seed in range(12)]
SEEDS += [trimfile.to_bytes(random_graph(seed, quantized=seed % 3 > 0, heads=3)[0]) for seed in range(3)]


@cache
def parts(content):
    """The records of a file, texts uncoded so that a changed byte is a changed byte of what they hold."""
    try:
        records = split(content)
        for record, one in zip(records, spec_reader.split(content), strict=True):
            if one.kind <= 2:
                record[3] = b"\0" + spec_reader.text_record(one)
    except (AssertionError, ValueError, IndexError):
        return None
    return records


def mutated(content, random):
    """A file with some bytes changed, and every other time with right digests again."""
    records = deepcopy(parts(content))
    if records is None or random.random() < 0.2:
        data = bytearray(content)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        return bytes(data)
    for _ in range(random.integers(1, 3)):
        index = random.choice(len(records), p=np.array([6, *[1] * (len(records) - 1)]) / (5 + len(records)))
        data = bytearray(records[index][3])
        at, kind = random.integers(1, max(len(data), 2)), random.random()
        if kind < 0.6 and at < len(data):
            data[at] = random.choice([data[at] ^ 1 << random.integers(8), random.integers(256), 0, 1, 127])
        elif kind < 0.8:
            data[at:at] = bytes([random.integers(256)])
        else:
            del data[at : at + random.integers(1, 4)]
        records[index][3] = bytes(data)
        if records[index][0] <= 2:
            records[index][2] = len(data) - 1
    return join(records, version=content[8])


def compare(count, seed):
    random = np.random.default_rng(seed)
    taken = 0
    for turn in range(count):
        content = mutated(SEEDS[turn % len(SEEDS)], random)
        try:
            taken += assert_agreed(content)
        except (AssertionError, ParetrimError):
            Path("disagreed.trim").write_bytes(content)
            raise
    return taken


def test_mutated_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert 10 < compare(150, 0) < 110


@pytest.mark.slow
def test_many_mutated_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compare(1500, 1) > 100
