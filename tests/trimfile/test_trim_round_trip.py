import hashlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from trim_networks import integers, linear, small
from trim_records import KNOWN

from paretrim import runtime, trimfile
from paretrim.errors import CorruptFile, OutOfSpace, UnsupportedOperation
from paretrim.graph import functions
from paretrim.graph.entropy import order0_bytes
from paretrim.graph.interpreter import run
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import ValueType
from paretrim.trimfile import Provenance

GOLDEN = Path(__file__).parent / "golden.trim"


def assert_same(one, other):
    """Equal bit for bit in everything a graph holds: the plain file of it is canonical."""
    assert plain_bytes(one) == plain_bytes(other)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans(), pixels=st.booleans(), heads=st.integers(1, 3))
def test_random_graphs_come_back(seed, quantized, pixels, heads):
    graph = random_graph(seed, quantized=quantized, pixels=pixels, heads=heads)[0]
    content = trimfile.to_bytes(graph)
    assert_same(trimfile.from_bytes(content).graph, graph)


def test_golden_file():
    """The bytes of version 2. They may change only together with the version, the specification and a reader of the old one."""
    assert trimfile.to_bytes(small(), KNOWN) == GOLDEN.read_bytes()
    found = trimfile.open_file(GOLDEN)
    assert_same(found.graph, small())
    assert found.provenance == KNOWN
    assert found.file_bytes == sum(found.record_bytes.values())


def test_threads_and_repetition_change_no_byte():
    weight = integers((1500, 2000), salt="threads", low=-4, high=4).astype(np.int8)
    files = [trimfile.to_bytes(linear(weight), threads=threads) for threads in (1, 3, 1)]
    assert len({hashlib.sha256(file).digest() for file in files}) == 1
    assert sum("weights" in name for name in trimfile.from_bytes(files[0]).record_bytes) == 4
    np.testing.assert_array_equal(trimfile.from_bytes(files[0], threads=5).graph.nodes[-1].tensors["weight"], weight)


ALPHABETS = {
    "zeros only": [0],
    "ternary": [-31, 0, 31],
    "int4": list(range(-8, 8)),
    "codebook 16": [-120, -90, -61, -40, -26, -15, -7, -3, 0, 4, 9, 17, 30, 47, 70, 127],
    "int8": list(range(-127, 128)),
}


@pytest.mark.parametrize("name", ALPHABETS)
def test_any_alphabet_takes_little_more_than_its_entropy(name):
    """Values without any order, where nothing can be saved: what learning the alphabet costs stays below 4 % and 300 bytes."""
    values = np.array(ALPHABETS[name], np.int8)
    weight = values[integers((64, 1024), salt=name, low=0, high=len(values) - 1)]
    found = trimfile.from_bytes(trimfile.to_bytes(linear(weight)))
    np.testing.assert_array_equal(found.graph.nodes[-1].tensors["weight"], weight)
    assert found.layer_bytes["fc", "weight"] < 1.04 * order0_bytes(weight) + 300


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_zeros_are_coded_near_the_bound(pattern):
    stream = np.random.default_rng(0)
    weight = np.clip(np.rint(stream.normal(0, 30, (512, 1024))), -127, 127).astype(np.int8)
    kept = stream.random((512, 1024) if pattern == "unstructured" else (512, 256)) < 0.1
    weight[~(kept if pattern == "unstructured" else kept.repeat(4, axis=1))] = 0
    size = trimfile.from_bytes(trimfile.to_bytes(linear(weight))).layer_bytes["fc", "weight"]
    # Where zeros lie in fours the order of single weights is worth far less than their frequencies say.
    assert size < order0_bytes(weight) * (1.005 if pattern == "unstructured" else 0.85)


def test_floats_come_back_bit_for_bit():
    bits = np.array([0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0x3F8CCCCD], np.uint32)
    weight = np.resize(bits.view(np.float32), (7, 33))
    found = trimfile.from_bytes(trimfile.to_bytes(linear(weight))).graph.nodes[-1].tensors["weight"]
    assert found.tobytes() == weight.tobytes()


@pytest.mark.parametrize(("kept", "most"), [(16, 0.5), (13, 0.6)])
def test_floats_of_half_the_precision_take_half_the_bytes(kept, most):
    """bfloat16 and float16 values held in float32: bits that are always 0 cost nothing."""
    weight = np.random.default_rng(1).normal(0, 0.05, (64, 256)).astype(np.float32)
    short = (weight.view(np.uint32) & np.uint32(0xFFFFFFFF << kept & 0xFFFFFFFF)).view(np.float32)
    size = trimfile.from_bytes(trimfile.to_bytes(linear(short))).layer_bytes["fc", "weight"]
    assert size < most * short.nbytes


def test_long_texts_numbers_and_extremes_survive():
    graph = small(classes=("x" * 4000, "é" * 500, ""))
    spec = replace(graph.input, mean=(0.1 + 0.2, 1 / 3, 1e-300))
    quantize = graph.nodes[0]
    node = replace(quantize, tensors={"table": functions.pixel_table(spec, quantize.type)})
    graph = replace(graph, input=spec, nodes=(node, *graph.nodes[1:]))
    assert_same(trimfile.from_bytes(trimfile.to_bytes(graph)).graph, graph)


def test_runs_straight_from_the_file(tmp_path):
    path = tmp_path / "a.trim"
    trimfile.write(small(), path)
    images = integers((5, 3, 4, 4), salt="images", low=0, high=255).astype(np.uint8)
    session = runtime.load(path, measure=False)
    np.testing.assert_array_equal(session(images), run(small(), images))
    assert session.class_names == ("cat", "dög", "a/../b")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.trim"
    trimfile.write(small(), path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutOfSpace, match="no space left"):
        trimfile.write(small(), path, KNOWN)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.trim"]


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_way(handle):
    os.ftruncate(handle, os.fstat(handle).st_size // 2)
    die()


@pytest.mark.parametrize(("function", "killer"), [("fsync", die_half_way), ("fsync", die), ("replace", die)])
def test_a_writer_that_is_killed_leaves_the_old_file(function, killer, tmp_path):
    path = tmp_path / "a.trim"
    trimfile.write(small(), path)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:  # the file aside is there, in part or whole, and the old one not yet replaced
        setattr(os, function, killer)
        trimfile.write(small(), path, KNOWN)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == before
    trimfile.write(small(), path, KNOWN)
    assert trimfile.open_file(path).provenance == KNOWN


def test_noise_is_read_at_once_and_takes_no_more():
    """Signs and low bits of a wide noise are raw; a model of them would only have to be learned."""
    weight = np.rint(np.random.default_rng(0).normal(0, 30, (300, 400))).clip(-127, 127).astype(np.int8)
    found = trimfile.from_bytes(trimfile.to_bytes(linear(weight)))
    np.testing.assert_array_equal(found.graph.nodes[-1].tensors["weight"], weight)
    assert next(iter(found.layer_bytes.values())) < 1.01 * order0_bytes(weight)
    structured = np.where(weight % 8 == 1, weight, 0).astype(np.int8)  # low bits that are worth a model
    found = trimfile.from_bytes(trimfile.to_bytes(linear(structured)))
    assert next(iter(found.layer_bytes.values())) < 1.02 * order0_bytes(structured)


def test_refuses_graphs_that_break_their_rules(tmp_path):
    graph = small()
    broken = replace(graph, nodes=(*graph.nodes[:-1], replace(graph.nodes[-1], type=ValueType((4,)))))
    with pytest.raises(CorruptFile, match="its type has shape"):
        trimfile.write(broken, tmp_path / "a.trim")
    with pytest.raises(UnsupportedOperation, match="threads is 0"):
        trimfile.write(graph, tmp_path / "a.trim", threads=0)
    with pytest.raises(CorruptFile, match="provenance: "):
        trimfile.write(graph, tmp_path / "a.trim", Provenance(measured={"x": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_inspection_adds_up(tmp_path):
    path = tmp_path / "a.trim"
    trimfile.write(small(), path, KNOWN)
    found = trimfile.inspect(path)
    assert [(layer.name, layer.shape, layer.format) for layer in found.layers] == [
        ("layer1.conv1", (6, 3, 3, 3), "int8"),
        ("fc", (3, 6), "int4"),
    ]
    weights = sum(size for name, size in found.records.items() if "weights" in name)
    assert sum(layer.bytes for layer in found.layers) == pytest.approx(weights, abs=8)
    assert found.file_bytes == path.stat().st_size == sum(found.records.values())
    assert found.layers[0].zeros == int((small().nodes[1].tensors["weight"] == 0).sum())
    assert found.provenance == KNOWN
