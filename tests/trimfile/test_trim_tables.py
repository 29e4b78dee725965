"""Layers of few different values, which have a table of them: version 5 of the file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spec_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from second_reading import TABLES, assert_read_alike, codings
from trim_networks import chain, integers, linear, listed, one_of, small, two_heads
from trim_records import join, split

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph import interpreter
from paretrim.graph.entropy import order0_bytes
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import Node, ValueType
from paretrim.runtime import instruction_sets, plan

GOLDEN = Path(__file__).parent / "golden-tables.trim"
VERSION = 8
"""Where the version stands."""


def test_golden_file():
    """The bytes of version 5, as ``golden.trim``."""
    assert trimfile.to_bytes(listed()) == GOLDEN.read_bytes()
    assert plain_bytes(trimfile.read(GOLDEN)) == plain_bytes(listed())
    assert_read_alike(GOLDEN.read_bytes())
    assert GOLDEN.read_bytes()[VERSION] == 5
    assert [layer.format for layer in trimfile.inspect(GOLDEN).layers] == ["codebook 6", "int8", "codebook 4"]


def test_only_tables_make_version_5():
    for graph in (small(), small(())):
        content = trimfile.to_bytes(graph)
        assert content[VERSION] == 2
        assert TABLES not in codings(content)
    tables = split(GOLDEN.read_bytes())
    for version in (2, 3, 4):
        content = join(tables, version=version)
        with pytest.raises(CorruptFile, match="record"):
            trimfile.from_bytes(content)
        with pytest.raises(ValueError, match="record"):
            spec_reader.read(content)


def test_tables_need_version_5():
    """A structure of version 3, two outputs, fits; then the coding alone is wrong."""
    graph = listed()
    real = Node("real", "dequantize", ("flat",), ValueType((60,)))
    graph = replace(graph, nodes=(*graph.nodes, real), outputs=("fc", "real"))
    content = trimfile.to_bytes(graph)
    assert content[VERSION] == 5
    assert_read_alike(content)
    with pytest.raises(CorruptFile, match=r"its coding is 3; it must be 0 to 2"):
        trimfile.from_bytes(join(split(content), version=3))
    with pytest.raises(ValueError, match="its coding is 3, which is reserved"):
        spec_reader.read(join(split(content), version=3))


def test_version_5_needs_tables():
    content = join(split(trimfile.to_bytes(two_heads())), version=5)
    with pytest.raises(CorruptFile, match=r"it is of version 5, but no record has tables"):
        trimfile.from_bytes(content)
    with pytest.raises(ValueError, match="it is of version 5 and has no tables"):
        spec_reader.read(content)


@pytest.mark.parametrize("count", [2, 4, 16, 64])
def test_values_without_order_take_their_entropy(count):
    """And the table itself little: 1 % and the logarithm of the number of tables."""
    values = np.unique(integers((200,), salt=f"values {count}"))
    values = values[values != 0][:count].astype(np.int8)
    assert len(values) == count
    weight = values[integers((64, 1024), salt=f"places {count}", low=0, high=count - 1)]
    content = trimfile.to_bytes(linear(weight))
    size = trimfile.from_bytes(content).layer_bytes["fc", "weight"]
    assert size < 1.01 * order0_bytes(weight) + count


def test_a_layer_with_values_of_its_own_costs_no_more_than_the_first():
    """Layers share what is learned, and values of one layer say nothing of another's."""
    random = np.random.default_rng(3)
    weights = []
    for _ in range(6):
        values = np.sort(random.choice(np.delete(np.arange(-127, 128), 127), 8, replace=False)).astype(np.int8)
        weights.append(values[random.choice(8, (40, 40), p=np.array([1, 2, 4, 8, 8, 4, 2, 1]) / 30)])
    content = trimfile.to_bytes(chain(*weights))
    assert codings(content) == [TABLES]
    found = trimfile.from_bytes(content)
    assert sum(found.layer_bytes.values()) < 1.05 * sum(map(order0_bytes, weights))
    assert_read_alike(content)


CASES = {
    "one value": [one_of((0, 37), (12, 60)), one_of((0, -91), (12, 12))],
    "asymmetric": [one_of((-127, -3, 5, 127), (16, 12, 3, 3))],
    "sixty-four": [one_of([v for v in range(-100, 101, 3) if v][:64], (20, 90)), one_of(range(-126, -2, 2), (40, 20))],
    "blocks": [one_of((-90, -8, 33), (20, 24, 3, 3)) * (np.arange(24) // 4 % 3 == 0)[:, None, None]],
    "many values between": [
        one_of((-70, 9, 80), (16, 12, 3, 3)),
        one_of(range(-127, 128), (8, 16, 1, 1)),
        one_of((-66, 2), (9, 8)),
    ],
}


@pytest.mark.parametrize("name", CASES)
def test_both_readers_agree(name):
    content = trimfile.to_bytes(chain(*(weight.astype(np.int8) for weight in CASES[name])))
    assert codings(content) == [TABLES]
    assert_read_alike(content)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 66), rows=st.integers(1, 12), channels=st.integers(1, 30))
def test_any_table_comes_back(seed, count, rows, channels):
    random = np.random.default_rng(seed)
    values = random.choice(np.arange(-127, 128), count, replace=False)
    graph = linear(random.choice(values, (rows, channels)).astype(np.int8))
    content = trimfile.to_bytes(graph)
    assert plain_bytes(assert_read_alike(content).graph) == plain_bytes(graph)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_every_instruction_set_gives_the_bits_of_the_interpreter(instruction_set):
    graph = trimfile.read(GOLDEN)
    images = np.random.default_rng(0).normal(0, 1, (3, 8, 4, 4)).astype(np.float32)
    session = plan(graph, instruction_set=instruction_set, measure=False)
    assert session.outputs(images)[0].tobytes() == interpreter.run(listed(), images).tobytes()
