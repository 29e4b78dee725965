import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Builder, random_graph
from safetensors import safe_open

from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph import storage
from paretrim.graph.interpreter import run
from paretrim.graph.storage import from_bytes, load, save, to_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


def same(first, second):
    assert (first.input, first.output, first.classes) == (second.input, second.output, second.classes)
    for a, b in zip(first.nodes, second.nodes, strict=True):
        assert (a.name, a.op, a.inputs, a.type, a.layer, dict(a.attributes)) == (
            b.name,
            b.op,
            b.inputs,
            b.type,
            b.layer,
            dict(b.attributes),
        )
        assert sorted(a.tensors) == sorted(b.tensors)
        for name in a.tensors:
            assert a.tensors[name].dtype == b.tensors[name].dtype
            np.testing.assert_array_equal(a.tensors[name], b.tensors[name])


def small():
    b = Builder(np.random.default_rng(0), quantized=True, shape=(1, 2, 2), pixels=False)
    return b.graph(b.linear(b.simple("flatten", [b.start()]), 2, logits=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_round_trip(seed, quantized):
    graph, images = random_graph(seed, quantized=quantized)
    content = to_bytes(graph)
    again = from_bytes(content)
    same(graph, again)
    assert to_bytes(again) == content
    np.testing.assert_array_equal(run(again, images), run(graph, images))


def test_file_is_safetensors(tmp_path):
    graph = small()
    save(graph, tmp_path / "a.graph")
    same(load(tmp_path / "a.graph"), graph)
    with safe_open(tmp_path / "a.graph", "numpy") as file:
        assert sorted(file.keys()) == ["linear_2/bias", "linear_2/weight", "linear_2/weight_scale"]
        assert json.loads(file.metadata()["graph"])["output"] == "linear_2"


def test_bytes_of_a_small_file_are_fixed():
    """A change of format must be deliberate: raise FORMAT and keep reading the old one."""
    weight = {"weight": np.array([[1, 0], [-2, 127]], np.float32), "bias": np.array([0.5, -1], np.float32)}
    nodes = (
        Node("flat", "flatten", (INPUT,), ValueType((2,))),
        Node("fc", "linear", ("flat",), ValueType((2,)), {}, weight, "head.fc"),
    )
    content = to_bytes(Graph(InputSpec((1, 1, 2)), nodes, ("fc",), ("cat", "dog")))
    assert hashlib.sha256(content).hexdigest() == GOLDEN


GOLDEN = "ca830573293f278591d651f6332d11d7dbf83d76575761f203cb40afa1d8545f"


def test_every_changed_byte_and_every_truncation_is_detected():
    content = to_bytes(small())
    for position in range(len(content)):
        for flip in (1, 32, 255):
            damaged = bytearray(content)
            damaged[position] ^= flip
            with pytest.raises(CorruptFile):
                from_bytes(bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(CorruptFile):
            from_bytes(content[:length])
    with pytest.raises(CorruptFile, match="SHA-256 does not match"):
        from_bytes(content + b"\0")


def forge(change=None, *, header_change=None, text=None, body=None):
    """A file with a valid digest that our writer did not write."""
    content = to_bytes(small())
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :] if body is None else body
    structure = json.loads(header["__metadata__"]["graph"])
    if change:
        change(structure)
    header["__metadata__"]["graph"] = json.dumps(structure) if text is None else text
    header["__metadata__"]["sha256"] = "0" * 64
    if header_change:
        header_change(header)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    forged = len(head).to_bytes(8, "little") + head + data
    return forged.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + hashlib.sha256(forged).hexdigest().encode())


def test_forged_file_without_changes_is_read():
    same(from_bytes(forge()), small())


def setter(*path):
    """A change that sets the value at a path of keys."""

    def change(structure):
        *keys, last, value = path
        for key in keys:
            structure = structure[key]
        structure[last] = value

    return change


def drop_tensor(header):
    header["linear_2/bias"]["data_offsets"] = [0, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "it has 0 bytes and is cut off before its header"),
        (lambda: b"\xff" * 64, r"its header claims \d+ bytes of a file of 64"),
        (lambda: (8).to_bytes(8, "little") + b"{}      ", "its header does not hold exactly one SHA-256"),
        (lambda: forge(header_change=setter("__metadata__", "format", "3")), "it has format '3' and this version reads 1 and 2"),
        (
            lambda: forge(header_change=setter("__metadata__", "more", "x")),
            r"its metadata has the keys \['format', 'graph', 'more'",
        ),
        (lambda: forge(header_change=setter("__metadata__", "format", 1)), "its header has no metadata"),
        (lambda: forge(header_change=drop_tensor), "its tensors cannot be read"),
        (lambda: forge(body=b""), "its tensors cannot be read"),
        (lambda: forge(text="[" * 100_000), "its structure is not valid JSON"),
        (lambda: forge(text="{"), "its structure is not valid JSON"),
        (lambda: forge(text='{"input": NaN}'), "its structure holds NaN"),
        (lambda: forge(text='{"a": 1, "a": 2}'), "its structure repeats a key"),
        (lambda: forge(text="[]"), "the structure is list; it must have exactly"),
        (lambda: forge(setter("extra", 1)), "the structure is .*'extra'.*; it must have exactly"),
        (lambda: forge(setter("nodes", 0, "type", "dtype", "int4")), "node 'quantize_0': its dtype is 'int4'"),
        (lambda: forge(setter("nodes", 0, "type", "scale", "1")), "the scale: '1' is given where a number"),
        (lambda: forge(setter("nodes", 0, "type", "zero_point", 1.5)), "the zero point: 1.5 is given where an integer"),
        (lambda: forge(setter("nodes", 0, "attributes", [])), "node 'quantize_0': attributes are list, not an object"),
        (lambda: forge(setter("nodes", 0, "attributes", {"lo": None})), "attribute 'lo': NoneType is given where a list"),
        (lambda: forge(setter("nodes", 0, "attributes", {"lo": 1})), "quantize has unknown attributes"),
        (lambda: forge(setter("nodes", 0, "op", "exec")), "has operation 'exec'; known are"),
        (lambda: forge(setter("nodes", 0, "inputs", ["ghost"])), r"reads \['ghost'\], which no earlier node produces"),
        (lambda: forge(setter("nodes", 0, "layer", 3)), "the layer: 3 is given where a string"),
        (
            lambda: forge(setter("nodes", 2, "name", "../../etc/passwd")),
            r"it lists the tensors \['bias', 'weight', 'weight_scale'\]",
        ),
        (lambda: forge(lambda s: s["nodes"].pop()), r"it has tensors of nodes that do not exist: \['linear_2'\]"),
        (lambda: forge(setter("input", "shape", [10**9, 10**9, 10**9])), "fit int32"),
        (
            lambda: forge(header_change=lambda h: h.update({"x": h.pop("linear_2/bias")})),
            "its tensor 'x' is int32; tensors are named",
        ),
        (lambda: forge(header_change=lambda h: h["linear_2/bias"].update(dtype="U32")), "its tensor 'linear_2/bias' is uint32"),
    ],
)
def test_errors_in_files_are_named(content, message):
    with pytest.raises(CorruptFile, match=message):
        from_bytes(content())


def test_missing_and_huge_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(CorruptFile, match=r"graph file '.*none': it cannot be read: No such file"):
        load(tmp_path / "none")
    save(small(), tmp_path / "a")
    monkeypatch.setattr(storage, "LARGEST_FILE", 10)
    with pytest.raises(CorruptFile, match="a graph file has at most 10"):
        load(tmp_path / "a")


def test_an_invalid_graph_is_not_written(tmp_path):
    graph = small()
    broken = replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], op="relu"), graph.nodes[2]))
    with pytest.raises((CorruptFile, UnsupportedOperation), match="node 'flatten_1'"):
        save(broken, tmp_path / "a")
    assert not list(tmp_path.iterdir())
