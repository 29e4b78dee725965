"""Small float graphs made by hand, and their evaluation in float64 by torch; for the tests of channel removal."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

CLASSES = 3


def compute(node, inputs):
    """Value of one node for a batch of one, float64."""
    a = node.attributes
    t = {name: torch.from_numpy(np.array(tensor, dtype=np.float64)) for name, tensor in node.tensors.items()}
    x = inputs[0]
    match node.op:
        case "conv2d":
            top, left, bottom, right = a["padding"]
            return F.conv2d(
                F.pad(x, (left, right, top, bottom)), t["weight"], t["bias"], a["stride"], 0, a["dilation"], a["groups"]
            )
        case "linear":
            return F.linear(x, t["weight"], t["bias"])
        case "batch_norm":
            return F.batch_norm(x, t["mean"], t["variance"], t["gamma"], t["beta"], eps=a["epsilon"])
        case "relu":
            return x.relu()
        case "pointwise":
            return getattr(torch, a["function"])(x)
        case "add":
            return x + inputs[1]
        case "mul":
            return x * inputs[1]
        case "concat":
            return torch.cat(inputs, 1)
        case "slice":
            return x[(slice(None),) * (1 + a["axis"]) + (slice(a["start"], a["stop"], a["step"]),)]
        case "pad":
            sides = [s for pair in zip(a["before"][::-1], a["after"][::-1], strict=True) for s in pair]
            return F.pad(x, sides)
        case "channel_shuffle":
            return F.channel_shuffle(x, a["groups"])
        case "pixel_shuffle":
            return F.pixel_shuffle(x, a["factor"][0])
        case "pixel_unshuffle":
            return F.pixel_unshuffle(x, a["factor"][0])
        case "flatten":
            return x.flatten(1)
        case "unflatten":
            return x[:, :, None, None]
        case "dropout":
            return x
        case "max_pool":
            return F.max_pool2d(x, a["window"], a["stride"])
        case "adaptive_avg_pool":
            return F.adaptive_avg_pool2d(x, a["output_size"])
    raise AssertionError(node.op)


def evaluate(graph, image):
    """All values of a graph for one image; checks every declared shape."""
    values = {INPUT: image}
    for node in graph.nodes:
        values[node.name] = compute(node, [values[name] for name in node.inputs])
        assert tuple(values[node.name].shape[1:]) == node.type.shape, node.name
    return values


class Drawing:
    """Appends nodes to a graph with random tensors; every method returns the name of the new value."""

    def __init__(self, channels=3, size=6):
        self.random = np.random.default_rng(0)
        self.image = torch.from_numpy(self.random.standard_normal((1, channels, size, size)))
        self.values = {INPUT: self.image}
        self.nodes = []

    def node(self, op, *inputs, attributes=None, tensors=None):
        name = f"{op}{len(self.nodes)}"
        node = Node(name, op, inputs, ValueType((0,)), attributes or {}, tensors or {})
        self.values[name] = compute(node, [self.values[i] for i in inputs])
        self.nodes.append(replace(node, type=ValueType(tuple(self.values[name].shape[1:]))))
        return name

    def draw(self, *shape):
        return self.random.standard_normal(shape).astype(np.float32)

    def conv(self, x, outputs, size=3, stride=1, groups=1):
        inputs = self.values[x].shape[1]
        side = size // 2
        attributes = {"stride": (stride, stride), "padding": (side,) * 4, "dilation": (1, 1), "groups": groups}
        tensors = {"weight": self.draw(outputs, inputs // groups, size, size), "bias": self.draw(outputs)}
        return self.node("conv2d", x, attributes=attributes, tensors=tensors)

    def norm(self, x):
        count = self.values[x].shape[1]
        tensors = {name: self.draw(count) for name in ("gamma", "beta", "mean")} | {"variance": abs(self.draw(count))}
        return self.node("batch_norm", x, attributes={"epsilon": 1e-5}, tensors=tensors)

    def block(self, x, outputs, **options):
        return self.node("relu", self.norm(self.conv(x, outputs, **options)))

    def linear(self, x, outputs):
        inputs = self.values[x].shape[1]
        return self.node("linear", x, tensors={"weight": self.draw(outputs, inputs), "bias": self.draw(outputs)})

    def pool(self, x):
        return self.node("adaptive_avg_pool", x, attributes={"output_size": (1, 1)})

    def cut(self, x, axis, start, stop, step=1):
        return self.node("slice", x, attributes={"axis": axis, "start": start, "stop": stop, "step": step})

    def finish(self, x):
        x = self.node("flatten", self.pool(x)) if self.values[x].ndim == 4 else x
        output = self.linear(x, CLASSES)
        return Graph(InputSpec(tuple(self.image.shape[1:])), tuple(self.nodes), (output,))


def chain():
    d = Drawing()
    return d.finish(d.block(d.block(d.block(INPUT, 5), 6), 4))


def residual():
    d = Drawing()
    x = d.block(INPUT, 6)
    for _ in range(2):
        x = d.node("relu", d.node("add", d.norm(d.conv(d.block(x, 4), 6)), x))
    return d.finish(x)


def projection():
    d = Drawing()
    x = d.block(INPUT, 4)
    main = d.norm(d.conv(d.block(x, 7, stride=2), 8))
    return d.finish(d.node("relu", d.node("add", main, d.norm(d.conv(x, 8, size=1, stride=2)))))


def option_a():
    """The parameter-free shortcut of CIFAR ResNets: every second pixel, zero channels on both sides."""
    d = Drawing()
    x = d.block(INPUT, 4)
    x = d.node("relu", d.node("add", d.norm(d.conv(d.block(x, 5), 4)), x))
    main = d.norm(d.conv(d.block(x, 6, stride=2), 9))
    strided = d.cut(d.cut(x, 1, 0, 6, 2), 2, 0, 2**62, 2)
    shortcut = d.node("pad", strided, attributes={"before": (2, 0, 0), "after": (3, 0, 0)})
    return d.finish(d.node("relu", d.node("add", main, shortcut)))


def padded_alone():
    """Zero channels without an addition; a pre-activation ``batch_norm`` gives them a value."""
    d = Drawing()
    x = d.node("pad", d.block(INPUT, 4), attributes={"before": (2, 1, 0), "after": (1, 0, 1)})
    return d.finish(d.block(d.norm(x), 3))


def dense():
    d = Drawing()
    x = d.conv(INPUT, 4)
    for _ in range(3):
        x = d.node("concat", x, d.conv(d.node("relu", d.norm(x)), 3))
    return d.finish(d.node("relu", d.norm(x)))


def separable_with_gate():
    d = Drawing()
    x = d.block(INPUT, 4)
    wide = d.block(d.block(x, 8, size=1), 8, groups=8)
    gate = d.conv(d.node("relu", d.conv(d.pool(wide), 3, size=1)), 8, size=1)
    gated = d.node("mul", wide, d.node("pointwise", gate, attributes={"function": "sigmoid"}))
    return d.finish(d.node("add", d.norm(d.conv(gated, 4, size=1)), x))


def gate_of_linear_layers():
    """Squeeze-and-excitation with linear layers, and dropout in front of the head."""
    d = Drawing()
    x = d.block(INPUT, 6)
    hidden = d.node("relu", d.linear(d.node("flatten", d.pool(x)), 4))
    gate = d.node("pointwise", d.linear(hidden, 6), attributes={"function": "sigmoid"})
    gated = d.node("mul", x, d.node("unflatten", gate))
    return d.finish(d.node("dropout", d.node("flatten", d.pool(gated)), attributes={"probability": 0.2}))


def depthwise_multiplier():
    d = Drawing()
    return d.finish(d.block(d.block(d.block(INPUT, 4), 12, groups=4), 5))


def grouped():
    d = Drawing()
    x = d.block(INPUT, 6)
    return d.finish(d.node("add", d.norm(d.conv(d.block(d.block(x, 8, size=1), 12, groups=4), 6, size=1)), x))


def shuffle():
    """Two ShuffleNetV2 units: chunk, transform one half, concatenate, shuffle."""
    d = Drawing()
    x = d.block(INPUT, 8)
    for _ in range(2):
        half = d.cut(x, 0, 4, 8)
        half = d.block(d.norm(d.conv(d.block(half, 4, size=1), 4, groups=4)), 4, size=1)
        x = d.node("channel_shuffle", d.node("concat", d.cut(x, 0, 0, 4), half), attributes={"groups": 2})
    return d.finish(x)


def pixel_shuffle():
    """A grouped convolution, a pixel shuffle and another convolution."""
    d = Drawing()
    x = d.block(d.block(INPUT, 6), 16, groups=2)
    x = d.block(d.node("pixel_shuffle", x, attributes={"factor": (2, 2)}), 5)
    return d.finish(d.block(d.node("pixel_unshuffle", x, attributes={"factor": (2, 2)}), 3))


def chunks():
    """Uneven chunks in separate branches; the last is indexed from the end."""
    d = Drawing()
    x = d.block(INPUT, 9)
    parts = [d.cut(x, 0, 0, 2), d.cut(x, 0, 2, 5), d.cut(x, 0, -4, 2**62)]
    return d.finish(d.node("concat", *(d.block(part, 3) for part in parts)))


def vgg():
    d = Drawing(size=4)
    x = d.node("max_pool", d.block(d.block(INPUT, 5), 6), attributes={"window": (2, 2), "stride": (2, 2)})
    hidden = d.node("relu", d.linear(d.node("flatten", x), 7))
    return d.finish(d.node("flatten", hidden))


def step_slice():
    """Every second channel; such channels cannot be removed."""
    d = Drawing()
    return d.finish(d.block(d.cut(d.block(INPUT, 6), 0, 1, 6, 2), 4))


NETWORKS = {
    build.__name__: build()
    for build in (
        chain,
        residual,
        projection,
        option_a,
        padded_alone,
        dense,
        separable_with_gate,
        gate_of_linear_layers,
        depthwise_multiplier,
        grouped,
        shuffle,
        pixel_shuffle,
        chunks,
        vgg,
        step_slice,
    )
}


def image_for(graph, seed=1):
    count = math.prod(graph.input.shape)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(count)).reshape(1, *graph.input.shape)
