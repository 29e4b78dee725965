"""``SPEC.md`` is enough to read a file: the reader that was written from it alone gives the same graphs as the native one."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import spec_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from test_trim_round_trip import HISTORY, KNOWN
from test_trim_safety import join, split
from trim_networks import integers, linear, small

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.machine import native

HERE = Path(__file__).parent
GOLDEN, GOLDEN_FREQUENCIES = HERE / "golden.trim", HERE / "golden-frequencies.trim"
GOLDEN_OUTPUTS = HERE / "golden-outputs.trim"
PLAIN, RICH, FREQUENCIES, TABLES = range(4)


def assert_read_alike(content):
    """Equal bit for bit: the plain file of a graph is canonical."""
    found = spec_reader.read(content)
    assert plain_bytes(found.graph) == plain_bytes(trimfile.from_bytes(content).graph)
    return found


def codings(content):
    return [record[3][0] for record in split(content) if record[0] == 4]


@pytest.mark.parametrize("path", [GOLDEN, GOLDEN_FREQUENCIES, GOLDEN_OUTPUTS], ids=lambda path: path.stem)
def test_golden_files(path):
    assert_read_alike(path.read_bytes())


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


def chain(*weights, scales=None, biases=None):
    """int8 convolutions, then linear layers, one behind the other."""
    spec = InputSpec((weights[0].shape[1], 5, 5) if weights[0].ndim == 4 else (weights[0].shape[1], 1, 1))
    nodes = [Node("q", "quantize", (INPUT,), ValueType(spec.shape, "uint8", 0.0625, 128))]

    def add(name, op, kind, attributes=None, tensors=None):
        nodes.append(Node(name, op, (nodes[-1].name,), kind, attributes or {}, tensors or {}))

    def flatten():
        kind = nodes[-1].type
        if len(kind.shape) == 3:
            pooled = replace(kind, shape=(kind.shape[0], 1, 1))
            add("pool", "adaptive_avg_pool", pooled, {"output_size": (1, 1)})
            add("flat", "flatten", replace(kind, shape=kind.shape[:1]))

    for index, weight in enumerate(weights):
        if weight.ndim == 2:
            flatten()
        rows, size = weight.shape[0], nodes[-1].type.shape[1:]
        scale = np.full(rows, 0.01, np.float32) if scales is None else scales[index]
        bias = np.zeros(rows, np.int32) if biases is None else biases[index]
        attributes = {"padding": (weight.shape[2] // 2, weight.shape[3] // 2) * 2} if weight.ndim == 4 else {}
        tensors = {"weight": weight, "weight_scale": scale, "bias": bias}
        op = "conv2d" if weight.ndim == 4 else "linear"
        add(f"layer{index}", op, ValueType((rows, *size), "uint8", 0.0625, 3), attributes, tensors)
    flatten()
    add("real", "dequantize", ValueType(nodes[-1].type.shape))
    return Graph(spec, tuple(nodes), ("real",))


def without_blocks(values, *, kept=1.0, block=1):
    """int8 of which only some aligned blocks of channels are left."""
    shape = values.shape
    left = np.random.default_rng(1).random((shape[0], -(-shape[1] // block), *shape[2:])) < kept
    return (np.rint(values).clip(-127, 127) * left.repeat(block, axis=1)[:, : shape[1]]).astype(np.int8)


def noise(shape, *, width=20):
    random = np.random.default_rng(5)
    return random.normal(0, 1, shape) * random.uniform(width / 2, 2 * width, (shape[0],) + (1,) * (len(shape) - 1))


def smooth(shape):
    """Kernels whose neighbouring values are alike, so that signs and magnitudes have something to go by."""
    return np.random.default_rng(6).normal(0, 8, shape).cumsum(2).cumsum(3)


def one_of(values, shape):
    return np.random.default_rng(7).choice(values, shape)


TERNARY, INT4 = (-31, 0, 31), range(-8, 8)
CODEBOOK = (-120, -90, -61, -40, -26, -15, -7, -3, 0, 4, 9, 17, 30, 47, 70, 127)


def eights(shape):
    """Zeros in aligned blocks of eight, which only masks know of."""
    return without_blocks(one_of((-2, -1, 1, 2), shape), kept=0.2, block=8)


CASES = {
    "zeros": (PLAIN, [np.zeros((9, 30), np.int8)]),
    "single": (PLAIN, [np.array([[1, 0, 0, 0, -2, 0, 0]], np.int8)]),
    "noise": (PLAIN, [without_blocks(noise((80, 200), width=30))]),
    "large codebook": (PLAIN, [without_blocks(one_of(CODEBOOK, (530, 1000)), kept=0.02, block=4)]),
    "large, three layers": (
        PLAIN,
        [
            without_blocks(smooth((256, 240, 3, 3)), kept=0.02, block=4),
            without_blocks(smooth((256, 256, 1, 1)), kept=0.05, block=4),
            without_blocks(one_of(CODEBOOK, (100, 256)), kept=0.05, block=4),
        ],
    ),
    "unstructured": (RICH, [without_blocks(noise((24, 42)), kept=0.2)]),
    "1x4": (RICH, [without_blocks(noise((24, 42)), kept=0.2, block=4)]),
    "1x4, three layers": (
        RICH,
        [
            without_blocks(noise((16, 22, 3, 3)), kept=0.2, block=4),
            without_blocks(noise((24, 16, 3, 3)), kept=0.3, block=4),
            without_blocks(noise((10, 24))),
        ],
    ),
    "smooth": (RICH, [without_blocks(smooth((16, 14, 3, 3)))]),
    "smooth 5x5": (RICH, [without_blocks(smooth((16, 14, 5, 5)), kept=0.4, block=4), without_blocks(noise((17, 16, 1, 1)))]),
    "ternary": (RICH, [without_blocks(one_of(TERNARY, (30, 50)))]),
    "int4": (RICH, [without_blocks(one_of(INT4, (30, 50)))]),
    "int4 1x4": (RICH, [without_blocks(one_of(INT4, (60, 300)), kept=0.3, block=4)]),
    "codebook": (TABLES, [without_blocks(one_of(CODEBOOK, (16, 12, 3, 3)))]),
    "codebook 1x4": (TABLES, [without_blocks(one_of(CODEBOOK, (30, 50)), kept=0.3, block=4)]),
    "wide": (RICH, [without_blocks(one_of((-5, 3), (4, 66001)) * (np.arange(66001) % 16384 < 100))]),
    "eights": (FREQUENCIES, [eights((16, 475))]),
    "eights, three layers": (FREQUENCIES, [eights((20, 61, 3, 3)), eights((40, 20, 1, 1)), eights((9, 40))]),
    "many kinds": (FREQUENCIES, [without_blocks(noise((600, 1003)), kept=0.1, block=8)]),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_of_every_coding(name):
    coding, weights = CASES[name]
    content = trimfile.to_bytes(chain(*weights))
    assert codings(content) == [coding]
    assert_read_alike(content)


def test_the_cases_drive_every_flag(monkeypatch):
    """Of both models; the cases would show nothing of what no file of theirs says."""
    plans, plan = [], spec_reader.Plan
    monkeypatch.setattr(spec_reader, "Plan", lambda *fields: plans.append(plan(*fields)) or plans[-1])
    for wanted in (PLAIN, RICH):
        plans.clear()
        for coding, weights in CASES.values():
            if coding == wanted and sum(weight.size for weight in weights) < 30000:
                spec_reader.read(trimfile.to_bytes(chain(*weights)))
        flags = {(name, bool(getattr(found, name))) for found in plans for name in ("blocks", "sided", "low", "raw_signs")}
        assert len(flags) == (8 if wanted == RICH else 7)  # low bits without a model are always worth it where plain was shorter


def test_rows_whose_scales_tell_their_smallest_values():
    """Pruning by magnitude, in two records, so that the second begins within the layer."""
    random = np.random.default_rng(8)
    scales = random.uniform(0.002, 0.02, 1100).astype(np.float32)
    real = one_of((-0.35, -0.2, 0.15, 0.3), (1100, 1000))
    weight = without_blocks(real / scales[:, None], kept=0.01, block=4)
    content = trimfile.to_bytes(chain(weight, scales=[scales]))
    assert len(codings(content)) == 2
    assert FREQUENCIES not in codings(content)
    assert_read_alike(content)


@pytest.mark.parametrize("kept", [32, 16, 13])
def test_float_weights(kept):
    weight = np.random.default_rng(1).normal(0, 0.05, (20, 60)).astype(np.float32)
    weight[:, 5:9] = 0
    short = (weight.view(np.uint32) & np.uint32(0xFFFFFFFF << 32 - kept & 0xFFFFFFFF)).view(np.float32)
    assert_read_alike(trimfile.to_bytes(linear(short)))


def test_extreme_floats():
    bits = np.array([0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0x3F8CCCCD], np.uint32)
    assert_read_alike(trimfile.to_bytes(linear(np.resize(bits.view(np.float32), (7, 33)))))


def trained_layers():
    """The kernels of the pretrained ResNet-20, one behind the other."""
    for parent in HERE.parents:
        path = parent / "shared" / "data" / "models" / "cifar10_resnet20.safetensors"
        if path.is_file():
            tensors = safetensors.numpy.load_file(path)
            blocks = [f"layer{layer}.{block}.conv{conv}" for layer in (1, 2, 3) for block in (0, 1, 2) for conv in (1, 2)]
            return [tensors[f"{name}.weight"] for name in ("conv1", *blocks)]
    return pytest.skip("there is no shared/data beside the checkout")


def without_weak_blocks(weight, kept):
    """The strongest blocks of four channels alone."""
    blocks = weight.reshape(len(weight), -1, 4, 3, 3)
    strength = np.abs(blocks).sum(2, keepdims=True)
    return (blocks * (strength > np.quantile(strength, 1 - kept))).reshape(weight.shape)


@pytest.mark.parametrize(("layers", "kept"), [(4, 1.0), (19, 0.1)])
def test_trained_layers_as_they_are_deployed(layers, kept):
    """Quantized with plain scales, biases in multiples, and, pruned, zeros in blocks by magnitude."""
    weights, scales, biases = [], [], []
    for layer, weight in enumerate(trained_layers()[:layers]):
        if layer and kept < 1:
            weight = without_weak_blocks(weight, kept)
        fraction, exponent = np.frexp(np.abs(weight).reshape(len(weight), -1).max(1).clip(1e-3) / 127)
        scale = np.ldexp(np.ceil(fraction * 64) / 64, exponent).astype(np.float32)
        shift = np.clip(-3 - np.frexp(scale)[1], 0, 31)
        weights.append(np.rint(weight / scale.reshape(-1, 1, 1, 1)).astype(np.int8))
        scales.append(scale)
        biases.append((integers((len(weight),), salt=f"bias {layer}", low=-99, high=99) << shift).astype(np.int32))
    assert_read_alike(trimfile.to_bytes(chain(*weights, scales=scales, biases=biases), KNOWN))


def parts_of_native(content):
    """All that the native reader finds in a file, whatever the graph computes."""
    (spec, nodes, outputs, classes), *_ = native.read_trim(content, threads=1, checked=False)
    return repr((spec, [(*node[:4], dict(node[4]), bits_of(node[5]), node[6]) for node in nodes], outputs, classes))


def parts_of_second(content):
    graph = spec_reader.decode(content).graph
    nodes = [
        (
            node.name,
            node.op,
            node.inputs,
            dataclasses.astuple(node.type),
            dict(node.attributes),
            bits_of(node.tensors),
            node.layer,
        )
        for node in graph.nodes
    ]
    return repr((dataclasses.astuple(graph.input), nodes, graph.outputs, graph.classes))


def bits_of(tensors):
    return {name: (tensor.dtype.name, tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()}


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
def test_lying_tables_are_refused(index, part, value):
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
