"""Networks for the tests of the file: small ones that are the same on every machine, and larger ones with known statistics."""

import hashlib
from dataclasses import replace

import numpy as np

from paretrim.graph import functions
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


def integers(shape, *, salt, low=-127, high=127):
    """Integers from SHA-256, which every version of NumPy gives alike."""
    count = int(np.prod(shape))
    stream = b"".join(hashlib.sha256(f"{salt} {i}".encode()).digest() for i in range(count // 4 + 1))
    numbers = np.frombuffer(stream, "<u8")[:count] if len(stream) >= 8 * count else None
    assert numbers is not None
    return (numbers % (high - low + 1)).astype(np.int64).reshape(shape) + low


def small(classes=("cat", "dög", "a/../b")):
    """An integer network with every kind of record content: pixels, table, convolution, clamp, pool, linear layer, names."""
    spec = InputSpec((3, 4, 4), (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.1 / 3))
    grid = ValueType((3, 4, 4), "uint8", float(np.float32(0.02)), 120)
    conv = ValueType((6, 4, 4), "uint8", float(np.float32(0.05)), 3)
    weight = integers((6, 3, 3, 3), salt="conv", low=-30, high=30)
    weight[np.abs(weight) < 15] = 0
    head = integers((3, 6), salt="linear", low=-8, high=7)
    nodes = (
        Node("quantized_images", "quantize", (INPUT,), grid, {}, {"table": functions.pixel_table(spec, grid)}),
        Node(
            "layer1.conv1",
            "conv2d",
            ("quantized_images",),
            conv,
            {"stride": (1, 1), "padding": (1, 1, 1, 1), "lo": 3},
            {
                "weight": weight.astype(np.int8),
                "weight_scale": (integers((6,), salt="scale", low=900, high=1100) / 100000).astype(np.float32),
                "bias": integers((6,), salt="bias", low=-4000, high=4000).astype(np.int32),
            },
            "layer1.conv1",
        ),
        Node("pool", "adaptive_avg_pool", ("layer1.conv1",), ValueType((6, 1, 1), "uint8", 0.0625, 0), {"output_size": (1, 1)}),
        Node("flat", "flatten", ("pool",), ValueType((6,), "uint8", 0.0625, 0)),
        Node(
            "fc",
            "linear",
            ("flat",),
            ValueType((3,)),
            {},
            {
                "weight": head.astype(np.int8),
                "weight_scale": np.full(3, 0.5, np.float32),
                "bias": np.array([0, -7, 2**20], np.int32),
            },
            "classifier",
        ),
    )
    return Graph(spec, nodes, ("fc",), tuple(classes))


def two_heads():
    """The small network with a second output: the pooled features that its linear layer reads."""
    graph = small(())
    features = Node("features", "dequantize", ("flat",), ValueType((6,)))
    return replace(graph, nodes=(*graph.nodes, features), outputs=("fc", "features"))


def linear(weight, *, scale=None):
    """One linear layer with this weight, int8 or float32, on float images [C, 1, 1]."""
    outputs, inputs = weight.shape
    spec = InputSpec((inputs, 1, 1))
    if weight.dtype == np.float32:
        flat = Node("flat", "flatten", (INPUT,), ValueType((inputs,)))
        return Graph(spec, (flat, Node("fc", "linear", ("flat",), ValueType((outputs,)), {}, {"weight": weight})), ("fc",))
    kind = ValueType((inputs, 1, 1), "uint8", 0.0625, 128)
    scale = np.full(outputs, 0.01, np.float32) if scale is None else scale
    tensors = {"weight": weight, "weight_scale": scale, "bias": np.zeros(outputs, np.int32)}
    nodes = (
        Node("q", "quantize", (INPUT,), kind),
        Node("flat", "flatten", ("q",), ValueType((inputs,), "uint8", 0.0625, 128)),
        Node("fc", "linear", ("flat",), ValueType((outputs,)), {}, tensors),
    )
    return Graph(spec, nodes, ("fc",))


def stored(graph, *, first=0):
    """A float graph whose weights are stored as float16, bfloat16 and int8 in turn, without and with scales."""
    nodes = []
    for index, node in enumerate(graph.nodes):
        if node.op not in ("conv2d", "linear") or node.tensors["weight"].dtype != np.float32:
            nodes.append(node)
            continue
        weight, form = node.tensors["weight"], (first + index) % 5
        steps = (np.abs(weight).reshape(len(weight), -1).max(1) / 127 + np.float32(1e-6)).astype(np.float32)
        short = {
            0: weight.astype(np.float16),
            1: (weight.view(np.uint32) >> 16).astype(np.uint16),
            2: np.rint(weight / steps.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8),
        }[form % 3]
        scale = {} if form < 2 else {"weight_scale": steps if form == 2 else np.linspace(0.3, 3, len(weight), dtype=np.float32)}
        nodes.append(replace(node, tensors={**node.tensors, "weight": short, **scale}))
    return replace(graph, nodes=tuple(nodes))


def short_network():
    """A float network of pixels whose three layers have float16, scaled bfloat16 and int8 weights, the same on every machine."""
    spec = InputSpec((3, 4, 4), (0.5, 0.25, 0.125), (0.5, 0.25, 1.0))
    halves = integers((4, 3, 3, 3), salt="half", low=-2000, high=2000).astype(np.float32) / 1024
    brain = integers((5, 4, 1, 1), salt="brain", low=-120, high=120).astype(np.float32) / 32
    conv, wide = ValueType((4, 4, 4)), ValueType((5, 4, 4))
    nodes = (
        Node("real_images", "normalize", (INPUT,), ValueType((3, 4, 4))),
        Node(
            "conv1", "conv2d", ("real_images",), conv, {"padding": (1, 1, 1, 1)}, {"weight": halves.astype(np.float16)}, "conv1"
        ),
        Node("relu", "relu", ("conv1",), conv),
        Node(
            "conv2",
            "conv2d",
            ("relu",),
            wide,
            {},
            {"weight": (brain.view(np.uint32) >> 16).astype(np.uint16), "weight_scale": np.float32([1, 0.5, 0.25, 2, 3])},
            "conv2",
        ),
        Node("pool", "adaptive_avg_pool", ("conv2",), ValueType((5, 1, 1)), {"output_size": (1, 1)}),
        Node("flat", "flatten", ("pool",), ValueType((5,))),
        Node(
            "fc",
            "linear",
            ("flat",),
            ValueType((3,)),
            {},
            {
                "weight": integers((3, 5), salt="fc").astype(np.int8),
                "weight_scale": np.full(3, 0.125, np.float32),
                "bias": np.float32([0.5, 0, -1]),
            },
            "fc",
        ),
    )
    return Graph(spec, nodes, ("fc",), ("a", "b", "c"))


def listed():
    """An integer network of which two layers have few values, each others, and one has many; the same on every machine."""
    spec = InputSpec((8, 4, 4))
    grid = ValueType((8, 4, 4), "uint8", 0.0625, 128)

    def of(values, shape, salt):
        return np.array(values, np.int8)[integers(shape, salt=salt, low=0, high=len(values) - 1)]

    def tensors(weight):
        rows = len(weight)
        return {"weight": weight, "weight_scale": np.full(rows, 0.25, np.float32), "bias": np.zeros(rows, np.int32)}

    pruned = of((-90, -37, 0, 0, 0, 11, 52, 127), (16, 8, 3, 3), "listed conv")
    wide = integers((6, 16, 1, 1), salt="listed wide", low=-127, high=127).astype(np.int8)
    head = of((-127, -41, 19, 96), (10, 60), "listed head")
    nodes = (
        Node("q", "quantize", (INPUT,), grid),
        Node("conv", "conv2d", ("q",), replace(grid, shape=(16, 4, 4)), {"padding": (1, 1, 1, 1)}, tensors(pruned), "conv"),
        Node("wide", "conv2d", ("conv",), replace(grid, shape=(6, 4, 4)), {}, tensors(wide), "wide"),
        Node("pool", "adaptive_avg_pool", ("wide",), replace(grid, shape=(6, 2, 5)), {"output_size": (2, 5)}),
        Node("flat", "flatten", ("pool",), replace(grid, shape=(60,))),
        Node("fc", "linear", ("flat",), ValueType((10,)), {}, tensors(head), "fc"),
    )
    return Graph(spec, nodes, ("fc",))


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
