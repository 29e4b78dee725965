"""A file that was just written is decoded once, when it is opened, and compared with the graph that it was written from."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from trim_networks import linear, small

from paretrim import runtime, trimfile
from paretrim.errors import CorruptFile, OutOfSpace, UnsupportedOperation
from paretrim.graph.storage import save
from paretrim.runtime.compiled import native
from paretrim.trimfile import file

OTHER = "it does not decode to the network that it was written from; please report this"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans(), heads=st.integers(1, 3))
def test_a_session_of_a_known_network_is_that_of_its_file(tmp_path_factory, seed, quantized, heads):
    graph, images = random_graph(seed, quantized=quantized, heads=heads)
    path = tmp_path_factory.mktemp("known") / "a.trim"
    trimfile.write(graph, path, check_weights=False)
    assert path.read_bytes() == trimfile.to_bytes(graph)
    found = runtime.load(path, measure=False, known=graph)
    usual = runtime.load(path, measure=False)
    assert found.network.choices == usual.network.choices
    for one, other in zip(found.outputs(images), usual.outputs(images), strict=True):
        assert one.tobytes() == other.tobytes()


def floats(shape):
    return np.random.default_rng(0).normal(0, 0.05, shape).astype(np.float32)


WEIGHTS = {
    "integers": np.random.default_rng(0).integers(-9, 10, (300, 4096)).astype(np.int8),
    "floats by exponents": floats((300, 4096)),
    "few floats": floats((5, 7)),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("place", [0, 0.6, 1])
def test_one_other_weight_is_noticed(tmp_path, name, place):
    """Wherever it is; the large ones are spread over two records."""
    weight = WEIGHTS[name]
    path = tmp_path / "a.trim"
    graph, another = linear(weight), weight.copy()
    trimfile.write(graph, path)
    runtime.load(path, measure=False, known=graph)
    another.reshape(-1)[int(place * (weight.size - 1))] *= -1
    another.reshape(-1)[int(place * (weight.size - 1))] += weight.dtype == np.int8
    with pytest.raises(CorruptFile, match=rf"a\.trim': record \d \(weights {int(place > 0.5 and weight.size > 99)}\): {OTHER}"):
        runtime.load(path, measure=False, known=linear(another))


def test_other_parameters_and_another_structure_are_noticed(tmp_path):
    path, graph = tmp_path / "a.trim", small()
    trimfile.write(graph, path)
    runtime.load(path, measure=False, known=graph)
    *nodes, last = graph.nodes
    bias = last.tensors["bias"] + np.int32(1)
    others = [
        replace(graph, nodes=(*nodes, replace(last, tensors={**last.tensors, "bias": bias}))),
        replace(graph, nodes=(*nodes, replace(last, layer="head"))),
        replace(graph, classes=("a", "b", "c")),
    ]
    for other in others:
        with pytest.raises(CorruptFile, match=rf"a\.trim': {OTHER}"):
            runtime.load(path, measure=False, known=other)


def test_what_the_disk_changed_is_noticed(tmp_path):
    path, graph = tmp_path / "a.trim", linear(WEIGHTS["floats by exponents"])
    trimfile.write(graph, path, check_weights=False)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"record 3 \(weights 1\): its SHA-256 does not match"):
        runtime.load(path, measure=False, known=graph)


def test_only_trim_files_are_compared(tmp_path):
    save(small(), tmp_path / "a.graph")
    with pytest.raises(UnsupportedOperation, match=r"a\.graph' is no \.trim file; only one is compared with a known graph"):
        runtime.load(tmp_path / "a.graph", known=small())


def two_layers(first, second):
    """Two linear layers, the second of which reads the first."""
    one, other = linear(first), linear(second)
    *before, last = one.nodes
    following = replace(other.nodes[-1], name="second", inputs=(last.name,))
    return replace(one, nodes=(*before, last, following), outputs=("second",))


def mostly_zeros(weight):
    return np.where(np.arange(weight.size).reshape(weight.shape) % 4999 == 0, weight, weight.dtype.type(0))


LARGE, NEXT = floats((1600, 1200)), floats((1250, 1600))
FEW_BITS = (LARGE.view(np.uint32) & 0xFFF00000).view(np.float32)
UNLIKE_THE_FIRST = {
    "shorter lengths": (two_layers(LARGE, mostly_zeros(NEXT)), -1),
    "longer lengths": (two_layers(mostly_zeros(LARGE), NEXT), 1),
    "another version": (two_layers(FEW_BITS, NEXT), 1),
    "the same": (two_layers(LARGE, NEXT), 0),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", UNLIKE_THE_FIRST)
def test_records_unlike_the_first_are_moved_to_their_place(name, threads, tmp_path, monkeypatch):
    """Records are written before it is known how long the header is, which depends on all of them."""
    (graph, direction), path, moves = UNLIKE_THE_FIRST[name], tmp_path / "a.trim", [0]
    move = file._move

    def noted(aside, start, to):
        moves.append(to - start)
        move(aside, start, to)

    monkeypatch.setattr(file, "_move", noted)
    trimfile.write(graph, path, threads=threads, check_weights=threads == 1)
    assert path.read_bytes() == trimfile.to_bytes(graph)
    assert np.sign(moves[-1]) == direction


@pytest.mark.parametrize("at_once", [1, 3, 4, 100])
@pytest.mark.parametrize("to", [0, 1, 4, 7, 30])
def test_the_rest_of_a_file_is_moved(at_once, to, monkeypatch):
    monkeypatch.setattr(file, "MOVED_AT_ONCE", at_once)
    whole = bytes(range(14))
    content = io.BytesIO(whole)
    file._move(content, 4, to)
    assert content.getvalue()[to:] == whole[4:]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_a_disk_that_is_full_while_records_are_written(tmp_path, monkeypatch, threads, fails_at):
    """No thread waits for a record that never comes, and nothing is left behind."""
    puts, real = [], native.write_trim_records

    def failing(graph, put, **settings):
        def sometimes(at, content):
            puts.append(at)
            if len(puts) > fails_at:
                raise OSError(28, "No space left on device")
            put(at, content)

        return real(graph, sometimes, **settings)

    monkeypatch.setattr(native, "write_trim_records", failing)
    with pytest.raises(OutOfSpace, match="no space left"):
        trimfile.write(two_layers(floats((2000, 1200)), floats((1000, 2000))), tmp_path / "a.trim", threads=threads)
    assert len(puts) == fails_at + 1
    assert list(tmp_path.iterdir()) == []
