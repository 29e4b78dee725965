"""``SPEC.md`` is enough to read a file: the reader that was written from it alone gives the same graphs as the native one."""

import ast
from pathlib import Path

import numpy as np
import pytest
import spec_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from second_reading import assert_read_alike, parts_of_native, parts_of_second
from trim_networks import integers, small
from trim_records import HISTORY, KNOWN, join, split

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

HERE = Path(__file__).parent
GOLDEN, GOLDEN_FREQUENCIES = HERE / "golden.trim", HERE / "golden-frequencies.trim"
GOLDEN_OUTPUTS = HERE / "golden-outputs.trim"


@pytest.mark.parametrize("path", [GOLDEN, GOLDEN_FREQUENCIES, GOLDEN_OUTPUTS], ids=lambda path: path.stem)
def test_golden_files(path):
    assert_read_alike(path.read_bytes())


def test_the_second_reader_takes_the_graph_of_the_package_and_nothing_else():
    """A reader that borrowed code of the first would agree with its faults."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (HERE / "spec_reader").glob("*.py")]
    found = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in found if name.startswith("paretrim")} == {
        "paretrim.errors",
        "paretrim.graph.checks",
        "paretrim.graph.types",
    }
    plain = {alias.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in plain if name.startswith("paretrim")]


def test_provenance():
    found = spec_reader.read(GOLDEN.read_bytes()).provenance
    # Files keep the names that the two values had at first.
    history = [{name.replace("value_", "accuracy_"): fact for name, fact in stage.facts().items()} for stage in HISTORY]
    assert found == {
        "format": 1,
        "recipe": KNOWN.recipe,
        "history": history,
        "measured": KNOWN.measured,
    }
    assert spec_reader.read(GOLDEN_FREQUENCIES.read_bytes()).provenance is None


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans(), pixels=st.booleans(), heads=st.integers(1, 3))
def test_random_graphs(seed, quantized, pixels, heads):
    assert_read_alike(trimfile.to_bytes(random_graph(seed, quantized=quantized, pixels=pixels, heads=heads)[0]))


@pytest.mark.parametrize("bare", [(0,), (1,), (2,), (0, 1, 2)])
def test_records_that_are_not_coded(bare):
    """A writer may leave structure, provenance and parameters as they are."""
    content = GOLDEN.read_bytes()
    records = split(content)
    bodies = [spec_reader.text_record(record) for record in spec_reader.split(content)[:2]]
    tensors = [(name, tensor) for node in small().nodes for name, tensor in sorted(node.tensors.items()) if name != "weight"]
    bodies.append(b"".join(tensor.tobytes() for _, tensor in tensors))
    for index in bare:
        records[index][3] = b"\0" + bodies[index]
    changed = join(records)
    assert plain_bytes(assert_read_alike(changed).graph) == plain_bytes(small())


def oddities():
    """A structure that is well-formed and no network: what the page allows and no real file has."""
    spec = InputSpec((3, 0, 2), (0.1 + 0.2, -0.0, 1e-300, 2.0**60, float("inf")), (0.25,))
    tensors = {
        "weight": integers((3, 2, 2, 3, 2), salt="five axes", low=-128, high=127).astype(np.int8),
        "weight_scale": np.array([1e-30, -0.5, np.nan], np.float32),
        "bias": np.array([-(2**31), 2**31 - 1, 0], np.int32),
        "bytes": np.arange(-128, 128, 5).astype(np.int8),
        "ä": integers((2, 7, 3), salt="three axes", low=0, high=1).astype(np.int8),
        "axis": np.zeros((0,), np.float32),
        "none": np.zeros((4, 0, 3), np.int8),
        "table": np.array(7, np.uint8),
    }
    attributes = {"hi": 2**63 - 1, "lo": -(2**63), "step": False, "ö": "", "window": (), "stop": (-1, 2**40), "maximum": 1 / 3}
    nodes = (
        Node("dög", "add", (INPUT, INPUT), ValueType((), "uint8", 2.0**-126, -(2**31)), attributes, tensors, "düg"),
        Node("düg", "mul", ("dög",), ValueType((2, 0), "float32", 2.0, 5), {}, {"bias": tensors["bias"]}, "dög"),
        Node("düg2", "concat", (), ValueType((3, 0, 2), "uint8", 0.5, 2**31 - 1), {}, {**tensors, "weight": tensors["ä"]}),
        Node("", "pad", ("düg",), ValueType((3, 0, 2)), {}, tensors, "x" * 4096),
    )
    return Graph(spec, nodes, (INPUT,), ("", "€", "a\0b"))


def test_everything_that_the_page_allows():
    content = native.write_trim(oddities(), provenance="", threads=1)
    assert parts_of_second(content) == parts_of_native(content)


@pytest.mark.parametrize("path", sorted((HERE / "corpus").glob("*.trim")), ids=lambda path: path.stem)
def test_the_kept_corpus(path):
    content = path.read_bytes()
    assert parts_of_second(content) == parts_of_native(content)


def refused(content):
    with pytest.raises(
        ValueError, match=r"^(header|record \d+ \((structure|provenance|parameters|weights)\)|the records of weights)"
    ):
        spec_reader.read(content)
    with pytest.raises(CorruptFile):
        trimfile.from_bytes(content)


@pytest.mark.parametrize("path", [GOLDEN, GOLDEN_FREQUENCIES], ids=lambda path: path.stem)
def test_damage_is_refused(path):
    content = path.read_bytes()
    for at in range(len(content)):
        refused(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
    for length in range(0, len(content), 7):
        refused(content[:length])
    refused(content + b"\0")


@pytest.mark.parametrize(
    ("index", "part", "value"),
    [
        (0, 0, 2),
        (1, 0, 0),
        (1, 0, 5),
        (1, 0, 4),
        (2, 0, 1),
        (0, 2, 2**22 + 1),
        (0, 2, 2**40),
        (0, 2, 100),
        (1, 2, 20),
        (2, 2, 839),
        (2, 2, 2**31),
        (3, 2, 181),
        (3, 1, 8),
        (3, 1, 10),
        (3, 1, 2**32 + 1),
        (0, 3, b""),
        (1, 3, b"\2"),
        (1, 3, b"\0{}"),
        (2, 3, b"\0" + bytes(839)),
        (2, 3, b"\0" + bytes(841)),
        (3, 3, b"\3"),
    ],
)
def test_forged_tables_are_refused(index, part, value):
    records = split(GOLDEN.read_bytes())
    records[index][part] = value
    refused(join(records))


def test_missing_and_repeated_records_are_refused():
    records = split(GOLDEN.read_bytes())
    for wrong in ([], records[:2], records[:3], records[2:], [*records, records[3]], records[::-1], [records[0], *records]):
        refused(join(wrong))
    refused(join(records, version=1))
    refused(join(records, count=5))


DAMAGES = 24


@pytest.mark.parametrize(
    ("path", "index", "readable"), [(GOLDEN, 0, 13), (GOLDEN, 2, 20), (GOLDEN, 3, 13), (GOLDEN_FREQUENCIES, 2, 0)]
)
def test_sealed_damage_is_refused_or_read_alike(path, index, readable):
    """Digests are right, so the bytes are decoded: by both to the same, or by neither."""
    content = path.read_bytes()
    records = split(content)
    if index == 0:
        records[0][3] = b"\0" + spec_reader.text_record(spec_reader.split(content)[0])
    data = records[index][3]
    read = 0
    for attempt, at in enumerate(integers((DAMAGES,), salt="damage", low=1, high=len(data) - 1)):
        records[index][3] = data[:at] + bytes([data[at] ^ 1 << attempt % 8]) + data[at + 1 :]
        changed = join(records)
        try:
            expected = parts_of_native(changed)
        except CorruptFile:
            refused(changed)
        else:
            assert parts_of_second(changed) == expected
            read += 1
    # Most bytes are numbers and weights of some network, unless their stream would have ended elsewhere; those of a structure are
    # names, numbers or an operation, which may be another one.
    assert read == readable
