"""Floats coded by the frequencies of their exponents: version 6 of the file."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spec_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from second_reading import FREQUENCIES, assert_read_alike, codings
from trim_networks import integers, linear, listed, stored, two_heads
from trim_records import join, number, split, take

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

GOLDEN = Path(__file__).parent / "golden-exponents.trim"
PLAIN, EXPONENTS = 0, 4
VERSION = 8
"""Where the version stands."""


def floats(shape, salt):
    """Numbers of all signs and of exponents that are small more often, the same on every machine."""
    size = integers(shape, salt=f"{salt} sizes", low=1, high=2**24 - 1)
    shift = integers(shape, salt=f"{salt} shifts", low=0, high=63)
    sign = 1 - 2 * integers(shape, salt=f"{salt} signs", low=0, high=1)
    return (sign * size / 2.0**24 / 2.0 ** np.floor(np.sqrt(shift))).astype(np.float32)


def three_layers():
    """Convolutions of weights of several sizes; of the second every third weight is 0."""
    weights = [floats((8, 3, 3, 3), "one"), floats((9, 8, 1, 1), "two") / 64, floats((5, 9, 3, 3), "three")]
    weights[1][::3] = 0
    nodes, source = [], INPUT
    for index, weight in enumerate(weights):
        edges = {"padding": (weight.shape[2] // 2,) * 4}
        nodes.append(Node(f"conv{index}", "conv2d", (source,), ValueType((len(weight), 4, 4)), edges, {"weight": weight}))
        source = nodes[-1].name
    nodes.append(Node("pool", "adaptive_avg_pool", (source,), ValueType((5, 1, 1)), {"output_size": (1, 1)}))
    nodes.append(Node("flat", "flatten", ("pool",), ValueType((5,))))
    return Graph(InputSpec((3, 4, 4)), tuple(nodes), ("flat",))


def split_floats(graph):
    """A file in which records of floats are by exponents however short they are."""
    return native.write_trim(graph, provenance="", threads=1, few_floats=0)


def test_golden_file():
    """The bytes of version 6, as ``golden.trim``."""
    assert split_floats(three_layers()) == GOLDEN.read_bytes()
    assert plain_bytes(trimfile.read(GOLDEN)) == plain_bytes(three_layers())
    assert_read_alike(GOLDEN.read_bytes())
    assert GOLDEN.read_bytes()[VERSION] == 6
    assert codings(GOLDEN.read_bytes()) == [EXPONENTS]


def spread(shape):
    """Weights as a trained layer has them: every row of a width of its own."""
    random = np.random.default_rng(2)
    return (random.normal(0, 1, shape) * random.uniform(0.02, 0.06, (shape[0], 1))).astype(np.float32)


def test_many_floats_take_little_more_than_learned_and_no_few_change():
    weight = spread((530, 1000))
    content = trimfile.to_bytes(linear(weight))
    assert codings(content) == [EXPONENTS]
    assert content[VERSION] == 6
    assert trimfile.from_bytes(content).graph.nodes[-1].tensors["weight"].tobytes() == weight.tobytes()
    learned = native.write_trim(linear(weight), provenance="", threads=1, few_floats=2**30)
    assert codings(learned) == [PLAIN]
    assert len(learned) < len(content) < 1.01 * len(learned)
    few = trimfile.to_bytes(linear(weight[:520]))
    assert codings(few) == [PLAIN]
    assert few[VERSION] == 2


@pytest.mark.parametrize("kept", [13, 16])
def test_floats_whose_last_bits_say_something_are_learned(kept):
    weight = (spread((530, 1000)).view(np.uint32) & np.uint32(0xFFFFFFFF << 32 - kept & 0xFFFFFFFF)).view(np.float32)
    assert codings(trimfile.to_bytes(linear(weight))) == [PLAIN]


def test_zeros_that_tell_zeros_are_learned():
    """Runs of them cost a model little, and frequencies know of no runs."""
    weight = spread((530, 1000))
    weight.reshape(-1, 50)[np.random.default_rng(0).random(10600) < 0.9] = 0
    assert codings(trimfile.to_bytes(linear(weight))) == [PLAIN]
    scattered = spread((530, 1000))
    scattered[np.random.default_rng(0).random(scattered.shape) < 0.5] = 0
    content = trimfile.to_bytes(linear(scattered))
    assert codings(content) == [EXPONENTS]
    assert trimfile.from_bytes(content).layer_bytes["fc", "weight"] < 0.45 * scattered.nbytes


def test_layers_share_frequencies_unless_their_own_are_worth_it():
    """A table takes some 30 bytes: small layers of about one size share it, and one of another size has its own."""
    records = split(split_floats(three_layers()))
    shared, _ = take(records[-1][3], 1)
    graph = three_layers()
    wide = replace(graph.nodes[2], tensors={"weight": graph.nodes[2].tensors["weight"] * np.float32(2.0**40)})
    records = split(split_floats(replace(graph, nodes=(*graph.nodes[:2], wide, *graph.nodes[3:]))))
    own, _ = take(records[-1][3], 1)
    assert 20 < shared < 40 < own - 10


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9), columns=st.integers(1, 60), zeros=st.booleans())
def test_any_floats_come_back(seed, rows, columns, zeros):
    """Every pattern of bits that is finite, subnormal numbers and negative zeros too."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2**32, (rows, columns), np.uint32)
    bits[(bits >> 23 & 255) == 255] = 1 << 31 if seed % 2 else 7
    if zeros:
        bits[random.random(bits.shape) < 0.5] = 0
    graph = linear(bits.view(np.float32))
    assert plain_bytes(assert_read_alike(split_floats(graph)).graph) == plain_bytes(graph)


@pytest.mark.parametrize("first", range(3))
def test_short_floats_beside_integers(first):
    graph = stored(three_layers(), first=first)
    content = split_floats(graph)
    assert plain_bytes(assert_read_alike(content).graph) == plain_bytes(graph)


@pytest.mark.parametrize("short", [np.float16, np.uint16])
def test_networks_of_short_floats_alone(short):
    graph = three_layers()
    nodes = []
    for node in graph.nodes:
        weight = node.tensors.get("weight")
        if weight is not None:
            weight = weight.astype(np.float16) if short is np.float16 else (weight.view(np.uint32) >> 16).astype(np.uint16)
        nodes.append(replace(node, tensors={} if weight is None else {"weight": weight}))
    graph = replace(graph, nodes=tuple(nodes))
    content = split_floats(graph)
    assert codings(content) == [EXPONENTS]
    assert plain_bytes(assert_read_alike(content).graph) == plain_bytes(graph)


def test_the_coding_and_the_version_belong_together():
    records = split(split_floats(replace(three_layers(), outputs=("flat", "pool"))))
    for version, known in ((3, 2), (5, 3)):
        with pytest.raises(CorruptFile, match=rf"its coding is 4; it must be 0 to {known}"):
            trimfile.from_bytes(join(records, version=version))
        with pytest.raises(ValueError, match="its coding is 4, which is reserved"):
            spec_reader.read(join(records, version=version))
    content = join(split(trimfile.to_bytes(two_heads())), version=6)
    with pytest.raises(CorruptFile, match=r"it is of version 6, but no record holds floats by exponents"):
        trimfile.from_bytes(content)
    with pytest.raises(ValueError, match="it is of version 6 and has no floats by exponents"):
        spec_reader.read(content)


def test_large_tensors_give_one_file_and_come_back():
    """Tensors that the writer views where they lie, in memory mapped for them; of any threads, and from any kind of bytes."""
    weight = floats((700, 1600), "large")  # 4.5 MB
    graph = linear(weight)
    content = native.write_trim(graph, provenance="", threads=1)
    for threads in (2, 3, 8):
        assert native.write_trim(graph, provenance="", threads=threads) == content
    odd = np.frombuffer(bytearray(weight.nbytes + 1), np.float32, weight.size, offset=1).reshape(weight.shape)
    odd[...] = weight
    assert native.write_trim(linear(odd), provenance="", threads=1) == content
    for held in (content, memoryview(content), np.frombuffer(content, np.uint8).data):
        read = trimfile.from_bytes(held, threads=2).graph
        assert read.nodes[-1].tensors["weight"].tobytes() == weight.tobytes()
    with pytest.raises(TypeError, match="a bytes-like object is required"):
        native.read_trim("text", threads=1)


@pytest.mark.parametrize(("round_channels", "expected"), [(0, EXPONENTS), (1, EXPONENTS), (8, EXPONENTS), (64, PLAIN)])
def test_a_few_round_weights_do_not_slow_down_a_record(round_channels, expected):
    """As those of the means over channels of a layer norm, beside the weights of its layer."""
    noise = np.random.default_rng(0).normal(0, 0.05, (768, 768, 1, 1)).astype(np.float32)
    layers = {"mean": np.full((round_channels, 768, 1, 1), 1 / 1024, np.float32), "layer": noise}
    convolutions = tuple(
        Node(name, "conv2d", (INPUT,), ValueType((len(weight), 1, 1)), {}, {"weight": weight})
        for name, weight in layers.items()
        if len(weight)
    )
    graph = Graph(InputSpec((768, 1, 1)), (*convolutions, Node("flat", "flatten", ("layer",), ValueType((768,)))), ("flat",))
    content = trimfile.to_bytes(graph)
    assert codings(content) == [expected]
    assert plain_bytes(trimfile.from_bytes(content).graph) == plain_bytes(graph)


def test_integers_are_not_coded_by_exponents():
    records = split(trimfile.to_bytes(two_heads()))
    records[-1][3] = split(GOLDEN.read_bytes())[-1][3]
    with pytest.raises(CorruptFile, match=r"\(weights 0\): it is coded by exponents but holds integers"):
        trimfile.from_bytes(join(records, version=6))
    with pytest.raises(ValueError, match="it is coded by exponents but holds integers"):
        spec_reader.read(join(records, version=6))


def test_a_file_of_both_has_the_later_version():
    """Integers and floats by exponents in one network, in records of their own."""
    graph = listed()
    real = Node("real", "dequantize", ("flat",), ValueType((60,)))
    wide = spread((17500, 60)) * np.float32(8)
    layer = Node("wide2", "linear", ("real",), ValueType((len(wide),)), {}, {"weight": wide})
    graph = replace(graph, nodes=(*graph.nodes, real, layer), outputs=("fc", "wide2"))
    content = trimfile.to_bytes(graph)
    assert content[VERSION] == 6
    assert codings(content) == [FREQUENCIES, EXPONENTS]
    assert plain_bytes(trimfile.from_bytes(content).graph) == plain_bytes(graph)


RECORD = split(GOLDEN.read_bytes())[-1][3]
LENGTH, START = take(RECORD, 1)
STREAM = RECORD[START : START + LENGTH]
SIZE, BEGIN = take(RECORD, START + LENGTH)
SYMBOLS, RESTS = RECORD[BEGIN : BEGIN + SIZE], RECORD[BEGIN + SIZE :]


def forged(stream=STREAM, symbols=SYMBOLS, rests=RESTS):
    records = split(GOLDEN.read_bytes())
    records[-1][3] = bytes([EXPONENTS]) + number(len(stream)) + stream + number(len(symbols)) + symbols + rests
    return join(records, version=6)


def test_the_parts_of_the_record_are_known():
    assert forged() == GOLDEN.read_bytes()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rests": RESTS[:-1]}, "the rests of its numbers end before its numbers do"),
        ({"rests": b""}, "the rests of its numbers end before its numbers do"),
        ({"rests": RESTS + b"\0"}, "1 bytes of rests follow its numbers"),
        ({"symbols": SYMBOLS[:-2]}, "its symbols end before its weights do"),
        ({"symbols": SYMBOLS + bytes(2)}, "its symbols do not end where its weights do"),
        ({"symbols": SYMBOLS[:30]}, "its symbols take 30 bytes, which no stream of symbols does"),
        ({"stream": b""}, "its coded stream ends before its values do"),
        ({"stream": STREAM + bytes(range(1, 9))}, "its coded stream does not end where its values do"),
    ],
)
def test_invalid_parts_are_refused(parts, message):
    content = forged(**parts)
    with pytest.raises(CorruptFile, match=rf"record 2 \(weights 0\): .*{message}"):
        trimfile.from_bytes(content)
    with pytest.raises(ValueError, match="record 2"):
        spec_reader.read(content)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (number(2**20), "the length of its stream is 1048576, above"),
        (number(0) + number(2**20), "the length of its symbols is 1048576"),
    ],
)
def test_invalid_lengths_are_refused(body, message):
    records = split(GOLDEN.read_bytes())
    records[-1][3] = bytes([EXPONENTS]) + body
    with pytest.raises(CorruptFile, match=message):
        trimfile.from_bytes(join(records, version=6))


def test_invalid_frequencies_are_refused():
    """After a changed bit the model decodes noise, so many random changes produce each invalid case."""
    seen = set()
    for attempt in range(120):
        digest = hashlib.sha256(f"exponents {attempt}".encode()).digest()
        at, mask = int.from_bytes(digest[:4], "little") % LENGTH, 1 << digest[4] % 8
        content = forged(stream=STREAM[:at] + bytes([STREAM[at] ^ mask]) + STREAM[at + 1 :])
        try:
            trimfile.from_bytes(content)
        except CorruptFile as error:
            seen.add(str(error))
    for message in (r"a frequency in it is -?\d+ of 4096", r"frequencies in it sum up to \d+ of 4096"):
        assert any(re.search(message, one) for one in seen), seen


def test_what_each_layer_takes_adds_up():
    found = trimfile.open_file(GOLDEN)
    assert sum(found.layer_bytes.values()) == pytest.approx(found.record_bytes["record 2 (weights 0)"], abs=12)
