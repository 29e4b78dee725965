"""Weights that are small integers times a multiple for each group of input channels: version 7 of the file."""

from pathlib import Path

import numpy as np
import pytest
import spec_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from second_reading import GROUPS, assert_read_alike, codings
from trim_networks import chain, linear, listed, small, two_heads
from trim_records import join, number, refused, split

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph import interpreter
from paretrim.graph.entropy import order0_bytes
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.runtime import instruction_sets, plan
from paretrim.runtime.compiled import native

GOLDEN = Path(__file__).parent / "golden-groups.trim"
VERSION = 8
"""Where the version stands."""


def in_groups(shape, size, *, top=7, seed=0, most=None):
    """A weight whose small integers are at most ``top``, and its multiples [Co, G]."""
    random = np.random.default_rng(seed)
    outputs, channels, *kernel = shape
    multiples = random.integers(1, 1 + (most or 127 // top), (outputs, -(-channels // size)))
    values = np.rint(random.normal(0, top / 2.5, shape)).clip(-top, top)
    each = multiples.repeat(size, axis=1)[:, :channels].reshape(outputs, channels, *[1] * len(kernel))
    return (values * each).astype(np.int8), multiples


def test_golden_file():
    """The bytes of version 7, as ``golden.trim``."""
    graph = golden_network()
    assert trimfile.to_bytes(graph) == GOLDEN.read_bytes()
    assert plain_bytes(trimfile.read(GOLDEN)) == plain_bytes(graph)
    assert_read_alike(GOLDEN.read_bytes())
    assert GOLDEN.read_bytes()[VERSION] == 7
    assert [layer.format for layer in trimfile.inspect(GOLDEN).layers] == ["int4 in groups of 16", "int8", "int3 in groups of 32"]


def golden_network():
    plain = np.random.default_rng(1).integers(-127, 128, (48, 24, 1, 1)).astype(np.int8)
    return chain(in_groups((24, 40, 3, 3), 16)[0], plain, in_groups((16, 48, 1, 1), 32, top=3, seed=2)[0])


def test_only_groups_make_version_7():
    for graph in (small(), listed()):
        content = trimfile.to_bytes(graph)
        assert content[VERSION] < 7
        assert GROUPS not in codings(content)
    records = split(GOLDEN.read_bytes())
    for version in (2, 3, 4, 5, 6):
        content = join(records, version=version)
        with pytest.raises(CorruptFile, match=r"record|version"):
            trimfile.from_bytes(content)
        with pytest.raises(ValueError, match=r"record|version"):
            spec_reader.read(content)


def test_version_7_needs_groups():
    content = join(split(trimfile.to_bytes(two_heads())), version=7)
    with pytest.raises(CorruptFile, match=r"it is of version 7, but no record has integers in groups"):
        trimfile.from_bytes(content)
    with pytest.raises(ValueError, match="it is of version 7 and has no integers in groups"):
        spec_reader.read(content)


@pytest.mark.parametrize(("top", "size"), [(7, 16), (7, 32), (7, 128), (3, 32), (1, 64), (15, 16), (31, 32)])
def test_groups_take_the_entropy_of_small_integers_and_multiples(top, size):
    weight, multiples = in_groups((64, 512), size, top=top)
    content = trimfile.to_bytes(linear(weight))
    assert codings(content) == [GROUPS]
    found = trimfile.from_bytes(content)
    each = multiples.repeat(size, axis=1)[:, :512]
    entropy = order0_bytes((weight // each).astype(np.int8)) + order0_bytes(multiples.astype(np.int8))
    assert found.layer_bytes["fc", "weight"] < 1.02 * entropy + 120
    assert np.array_equal(found.graph.nodes[-1].tensors["weight"], weight)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 12),
    channels=st.integers(1, 60),
    top=st.sampled_from([1, 3, 7, 15, 31]),
    size=st.sampled_from([16, 32, 64, 128]),
)
def test_any_groups_come_back(seed, rows, channels, top, size):
    graph = linear(in_groups((rows, channels), size, top=top, seed=seed)[0])
    content = trimfile.to_bytes(graph)
    assert plain_bytes(assert_read_alike(content).graph) == plain_bytes(graph)


def test_groups_of_the_least_integer_come_back():
    """No network has it, but the coding holds it."""
    weight = in_groups((64, 64), 16)[0]
    weight[::3, :16] = np.where(weight[::3, :16] > 0, -128, 0)
    content = native.write_trim(linear(weight), provenance="", threads=1)
    assert codings(content) == [GROUPS]
    assert native.read_trim(content, threads=1)[0][1][-1][5]["weight"].tobytes() == weight.tobytes()


def inner_of(record):
    """Where the record of small integers begins; the length of the stream before it takes one or two bytes."""
    length, at = record[1] & 127, 2
    if record[1] > 127:
        length, at = length | record[2] << 7, 3
    return at + length


def forged(change):
    records = split(GOLDEN.read_bytes())
    record = bytearray(records[-1][3])
    records[-1][3] = bytes(change(record))
    return join(records, version=7)


def test_an_inner_record_of_floats_or_groups_is_refused():
    for coding in (4, 5, 6):

        def change(record, coding=coding):
            record[inner_of(record)] = coding
            return record

        refused(forged(change), rf"record \d \(weights 0\): its coding is {coding}; it must be 0 to 3")
        with pytest.raises(ValueError, match=f"its coding is {coding}, which is reserved"):
            spec_reader.read(forged(change))


def test_a_stream_that_is_longer_than_its_record_is_refused():
    refused(forged(lambda record: record[:1] + number(10**6) + record[3:]), r"record \d \(weights 0\): the length of its stream")


def test_a_record_that_ends_behind_its_groups_is_refused():
    refused(forged(lambda record: record[: inner_of(record)]), r"record \d \(weights 0\): it is empty")


def test_a_product_beyond_int8_is_refused():
    """The groups of one file in front of the small integers of another, which are larger."""
    multiplied = split(trimfile.to_bytes(linear(in_groups((16, 64), 16, top=7)[0])))
    wide = split(trimfile.to_bytes(linear(in_groups((16, 64), 16, top=31, seed=3)[0])))
    first, second = multiplied[-1][3], wide[-1][3]
    assert (first[0], second[0]) == (GROUPS, GROUPS)
    multiplied[-1][3] = first[: inner_of(first)] + second[inner_of(second) :]
    content = join(multiplied, version=7)
    refused(content, r"an integer times the multiplier of its group is no int8")
    with pytest.raises(ValueError, match="a product in it is no int8"):
        spec_reader.read(content)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_every_instruction_set_gives_the_bits_of_the_interpreter(instruction_set):
    graph = trimfile.read(GOLDEN)
    images = np.random.default_rng(0).normal(0, 1, (3, *graph.input.shape)).astype(np.float32)
    session = plan(graph, instruction_set=instruction_set, measure=False)
    assert session.outputs(images)[0].tobytes() == interpreter.run(golden_network(), images).tobytes()


def test_threads_and_records_do_not_change_the_groups():
    """Above a million weights a file has several records, each with its own groups."""
    weight, _ = in_groups((1100, 1024), 32)
    graph = linear(weight)
    content = trimfile.to_bytes(graph)
    assert codings(content) == [GROUPS] * len(codings(content))
    assert len(codings(content)) > 1
    assert np.array_equal(trimfile.from_bytes(content, threads=2).graph.nodes[-1].tensors["weight"], weight)
