"""Small random graphs with every operation, float or integer, with grids that fit their values."""

from dataclasses import replace

import numpy as np

from paretrim.graph import functions
from paretrim.graph.interpreter import compute
from paretrim.graph.operations.table import GRID_PRESERVING
from paretrim.graph.shapes import infer_shape
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

FUNCTIONS = dict.fromkeys(functions.PLAIN) | {
    "leaky_relu": 0.1,
    "clamp_min": -0.5,
    "clamp_max": 0.5,
    "add_constant": 0.25,
    "mul_constant": -0.5,
    "power": 1.5,
    "elu_alpha": 0.5,
    "celu": 1.5,
    "softplus_beta": 3.0,
    "threshold": 0.2,
    "step": 0.1,
    "hardshrink": 0.4,
    "softshrink": 0.3,
}


def grid(real, *, minimum=-np.inf):
    """uint8 grid that covers the values and 0, with a scale that float32 holds."""
    low, high = min(float(real.min()), 0.0), max(float(real.max()), 0.0)
    if minimum == 0.0:
        low = 0.0
    scale = float(np.float32(max(high - low, 1e-3) / 255))
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


class Builder:
    """Adds nodes to a graph and computes their values on a few images, which determine the grids."""

    def __init__(self, rng, *, quantized, shape=(3, 8, 8), pixels=True, count=3):
        self.rng, self.quantized = rng, quantized
        if not pixels:
            self.input = InputSpec(shape)
        elif rng.random() < 0.5:
            # Every pixel falls half-way between two steps of the grid of the input.
            self.input = InputSpec(shape, (0.5,) * shape[0], (0.25,) * shape[0])
        else:
            mean, std = rng.uniform(0.4, 0.6, shape[0]), rng.uniform(0.2, 0.3, shape[0])
            self.input = InputSpec(shape, tuple(map(float, mean)), tuple(map(float, std)))
        if pixels:
            self.images = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
        else:
            self.images = rng.normal(0, 1, (count, *shape)).astype(np.float32)
        self.nodes, self.values = [], {INPUT: self.images}
        self.types = {INPUT: ValueType(shape, "uint8", float(np.float32(1 / 255)))} if pixels else {INPUT: ValueType(shape)}

    def graph(self, *outputs):
        classes = self.types[outputs[0]].shape[0] if len(outputs) == 1 else 0
        return Graph(self.input, tuple(self.nodes), outputs, tuple(f"class {i}" for i in range(classes)))

    def add(self, op, inputs, kind, attributes=None, tensors=None):
        name = f"{op}_{len(self.nodes)}"
        node = Node(name, op, tuple(inputs), kind, attributes or {}, tensors or {}, f"layers.{len(self.nodes)}")
        self.values[name] = compute(node, tuple(self.values[i] for i in inputs), tuple(self.types[i] for i in inputs), self.input)
        self.types[name] = kind
        self.nodes.append(node)
        return name

    def real(self, name):
        kind, value = self.types[name], self.values[name]
        return (value.astype(np.float32) - kind.zero_point) * np.float32(kind.scale) if kind.quantized else value

    def start(self):
        shape = self.input.shape
        if self.quantized and self.input.takes_pixels:
            kind = ValueType(shape, "uint8", *grid(functions.pixel_values(self.input)))
            return self.add("quantize", [INPUT], kind, {}, {"table": functions.pixel_table(self.input, kind)})
        if self.quantized:
            return self.add("quantize", [INPUT], ValueType(shape, "uint8", *grid(self.images)))
        return self.add("normalize", [INPUT], ValueType(shape)) if self.input.takes_pixels else INPUT

    def weighted(self, op, source, weight_shape, attributes, *, logits=False, relu=False):
        outputs = weight_shape[0]
        fan_in = int(np.prod(weight_shape[1:]))
        weight = self.rng.normal(0, fan_in**-0.5, weight_shape).astype(np.float32)
        weight[self.rng.random(weight_shape) < 0.3] = 0
        bias = self.rng.normal(0, 0.1, outputs).astype(np.float32)
        shape = infer_shape(op, attributes, [self.types[source].shape], {"weight": weight})
        if not self.quantized:
            name = self.add(op, [source], ValueType(shape), attributes, {"weight": weight, "bias": bias})
            return self.add("relu", [name], ValueType(shape)) if relu else name
        largest = np.abs(weight).reshape(outputs, -1).max(axis=1)
        scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
        integers = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        # A tiny weight alone in its channel gives a scale beside which any bias is large.
        exact = np.rint(bias / (scale.astype(np.float64) * self.types[source].scale))
        steps = np.clip(exact, -(2**30), 2**30).astype(np.int32)
        tensors = {"weight": integers, "weight_scale": scale, "bias": steps}
        plain = Node("probe", op, (source,), ValueType(shape), attributes, tensors)
        if logits:
            return self.add(op, [source], ValueType(shape), attributes, tensors)
        real = compute(plain, (self.values[source],), (self.types[source],), self.input)
        kind = ValueType(shape, "uint8", *grid(real, minimum=0.0 if relu else -np.inf))
        # Rarely a grid that was made for something else: then the fused activation is a clamp inside the grid.
        if relu and self.rng.random() < 0.2:
            kind = replace(kind, zero_point=int(self.rng.integers(0, 100)))
        clamp = {"lo": kind.zero_point} if relu else {}
        return self.add(op, [source], kind, attributes | clamp, tensors)

    def conv(self, source, outputs, kernel=3, *, stride=1, groups=1, dilation=1, padding=None, relu=True):
        reach = (kernel - 1) * dilation // 2
        attributes = {
            "stride": (stride, stride),
            "padding": padding or (reach,) * 4,
            "dilation": (dilation, dilation),
            "groups": groups,
        }
        channels = self.types[source].shape[0]
        return self.weighted("conv2d", source, (outputs, channels // groups, kernel, kernel), attributes, relu=relu)

    def linear(self, source, outputs, *, logits=False, relu=False):
        return self.weighted("linear", source, (outputs, self.types[source].shape[0]), {}, logits=logits, relu=relu)

    def simple(self, op, inputs, attributes=None):
        """An operation without weights."""
        attributes = attributes or {}
        kinds = [self.types[name] for name in inputs]
        shape = infer_shape(op, attributes, [kind.shape for kind in kinds], {})
        if not self.quantized:
            return self.add(op, inputs, ValueType(shape), attributes)
        if op in GRID_PRESERVING:
            return self.add(op, inputs, replace(kinds[0], shape=shape), attributes)
        floats = tuple(ValueType(kind.shape) for kind in kinds)
        probe = Node("probe", op, tuple(inputs), ValueType(shape), attributes)
        real = compute(probe, tuple(self.real(name) for name in inputs), floats, self.input)
        kind = ValueType(shape, "uint8", *grid(real))
        if op == "concat" and self.rng.random() < 0.5:
            kind = replace(kinds[0], shape=shape)
        tensors = {}
        if op == "pointwise":
            table = functions.pointwise_table(attributes["function"], attributes.get("constant"), kinds[0], kind)
            tensors = {"table": table}
        return self.add(op, inputs, kind, attributes, tensors)

    def pointwise(self, source, function):
        constant = FUNCTIONS[function]
        return self.simple("pointwise", [source], {"function": function} | ({} if constant is None else {"constant": constant}))

    def batch_norm(self, source):
        kind = self.types[source]
        channels = kind.shape[0]
        factor = self.rng.uniform(-1, 2, channels).astype(np.float32)
        shift = self.rng.normal(0, 0.3, channels).astype(np.float32)
        if not self.quantized:
            mean, variance = (
                self.rng.normal(0, 0.2, channels).astype(np.float32),
                self.rng.uniform(0.5, 2, channels).astype(np.float32),
            )
            tensors = {"gamma": factor, "beta": shift, "mean": mean, "variance": variance}
            return self.add("batch_norm", [source], ValueType(kind.shape), {"epsilon": 1e-5}, tensors)
        real = self.real(source) * factor.reshape(-1, *[1] * (len(kind.shape) - 1)) + shift.reshape(
            -1, *[1] * (len(kind.shape) - 1)
        )
        output = ValueType(kind.shape, "uint8", *grid(real))
        tensors = {
            "multiplier": (factor * kind.scale / output.scale).astype(np.float32),
            "offset": (shift / output.scale).astype(np.float32),
        }
        return self.add("batch_norm", [source], output, {"lo": output.zero_point}, tensors)


def residual(b, x):
    channels = b.types[x].shape[0]
    y = b.conv(b.conv(x, channels), channels, relu=False)
    return b.simple("add", [y, x])


def strided(b, x):
    return b.conv(x, 8, stride=2) if b.types[x].shape[1] >= 4 else b.conv(x, 6, kernel=1)


def dilated(b, x):
    return b.conv(x, int(b.rng.choice([4, 6])), dilation=2)


def uneven(b, x):
    return b.conv(x, 4, kernel=2, padding=(1, 0, 0, 1))


def depthwise(b, x):
    channels = b.types[x].shape[0]
    return b.conv(b.conv(x, channels, groups=channels), 4, kernel=1, relu=False)


def grouped(b, x):
    groups = 2 if b.types[x].shape[0] % 2 == 0 else 1
    return b.conv(x, 4, groups=groups)


def squeeze_excite(b, x):
    channels = b.types[x].shape[0]
    gate = b.simple("adaptive_avg_pool", [x], {"output_size": (1, 1)})
    gate = b.conv(b.conv(gate, 2, kernel=1), channels, kernel=1, relu=False)
    return b.simple("mul", [x, b.pointwise(gate, "hardsigmoid")])


def dense(b, x):
    return b.simple("concat", [b.conv(x, 2), x])


def shuffled(b, x):
    channels = b.types[x].shape[0]
    half = channels // 2
    if not half:
        return x
    left = b.simple("slice", [x], {"axis": 0, "start": 0, "stop": half, "step": 1})
    right = b.simple("slice", [x], {"axis": 0, "start": half, "stop": 2 * half})
    joined = b.simple("concat", [b.conv(left, half), right])
    return b.simple("channel_shuffle", [joined], {"groups": 2})


def pixels_shuffled(b, x):
    """Channels of a convolution become twice as many rows, and perhaps columns."""
    factor = (2, int(b.rng.integers(1, 3)))
    x = b.simple("pixel_shuffle", [b.conv(x, 3 * factor[0] * factor[1], kernel=1, relu=False)], {"factor": factor})
    return b.simple("pixel_unshuffle", [x], {"factor": (2, 1)}) if b.rng.random() < 0.5 else x


def pooled(b, x):
    height = b.types[x].shape[1]
    if height < 4:
        return b.simple("max_pool", [x], {"window": (2, 1), "stride": (1, 1), "padding": (1, 0, 0, 0)})
    if b.rng.random() < 0.5:
        return b.simple("max_pool", [x], {"window": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)})
    counted = [(0, 0, 0, 0), (1, 1, 1, 1), (1, 1, 0, 0)][b.rng.integers(3)]
    return b.simple("avg_pool", [x], {"window": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "count_padding": counted})


def shortcut(b, x):
    """The parameter-free shortcut of the CIFAR ResNets: every second pixel, zero channels added."""
    height, width = b.types[x].shape[1:]
    x = b.simple("slice", [x], {"axis": 1, "start": 0, "stop": height, "step": 2})
    x = b.simple("slice", [x], {"axis": 2, "start": 0, "stop": width, "step": 2})
    return b.simple("pad", [x], {"before": (1, 0, 0), "after": (1, 0, 0)})


def preactivated(b, x):
    return b.conv(b.batch_norm(x), 4)


def attended(b, x):
    """A map times another one transposed, then times the map."""
    scores = b.simple("matmul", [x, b.conv(x, b.types[x].shape[0], kernel=1, relu=False)], {"transposed": 1})
    return b.simple("matmul", [scores, x])


def activated(b, x):
    return b.pointwise(x, str(b.rng.choice(sorted(FUNCTIONS))))


BLOCKS = (
    residual, strided, dilated, uneven, depthwise, grouped, squeeze_excite, dense, shuffled, pooled, shortcut, preactivated,
    activated, attended, pixels_shuffled,
)  # fmt: skip


def random_graph(seed, *, quantized, blocks=3, pixels=True, heads=1):
    """A graph of random blocks with this many outputs, and the images that determined its grids."""
    b = Builder(np.random.default_rng(seed), quantized=quantized, pixels=pixels)
    x = b.conv(b.start(), 4)
    for index in b.rng.integers(0, len(BLOCKS), blocks):
        x = BLOCKS[index](b, x)
    maps = [name for name, kind in b.types.items() if len(kind.shape) == 3 and kind.quantized == quantized and name != INPUT]
    logits = head(b, x)
    return b.graph(logits, *(head(b, str(b.rng.choice(maps)), plain=bool(b.rng.integers(2))) for _ in range(heads - 1))), b.images


def head(b, x, *, plain=False):
    """A vector from a map: five numbers from a linear layer, or with ``plain`` the pooled map itself."""
    size = tuple(int(b.rng.integers(1, extent + 1)) for extent in b.types[x].shape[1:])
    x = b.simple("flatten", [b.simple("adaptive_avg_pool", [x], {"output_size": size})])
    if not plain:
        return b.linear(x, 5, logits=True)
    return b.add("dequantize", [x], ValueType(b.types[x].shape)) if b.quantized else x


def finish(b, x):
    return b.graph(head(b, x))
