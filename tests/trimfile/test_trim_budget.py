"""Small files that would decode to gigabytes or run for minutes: both readers reject them at once and accept real networks."""

import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import spec_reader
from forging import INT8, file_of, network, node, text, weighted
from trim_networks import linear
from trim_records import join, number, split

from paretrim import runtime, trimfile
from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

ONE = (1, 1)


def op(name, inputs, shape, **rest):
    return partial(node, op=name, inputs=inputs, shape=shape, **rest)


def classifier(channels, after, *, outputs=2, height=1, features=0):
    """``quantize``, what is given, and a classifier of ``features`` (as many as channels, where none are given)."""
    last, features = len(after) + 1, features or channels
    return (
        op("quantize", (0,), (channels, height, height)),
        *after,
        op("adaptive_avg_pool", (last,), (features, 1, 1), attributes={"output_size": ONE}),
        op("flatten", (last + 1,), (features,)),
        op("linear", (last + 2,), (outputs,), real=True, tensors=weighted(outputs, features)),
    )


def forged(channels, *after, outputs=2, height=1, small=0, features=0):
    nodes = classifier(channels, after, outputs=outputs, height=height, features=features)
    return file_of(
        network((channels, height, height), *nodes),
        small_bytes=8 * outputs + small,
        rows=outputs,
        weight_bytes=outputs * (features or channels),
        weights=b"\2\5" + bytes(range(1, 251)) * 36,
    )


def doubling(times):
    """Concatenations of a value with itself, the last of which is the output."""
    nodes = [op("concat", (index + 1, index + 1), (2 ** (index + 1), 1, 1)) for index in range(times)]
    last = op("flatten", (times + 1,), (2**times,)), op("dequantize", (times + 2,), (2**times,), real=True)
    return file_of(network((1, 1, 1), op("quantize", (0,), (1, 1, 1)), *nodes, *last))


def many_nodes(count):
    nodes = [op("relu", (index + 1,), (1, 1, 1)) for index in range(count)]
    return file_of(
        network(
            (1, 1, 1),
            op("quantize", (0,), (1, 1, 1)),
            *nodes,
            op("flatten", (count + 1,), (1,)),
            op("dequantize", (count + 2,), (1,), real=True),
        )
    )


def long_names(count):
    """Nodes that repeat all but the end of the name before, 4,096 bytes, in the names of their layers too."""
    start = bytes([2, 2 | 8 | 16]) + b"\0" + text("a" * 4096) + number(4090) + text("b") + b"\0\0"
    nodes = [start]
    for index in range(1, count):
        end = f"{index:06d}".encode()
        nodes.append(bytes([2, 2 | 8 | 16]) + number(4090) + number(6) + end + number(4090) + text("b") + b"\0\0")
    return b"\3\1\1\1\0\0" + number(count) + b"".join(nodes) + number(count) + b"\0"


LARGE_MAP = op("adaptive_avg_pool", (1,), (1, 46340, 46340), attributes={"output_size": (46340, 46340)})
PADDED = op("pad", (1,), (2**22, 1, 1), attributes={"before": (0, 0, 0), "after": (2**22 - 1, 0, 0)})
WIDE = op("conv2d", (1,), (64, 500, 500), tensors=weighted(64, 64, 31, 31), attributes={"padding": (15, 15, 15, 15)})

BOMBS = {
    "long names": (
        file_of(long_names(3000)),
        r"node \d{4}: names have over 2(\*\*|\^)24 bytes",
    ),
    "a gigabyte of weights": (
        forged(2**20, outputs=2**10),
        r"it would take 1\d{9} bytes of weights and tables, but the limit for \d+ stored bytes is \d+; "
        r"if you trust the file, load it with limit=(\d+), or set PARETRIM_LIMIT=\1$",
    ),
    "a map of two gigabytes": (
        forged(1, LARGE_MAP),
        r"it would take 8589\d+ bytes of values at once, .* limit=32, or set PARETRIM_LIMIT=32",
    ),
    "many channels": (forged(1, PADDED, features=2**22), r"it would take \d+ bytes of weights and tables"),
    "doubled channels": (doubling(27), r"it would take \d+ bytes of"),
    "many nodes": (many_nodes(12000), "it would take 24006 nodes and inputs"),
    "a slow convolution": (
        forged(64, WIDE, height=500, small=64 * 8),
        r"it would take 98\d+ multiply-adds for one image",
    ),
    "more zeros than the largest networks have": (
        file_of(
            network((2**14, 1, 1), *classifier(2**14, (), outputs=2**14 + 1)),
            small_bytes=8 * (2**14 + 1),
            rows=2**14 + 1,
            weight_bytes=2**28 + 2**14,
            weights=b"\2\5" + bytes(range(1, 251)) * 600,
        ),
        r"it would take 2684\d+ numbers in weights and tables, but the limit for \d+ stored bytes is 268435456; .* limit=2,",
    ),
    "a tensor that no operation has": (
        file_of(
            network(
                (1, 1, 1),
                op("quantize", (0,), (1, 1, 1), tensors={"spare": (INT8, (2**13, 2**13))}),
                op("flatten", (1,), (1,)),
                op("dequantize", (2,), (1,), real=True),
            ),
            rows=2**13,
            weight_bytes=2**26,
            weights=b"\1" + bytes(range(1, 251)) * 4,
        ),
        r"node 'n1' .*: it has 1 tensors; it must have 0",
    ),
}

LIMIT = 2
"""What 64 million weights of few bytes take."""

PROGRAM = """
import resource, sys, time
sys.path[:0] = {path!r}
from paretrim import runtime, trimfile
from paretrim.errors import CorruptFile
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
for load in (runtime.load, trimfile.read):
    try:
        load({file!r})
    except CorruptFile as error:
        print(error)
    else:
        print("it was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_neither_memory_nor_time(tmp_path, name):
    content, message = BOMBS[name]
    path = tmp_path / "a.trim"
    path.write_bytes(content)
    program = PROGRAM.format(path=sys.path, file=str(path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second, spent = done.stdout.splitlines()
    kilobytes, seconds = spent.split()
    assert int(kilobytes) < 64 * 1024
    assert float(seconds) < 0.5
    for said in (first, second):
        with pytest.raises(CorruptFile, match=message):
            raise CorruptFile(said)
    with pytest.raises(ValueError, match=r"^record 0 \(structure\)"):
        spec_reader.read(content)


def test_the_limit_is_raised_where_it_is_asked_for(monkeypatch, tmp_path):
    content = forged(2**16, outputs=2**10)
    (tmp_path / "a.trim").write_bytes(content)
    loads = {
        "limit=": lambda **more: trimfile.from_bytes(content, **more),
        "file": lambda **more: trimfile.read(tmp_path / "a.trim", **more),
        "inspect": lambda **more: trimfile.inspect(tmp_path / "a.trim", **more),
        "load": lambda **more: runtime.load(tmp_path / "a.trim", **more),
    }
    for load in loads.values():
        with pytest.raises(CorruptFile, match=f"load it with limit={LIMIT}, or set PARETRIM_LIMIT={LIMIT}"):
            load()
        with pytest.raises(CorruptFile, match=f"load it with limit={LIMIT}"):
            load(limit=1.1)
        for wrong in (0, -1, float("nan"), "2", True):
            with pytest.raises(UnsupportedOperation, match=f"limit is {wrong!r}; it must be a number above 0"):
                load(limit=wrong)
    # A file within the budget fails with another error: its parameters, all zeros, are no scales, or its symbols end.
    with pytest.raises(CorruptFile, match=r"record 2 \(weights 0\): "):
        loads["limit="](limit=LIMIT)
    monkeypatch.setenv("PARETRIM_LIMIT", str(LIMIT))
    with pytest.raises(CorruptFile, match=r"record 2 \(weights 0\): "):
        loads["load"]()
    monkeypatch.setenv("PARETRIM_LIMIT", "much")
    with pytest.raises(UnsupportedOperation, match="PARETRIM_LIMIT is 'much'; it must be a number above 0"):
        loads["load"]()


def test_text_has_a_budget_of_its_own():
    content = file_of(network((1, 1, 1), op("quantize", (0,), (1, 1, 1)), op("flatten", (1,), (1,)),
                              op("dequantize", (2,), (1,), real=True)))  # fmt: skip
    records = split(content)
    records.insert(1, [2, 0, 2**20, b"\1" + bytes(range(1, 101))])
    for read in (trimfile.from_bytes, spec_reader.read):
        with pytest.raises((CorruptFile, ValueError), match=r"it would take 1048576 bytes of text"):
            read(join(records))


def test_a_stream_that_is_read_past_its_end_is_refused_at_once():
    """Of 16 million weights some hundred are there."""
    structure = network((4096, 1, 1), *classifier(4096, (), outputs=4000))
    for coding, said in ((0, "its coded stream ends before its values do"), (1, "its coded stream ends before its values do")):
        content = file_of(
            structure, small_bytes=32000, rows=4000, weight_bytes=4000 * 4096, weights=bytes([coding]) + bytes(range(1, 200))
        )
        start = time.process_time()
        with pytest.raises(CorruptFile, match=said):
            trimfile.from_bytes(content)
        assert time.process_time() - start < 0.5
        with pytest.raises(ValueError, match=said):
            spec_reader.read(content)


@pytest.mark.parametrize("zeros", [0.9, 0.99, 0.999, 0.9999, 1.0])
def test_sparse_networks_load_and_leave_room(zeros):
    random = np.random.default_rng(3)
    weight = random.integers(-127, 128, (512, 4608)).astype(np.int8)
    weight[random.random(weight.shape) < zeros] = 0
    content = trimfile.to_bytes(linear(weight))
    np.testing.assert_array_equal(trimfile.from_bytes(content).graph.nodes[-1].tensors["weight"], weight)
    assert native.plan_trim(content, threads=1, instruction_set="", measure=False, choices="").output_shapes == ((512,),)
    if zeros <= 0.999:  # a network of any size of such layers stays within what its bytes allow
        assert 4 * weight.size < 2**11 * len(content)


def large_maps():
    """Images of 64 MB, and five maps of 16 MB each."""
    shape, grid = (4, 2048, 2048), ("uint8", 0.0625, 128)
    maps = [Node(f"relu{index}", "relu", (f"relu{index - 1}" if index else "q",), ValueType(shape, *grid)) for index in range(4)]
    nodes = (
        Node("q", "quantize", (INPUT,), ValueType(shape, *grid)),
        *maps,
        Node("pool", "adaptive_avg_pool", ("relu3",), ValueType((4, 1, 1), *grid), {"output_size": ONE}),
        Node("flat", "flatten", ("pool",), ValueType((4,), *grid)),
        Node("end", "dequantize", ("flat",), ValueType((4,))),
    )
    return Graph(InputSpec(shape), nodes, ("end",))


@pytest.mark.parametrize(
    ("graph", "limit", "what"),
    [
        (linear(np.zeros((64, 2**14), np.int8)), 0.01, "bytes of weights and tables"),
        (linear(np.zeros((64, 2**14), np.int8)), 1e-5, "bytes of text"),
        (large_maps(), 0.01, "bytes of values at once"),
    ],
)
def test_a_file_that_readers_would_refuse_is_not_written(monkeypatch, tmp_path, graph, limit, what):
    monkeypatch.setenv("PARETRIM_LIMIT", str(limit))
    said = rf"readers would refuse the file of this network: .* it would take \d+ {what}, .*; set PARETRIM_LIMIT=1 in the "
    with pytest.raises(UnsupportedOperation, match=said):
        trimfile.write(graph, tmp_path / "a.trim")
    assert not (tmp_path / "a.trim").exists()
    monkeypatch.setenv("PARETRIM_LIMIT", "1")
    trimfile.write(graph, tmp_path / "a.trim")
    trimfile.read(tmp_path / "a.trim")


def real_network(layers, size, side):
    """A file of so many bytes whose convolutions, with so many channels on maps of a height, are those of a real network."""
    nodes = [op("quantize", (0,), (3, side, side))]
    count = small = rows = weight_bytes = 0
    before, height = 3, side
    for outputs, maps, kernel, repeats in layers:
        for _ in range(repeats):
            stride = height // maps
            pad = kernel // 2
            settings = {"stride": (stride, stride), "padding": (pad, pad, pad, pad)}
            tensors = weighted(outputs, before, kernel, kernel)
            nodes.append(op("conv2d", (len(nodes),), (outputs, maps, maps), attributes=settings, tensors=tensors))
            small, rows, weight_bytes = small + 8 * outputs, rows + outputs, weight_bytes + outputs * before * kernel**2
            before, height, count = outputs, maps, count + 1
    last = len(nodes)
    nodes += [
        op("adaptive_avg_pool", (last,), (before, 1, 1), attributes={"output_size": ONE}),
        op("flatten", (last + 1,), (before,)),
        op("dequantize", (last + 2,), (before,), real=True),
    ]
    junk = np.random.default_rng(0).integers(1, 256, size, dtype=np.uint8).tobytes()
    return file_of(
        network((3, side, side), *nodes), small_bytes=small, rows=rows, weight_bytes=weight_bytes, weights=b"\2\5" + junk
    )


VGG_16 = [(64, 224, 3, 2), (128, 112, 3, 2), (256, 56, 3, 3), (512, 28, 3, 3), (512, 14, 3, 3), (4096, 2, 7, 1), (4096, 2, 1, 1)]
WIDE_MAPS = [
    (32, 300, 3, 1),
    (192, 300, 1, 1),
    (48, 150, 3, 1),
    (288, 150, 3, 4),
    (480, 75, 3, 5),
    (960, 25, 1, 20),
    (2560, 5, 1, 30),
]


@pytest.mark.parametrize(("layers", "side", "size"), [(VGG_16, 224, 180_000), (WIDE_MAPS, 600, 900_000)])
def test_large_networks_of_which_a_thousandth_is_left_are_within_the_budget(layers, side, size):
    with pytest.raises(CorruptFile) as caught:
        trimfile.from_bytes(real_network(layers, size, side))
    assert "it would take" not in str(caught.value)
    assert "record 2 (weights 0)" in str(caught.value)


def test_ctrl_c_interrupts_the_decoding_of_weights():
    """Random bytes are the weights of some network, up to the end of their stream."""
    structure = network((2000, 1, 1), *classifier(2000, (), outputs=4000))
    junk = np.random.default_rng(1).integers(1, 256, 9_000_000, dtype=np.uint8).tobytes()
    content = file_of(structure, small_bytes=32000, rows=4000, weight_bytes=8_000_000, weights=b"\1" + junk)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for read in (
            lambda: native.read_trim(content, threads=1),
            lambda: native.plan_trim(content, threads=2, instruction_set="", measure=False, choices=""),
        ):
            start = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                read()
            assert time.process_time() - start < 0.3  # all of it takes half a second or more
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
