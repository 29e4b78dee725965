"""Weights that are all alike take next to no bytes, but as long as any others: they have a budget of their own."""

import time

import numpy as np
import pytest
import spec_reader
from trim_networks import linear

from paretrim import runtime, trimfile
from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.functions import pixel_table
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

BASE, PER_BYTE = 2**22, 2**8

HUGE = {"integers": np.full((1024, 2**13), 3, np.int8), "floats": np.full((512, 2**12), 0.5, np.float32)}
"""Eight megabytes of weights each, in files of some kilobytes."""


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_layer_of_one_value_is_loaded_if_the_limit_is_raised(monkeypatch, tmp_path, name):
    graph, path = linear(HUGE[name]), tmp_path / "a.trim"
    said = r"it would take 8388608 bytes of weights other than 0, but the limit for \d+ stored bytes is \d+; .*PARETRIM_LIMIT=2"
    with pytest.raises(UnsupportedOperation, match=f"readers would refuse the file of this network: {said}"):
        trimfile.write(graph, path)
    monkeypatch.setenv("PARETRIM_LIMIT", "2")
    trimfile.write(graph, path)
    assert path.stat().st_size < 20_000
    np.testing.assert_array_equal(trimfile.read(path).nodes[-1].tensors["weight"], HUGE[name])
    monkeypatch.delenv("PARETRIM_LIMIT")
    for load in (trimfile.read, trimfile.inspect, runtime.load):
        start = time.process_time()
        with pytest.raises(CorruptFile, match=rf"record \d \(weights \d\): {said}"):
            load(path)
        assert time.process_time() - start < 2
    assert runtime.load(path, measure=False, limit=2).output_shapes == ((len(HUGE[name]),),)


CODED = {
    "rich": (linear(np.tile(np.int8([3, 0, 0, -3]), (64, 64))), {1, 3}, 2 * 64 * 64),
    "floats": (linear(np.tile(np.float32([0.25, 0, -0.0]), (16, 100))), {0}, 2 * 4 * 1600),
    "frequencies": (linear(np.random.default_rng(1).integers(-127, 128, (64, 2**14)).astype(np.int8)), {2}, 0),
}


def graph_bytes(graph):
    return graph.nodes[-1].tensors["weight"].nbytes


def coding_of(content):
    return spec_reader.split(content)[-1].coding


@pytest.mark.parametrize("name", CODED)
def test_both_readers_count_the_same_weights(monkeypatch, name):
    graph, codings, counted = CODED[name]
    content = trimfile.to_bytes(graph, threads=1)
    assert coding_of(content) in codings
    seen = []
    if name != "frequencies":  # a million weights take the second reader long
        monkeypatch.setattr(spec_reader, "check_weights", lambda modelled, size: seen.append((modelled, size)))
        spec_reader.decode(content)
        assert seen[-1] == (counted, len(content))
    limit = max(counted, 1) / (BASE + PER_BYTE * len(content))
    native.read_trim(content, threads=1, limit=max(limit, 1) if name == "frequencies" else limit)
    if counted:
        with pytest.raises(CorruptFile, match=rf"it would take {graph_bytes(graph)} bytes of weights other than 0"):
            native.read_trim(content, threads=1, limit=0.9999 * limit)


def test_the_second_reader_has_the_same_limits():
    for check, said in (
        (spec_reader.check_weights, "bytes of weights other than 0"),
        (spec_reader.check_parameters, "bytes of parameters"),
    ):
        check(BASE + 10 * PER_BYTE, 10)
        with pytest.raises(ValueError, match=f"it would take {BASE + 10 * PER_BYTE + 1} {said}"):
            check(BASE + 10 * PER_BYTE + 1, 10)


def test_parameters_have_a_budget_of_their_own(monkeypatch):
    """Tables of five megabytes for pixels of so many channels."""
    channels, grid = 20_000, ("uint8", 0.0625, 128)
    spec = InputSpec((channels, 1, 1), (0.5,) * channels, (0.25,) * channels)
    kind = ValueType(spec.shape, *grid)
    table = pixel_table(spec, kind)
    table[::40, 100] += 1  # all as predicted would be too few bytes to be allowed
    nodes = (
        Node("q", "quantize", (INPUT,), kind, {}, {"table": table}),
        Node("flat", "flatten", ("q",), ValueType((channels,), *grid)),
        Node("end", "dequantize", ("flat",), ValueType((channels,))),
    )
    graph = Graph(spec, nodes, ("end",))
    with pytest.raises(UnsupportedOperation, match=r"it would take 5120000 bytes of parameters, .* set PARETRIM_LIMIT=2"):
        trimfile.to_bytes(graph)
    monkeypatch.setenv("PARETRIM_LIMIT", "2")
    content = trimfile.to_bytes(graph)
    monkeypatch.delenv("PARETRIM_LIMIT")
    with pytest.raises(CorruptFile, match=r"record 1 \(parameters\): it would take 5120000 bytes of parameters"):
        trimfile.from_bytes(content)
    assert trimfile.from_bytes(content, limit=2).graph.nodes[0].tensors["table"].shape == (channels, 256)
