"""Weights of float layers as float16, bfloat16 and int8: version 4 of the file, and what runs from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spec_reader
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from second_reading import assert_read_alike, parts_of_native, parts_of_second
from trim_networks import linear, short_network, small, stored, two_heads
from trim_records import join, split

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph import interpreter
from paretrim.graph.checks import validate
from paretrim.graph.dtypes import real_weight, widened
from paretrim.graph.entropy import order0_bytes
from paretrim.graph.storage import from_bytes as plain_graph
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime import instruction_sets, plan
from paretrim.runtime.compiled import native

GOLDEN = Path(__file__).parent / "golden-stored-weights.trim"
VERSION = 8
"""Where the version stands."""


def test_golden_file():
    """The bytes of version 4, as ``golden.trim``."""
    assert trimfile.to_bytes(short_network()) == GOLDEN.read_bytes()
    assert plain_bytes(trimfile.read(GOLDEN)) == plain_bytes(short_network())
    assert_read_alike(GOLDEN.read_bytes())
    assert [layer.format for layer in trimfile.inspect(GOLDEN).layers] == ["float16", "bfloat16", "codebook 14"]


def test_only_stored_weights_raise_the_version():
    assert GOLDEN.read_bytes()[VERSION] == 4
    assert trimfile.to_bytes(small())[VERSION] == 2
    for graph, version in ((small(()), 2), (two_heads(), 3), (short_network(), 4)):
        records = split(trimfile.to_bytes(graph))
        for other in {2, 3, 4} - {version}:
            content = join(records, version=other)
            with pytest.raises(CorruptFile, match=r"record 0 \(structure\): "):
                trimfile.from_bytes(content)
            with pytest.raises(ValueError, match="record 0"):
                spec_reader.read(content)
    with pytest.raises(CorruptFile, match="it is of version 3, but its weights and outputs need version 4"):
        trimfile.from_bytes(
            join(split(trimfile.to_bytes(replace(short_network(), classes=(), outputs=("conv2", "fc")))), version=3)
        )


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), first=st.integers(0, 4), heads=st.integers(1, 2))
def test_both_readers_and_the_runtime_agree_on_random_graphs(seed, first, heads):
    graph, images = random_graph(seed, quantized=False, heads=heads)
    short = stored(graph, first=first)
    content = trimfile.to_bytes(short)
    assert plain_bytes(assert_read_alike(content).graph) == plain_bytes(short)
    assert plain_bytes(plain_graph(plain_bytes(short))) == plain_bytes(short)
    names = instruction_sets()
    session = plan(trimfile.from_bytes(content).graph, instruction_set=names[seed % len(names)], measure=False)
    if not interpreter.depends_on_library(graph):
        for found, expected in zip(session.outputs(images), interpreter.run_outputs(short, images), strict=True):
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_every_instruction_set_gives_the_bits_of_the_interpreter(instruction_set):
    graph, pixels = short_network(), np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4)).astype(np.uint8)
    session = plan(graph, instruction_set=instruction_set, measure=False)
    assert session.outputs(pixels)[0].tobytes() == interpreter.run(graph, pixels).tobytes()
    wide = [
        replace(node, tensors={"weight": real_weight(node.tensors), **{k: v for k, v in node.tensors.items() if k == "bias"}})
        if "weight" in node.tensors
        else node
        for node in graph.nodes
    ]
    assert interpreter.run(replace(graph, nodes=tuple(wide)), pixels).tobytes() == session.outputs(pixels)[0].tobytes()


EVERY = np.arange(2**16, dtype=np.uint16)


def test_every_number_of_16_bits_is_the_float32_that_it_is():
    finite = EVERY[(EVERY >> 10 & 31) < 31]
    halves = finite.view(np.float16)
    assert widened(halves).tobytes() == torch.from_numpy(halves).float().numpy().tobytes()
    brain = EVERY[(EVERY >> 7 & 255) < 255]
    expected = torch.from_numpy(brain.view(np.int16)).view(torch.bfloat16).float().numpy()
    assert widened(brain).tobytes() == expected.tobytes()
    for values in (halves, brain):
        weight = np.resize(values, (256, 256))
        flat = Node("flat", "flatten", (INPUT,), ValueType((256,)))
        layer = Node("fc", "linear", ("flat",), ValueType((256,)), {}, {"weight": weight})
        graph = Graph(InputSpec((256, 1, 1)), (flat, layer), ("fc",))
        assert plain_bytes(trimfile.from_bytes(trimfile.to_bytes(graph)).graph) == plain_bytes(graph)


@pytest.mark.parametrize("dtype", [np.float16, np.uint16])
@pytest.mark.parametrize("shape", [(9,), (3, 7)])
def test_numbers_that_no_network_has_are_kept_too(dtype, shape):
    """NaN and infinity, negative zeros, and tensors that are not large."""
    bits = np.resize(np.uint16([0, 0x8000, 1, 0x7C00, 0xFC01, 0x7FFF, 0x3C00, 0x03FF, 0xFF80]), shape)
    graph = Graph(InputSpec((1,)), (Node("a", "relu", (INPUT,), ValueType((1,)), {}, {"weight": bits.view(dtype)}),), ("a",))
    content = native.write_trim(graph, provenance="", threads=1)
    assert parts_of_second(content) == parts_of_native(content)
    assert native.read_trim(content, threads=1, checked=False)[0][1][0][5]["weight"].tobytes() == bits.tobytes()


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 16), ("bfloat16", 16)])
def test_a_weight_takes_its_own_bits_before_coding_and_its_entropy_after(dtype, bits):
    """Within 3 % of the entropy of its numbers, of normally distributed weights."""
    weight = np.random.default_rng(2).normal(0, 0.05, (300, 500)).astype(np.float32)
    short = weight.astype(np.float16) if dtype == "float16" else (weight.view(np.uint32) >> 16).astype(np.uint16)
    graph = linear(weight)
    graph = replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], tensors={"weight": short})))
    content = trimfile.to_bytes(graph)
    (record,) = [record for record in spec_reader.split(content) if record.kind == 4]
    assert record.decoded == weight.size * bits // 8
    # Few weights have each number of float16, so their own frequencies are too good: 10 bits of a mantissa are nearly noise.
    exponents = order0_bytes((short.view(np.uint16) >> (10 if dtype == "float16" else 7)).astype(np.uint16))
    bound = exponents + weight.size * (10 if dtype == "float16" else 7) / 8
    assert record.stored <= 1.03 * bound


def changed(graph, name, **tensors):
    """The same with other tensors of a node; None takes one away."""
    nodes = [
        replace(
            node, tensors={k: v for k, v in {**node.tensors, **(tensors if node.name == name else {})}.items() if v is not None}
        )
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


LEAST = np.full((3, 5), -128, np.int8)


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        ("fc", {"weight_scale": None}, "weight_scale"),
        ("fc", {"weight": np.ones((3, 5), np.float32)}, "weight_scale|3 tensors"),
        ("fc", {"weight": LEAST}, "its weight holds -128"),
        ("fc", {"weight": np.ones((3, 5), np.uint8)}, "its weight is uint8"),
        ("fc", {"weight_scale": np.float32([1, 0, 1])}, "its weight_scale must be normal float32 above 0"),
        ("fc", {"weight_scale": np.full(3, 3e38, np.float32)}, "its weight times its weight_scale overflows float32"),
        ("conv1", {"weight": np.full((4, 3, 3, 3), np.inf, np.float16)}, "its weight holds NaN or infinity"),
        ("conv2", {"weight": np.full((5, 4, 1, 1), 0x7FC0, np.uint16)}, "its weight holds NaN or infinity"),
    ],
)
def test_weights_that_mean_nothing_are_refused_by_all(name, tensors, message):
    graph = changed(short_network(), name, **tensors)
    with pytest.raises(CorruptFile, match=message):
        validate(graph)
    content = native.write_trim(graph, provenance="", threads=1)
    with pytest.raises(CorruptFile, match=message):
        plan(graph)
    with pytest.raises(CorruptFile, match=message):
        trimfile.from_bytes(content)
    with pytest.raises(ValueError, match="record 0"):
        spec_reader.read(content)
