"""From a float graph and its grids to the integer graph of ``docs/integer-graph.md``.

Nothing is estimated here: weights arrive as the integers, and activations with the grids, that training saw. A BatchNorm
after a weighted layer multiplies each output channel by one factor, and so does the weight's own scale: the integers
do not change when it is folded, only scale, sign and bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from paretrim.errors import UnsupportedOperation
from paretrim.graph.checks import SMALLEST_SCALE
from paretrim.graph.fold import StoredWeight, affine_of, deployed, folded_bias, folded_tensors
from paretrim.graph.functions import pixel_table, pointwise_table
from paretrim.graph.fusion import Fusion, fuse, needed_inputs, stays_float, values_of_few_levels
from paretrim.graph.names import free_name
from paretrim.graph.operations.operation import Bounds
from paretrim.graph.operations.table import BOUNDING, GRID_PRESERVING, OPERATIONS, TRAINING_ONLY, WEIGHTED
from paretrim.graph.plain import constant_scale, plain_biases, plain_scales
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Array, Attribute, Float64Array, FloatArray, Graph, Node, ValueType

_BIAS_LIMIT = 2**30
"""Biases stay below this, so that a bias and any dot product of the layer sum up without leaving int32."""

_SAME_SCALE, _SAME_BIAS = 2.0**-20, 2.0**-12
"""How far float32 rounding may move a folded scale (relative) and bias (in output steps) off their plain values."""

_SMALLEST_MULTIPLIER = 2.0**-60
"""Least factor from accumulator to output steps: at it, even 2**31 accumulator steps stay below one output step. Logits have no
steps; for them it is relative to the layer's largest factor."""


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """Integers of a weight [Co, ...] int8 and their scale per output channel [Co] float32."""

    integers: npt.NDArray[np.int8]
    scale: FloatArray


def lower(
    graph: Graph,
    grids: Mapping[str, ValueType],
    weights: Mapping[str, WeightCodes],
    real: Mapping[str, StoredWeight | None] = MappingProxyType({}),
    tops: Mapping[str, int] = MappingProxyType({}),
) -> Graph:
    """The integer graph. A layer of ``real`` computes in float32, between a dequantize and a quantize.

    Args:
        graph: float graph as captured, BatchNorm not folded.
        grids: for every name of :func:`paretrim.graph.fusion.grid_values` a uint8 type with scale and zero point.
        weights: the integers of every conv2d and linear node, except those in ``real``.
        real: conv2d and linear nodes that compute in float32, and their weight where it is not stored as float32.
        tops: the highest level of values that have fewer than 256, of :func:`paretrim.graph.fusion.values_of_few_levels`.

    Raises:
        UnsupportedOperation: a value or weight has no grid, a layer's sum may leave int32, or the levels of a value that nothing
            bounds are fewer than 256.
    """
    few = values_of_few_levels(graph, real)
    if other := [name for name in tops if name not in few]:
        raise UnsupportedOperation(
            f"the value '{other[0]}' has levels 0..{tops[other[0]]}, but nothing in the integer graph bounds it; put it on a "
            "grid of 8 bits"
        )
    work = _Lowering(graph, grids, weights, real, tops)
    work.quantize_input()
    for run in fuse(graph):
        work.add(run)
    return work.result()


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        grids: Mapping[str, ValueType],
        weights: Mapping[str, WeightCodes],
        real: Mapping[str, StoredWeight | None],
        tops: Mapping[str, int],
    ) -> None:
        self.graph, self.grids, self.weights, self.real, self.tops = graph, grids, weights, real, tops
        self.read = needed_inputs(graph)
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}
        self.types: dict[str, ValueType] = {}

    def quantize_input(self) -> None:
        spec = self.graph.input
        kind = self._grid(INPUT, spec.shape, "the input")
        tensors: dict[str, Array] = {}
        if spec.takes_pixels:
            tensors["table"] = pixel_table(spec, kind)
        self._emit(Node(free_name("quantized_images", self.graph.types), "quantize", (INPUT,), kind, {}, tensors), INPUT)

    def add(self, run: Fusion) -> None:
        head = run.head
        inputs = tuple(self.names[name] for name in head.inputs)
        source = self.types[inputs[0]]
        if head.op in TRAINING_ONLY:
            self.names[head.name] = inputs[0]
        elif head.name in self.real:
            self._in_float(run, inputs[0])
        elif head.op in WEIGHTED:
            self._weighted(run, inputs, source)
        elif head.op in GRID_PRESERVING:
            self._emit(replace(head, inputs=inputs, type=replace(source, shape=head.type.shape)), head.name)
        elif head.op in BOUNDING:
            self._bound_alone(head, source)
        else:
            kind = self._grid(run.end.name, run.end.type.shape, f"layer '{head.layer}'")
            self._emit(self._requantizing(run, inputs, source, kind), run.end.name)
            if OPERATIONS[head.op].table is not None and head.name in self.tops:
                name = free_name(f"{head.name}/clamped", self.graph.types | self.types)
                self._bound(name, ("clamp_max", self._highest(head.name, kind)), (head, kind, kind))

    def result(self) -> Graph:
        outputs = tuple(self._as_float(self.names[name], "logits") for name in self.graph.outputs)
        return replace(self.graph, nodes=tuple(self.nodes), outputs=outputs)

    def _as_float(self, name: str, called: str) -> str:
        kind = self.types[name]
        if not kind.quantized:
            return name
        real = free_name(called, self.graph.types | self.types)
        return self._emit(Node(real, "dequantize", (name,), ValueType(kind.shape)), real)

    def _emit(self, node: Node, stands_for: str) -> str:
        self.nodes.append(node)
        self.names[stands_for] = node.name
        self.types[node.name] = node.type
        return node.name

    def _grid(self, name: str, shape: tuple[int, ...], where: str) -> ValueType:
        if name not in self.grids:
            raise UnsupportedOperation(f"{where}: the value '{name}' has no grid; quantize the network before freezing it")
        return replace(self.grids[name], shape=shape)

    def _requantizing(self, run: Fusion, inputs: tuple[str, ...], source: ValueType, kind: ValueType) -> Node:
        head, operation = run.head, OPERATIONS[run.head.op]
        attributes = {**head.attributes, **(self._clamp(run, kind) if operation.clamps else {})}
        node = replace(head, inputs=inputs, type=kind, attributes=attributes)
        if operation.normalizes:
            factor, offset = affine_of(head)
            multiplier = (factor * source.scale / kind.scale).astype(np.float32)
            tensors: dict[str, Array] = {"multiplier": multiplier, "offset": (offset / kind.scale).astype(np.float32)}
            return replace(node, tensors=tensors)
        if operation.table is not None:
            return replace(node, tensors={"table": operation.table(settings_of(head), source, kind, self.graph.input)})
        return node

    def _highest(self, name: str, kind: ValueType) -> float:
        """The value of the top level of a grid."""
        return (self.tops.get(name, 255) - kind.zero_point) * kind.scale

    def _clamp(self, run: Fusion, kind: ValueType) -> dict[str, Attribute]:
        """The range of a result: what the activation bounds, within the levels of the grid."""
        low, high = (None, None) if run.activation is None else _bounds(run.activation)
        top = self.tops.get(run.end.name, 255)
        ends = {"lo": 0 if low is None else _level(low, kind), "hi": top if high is None else _level(high, kind)}
        return {end: min(level, top) for end, level in ends.items()}

    def _bound_alone(self, head: Node, source: ValueType) -> None:
        """A clamp that cannot be fused: one table for each bound."""
        kind = self._grid(head.name, head.type.shape, f"layer '{head.layer}'")
        low, high = _bounds(head)
        if head.name in self.tops:
            highest = self._highest(head.name, kind)
            high = highest if high is None else min(high, highest)
        for function, bound in (("clamp_min", low), ("clamp_max", high)):
            if bound is None:
                continue
            name = f"{head.name}/minimum" if function == "clamp_min" and high is not None else head.name
            self._bound(name, (function, bound), (head, source, kind))
            source = kind

    def _bound(self, name: str, bound: tuple[str, float], node: tuple[Node, ValueType, ValueType]) -> None:
        """Bound the value that now stands for a node, by a table from its grid to another."""
        head, source, kind = node
        function, constant = bound
        last = self.names.get(head.name, self.names[head.inputs[0]])
        attributes: dict[str, Attribute] = {"function": function, "constant": constant}
        table = pointwise_table(function, constant, source, kind)
        self._emit(Node(name, "pointwise", (last,), kind, attributes, {"table": table}, head.layer), head.name)

    def _weighted(self, run: Fusion, inputs: tuple[str, ...], source: ValueType) -> None:
        head, end = run.head, run.end
        if head.name not in self.weights:
            raise UnsupportedOperation(f"layer '{head.layer}': the weight of '{head.name}' has no integers; quantize it first")
        final = stays_float(run, self.graph, self.read)
        kind = ValueType(end.type.shape) if final else self._grid(end.name, end.type.shape, f"layer '{head.layer}'")
        attributes = deployed(head)
        if not final:
            attributes |= self._clamp(run, kind)
        factor, bias = folded_bias(head, run.batch_norm)
        tensors = _integer_tensors(self.weights[head.name], factor, bias, (source, kind), head)
        self._emit(replace(head, inputs=inputs, type=kind, attributes=attributes, tensors=tensors), end.name)

    def _in_float(self, run: Fusion, source: str) -> None:
        """A layer that computes in float32; its result is then quantized, unless only such layers read it."""
        head, end = run.head, run.end
        tensors = folded_tensors(run, self.real[head.name])
        real = self._as_float(source, f"{source}/real")
        last = self._emit(replace(head, inputs=(real,), attributes=deployed(head), tensors=tensors), end.name)
        if run.activation is not None:
            last = self._emit(replace(run.activation, inputs=(last,)), end.name)
        if end.name in self.grids:
            kind = self._grid(end.name, end.type.shape, f"layer '{head.layer}'")
            if end.name in self.tops:
                most: dict[str, Attribute] = {"maximum": self._highest(end.name, kind)}
                clamped = free_name(f"{end.name}/clamped", self.graph.types | self.types)
                last = self._emit(Node(clamped, "clamp", (last,), ValueType(kind.shape), most, {}, head.layer), end.name)
            name = free_name(f"{end.name}/quantized", self.graph.types | self.types)
            self._emit(Node(name, "quantize", (last,), kind), end.name)


def _bounds(activation: Node) -> Bounds:
    bounds = OPERATIONS[activation.op].bounds
    assert bounds is not None, f"{activation.op} was taken for an activation that only bounds values"
    return bounds(settings_of(activation))


def _level(real: float, kind: ValueType) -> int:
    return int(np.clip(np.rint(real / kind.scale) + kind.zero_point, 0, 255))


def _integer_tensors(
    codes: WeightCodes, factor: Float64Array, bias: Float64Array, types: tuple[ValueType, ValueType], head: Node
) -> dict[str, Array]:
    """Weight, scale and bias with the BatchNorm factor folded in: its sign into the integers, its size into the scale.

    ``types`` are those of the input and the output; an output in float32 counts in steps of 1.
    """
    source, output = types[0].scale, types[1].scale
    exact = codes.scale.astype(np.float64) * np.abs(factor)
    empty: npt.NDArray[np.bool_] = np.logical_not(codes.integers.reshape(len(factor), -1).any(axis=1)) | (factor == 0)
    # Weights that are tiny compared with their bias, or with a step of the output, get a coarser scale. The loss is far below the
    # last bit of the bias or of the step, and no product of scales leaves the normal range of float32.
    step = output / source if types[1].quantized else float(exact.max(initial=0, where=~empty))
    # A channel without weights is its bias: any scale that holds it in 20 bits will do.
    held = np.where(bias == 0, np.maximum(2.0**-20 * output, 2.0**-80 * source), np.abs(bias)) / source / 2**20
    exact = np.where(empty, held, exact)
    least = np.maximum(np.abs(bias) / source / _BIAS_LIMIT, _SMALLEST_MULTIPLIER * step)
    scale = np.maximum(exact, least).astype(np.float32)
    integers = _scaled_rows(codes.integers, np.sign(factor) * (exact / np.maximum(exact, least)))
    if types[1].quantized:
        scale, bias_integers = _plain_where_so(scale, bias, empty, (source, output))
    else:
        bias_integers = np.rint(bias / (source * scale.astype(np.float64)))
    _require_normal(scale, (source, output), head)
    _require_int32(integers, bias_integers, head)
    return {"weight": integers, "weight_scale": scale, "bias": bias_integers.astype(np.int32)}


def _scaled_rows(integers: npt.NDArray[np.int8], factors: Float64Array) -> npt.NDArray[np.int8]:
    """Integers [Co, ...] times a factor in [-1, 1] per row, rounded; rows whose factor is 1 are skipped."""
    changed = factors != 1
    if not changed.any():
        return integers
    columns = (-1, *[1] * (integers.ndim - 1))
    result = integers.copy()
    result[changed] = np.rint(integers[changed] * factors[changed].reshape(columns))
    return result


def _require_int32(integers: npt.NDArray[np.int8], bias: Float64Array, head: Node) -> None:
    """Refuse a layer whose sums may leave int32."""
    size, biases = integers[0].size, np.abs(bias)
    if 127 * 255 * size + biases.max() < 2**31:
        return
    reach = np.abs(integers.reshape(len(integers), -1).astype(np.int64)).sum(axis=1) * 255 + biases
    if reach.max() >= 2**31:
        channel = int(reach.argmax())
        raise UnsupportedOperation(
            f"layer '{head.layer}': the sum of output channel {channel} may reach {int(reach.max()):,}, beyond int32; "
            f"it has {size:,} weights per channel, split the layer or remove weights"
        )


def _require_normal(scale: FloatArray, scales: tuple[float, float], head: Node) -> None:
    """Refuse scales that are not normal in float32, and those whose product with the input's or ratio to the output's is not."""
    source, output = scales
    own = scale.astype(np.float64)
    chain = np.stack([own, own * source, own * source / output])
    if chain.min() < SMALLEST_SCALE or chain.max() > np.finfo(np.float32).max:
        raise UnsupportedOperation(
            f"layer '{head.layer}': steps of its weights are {own.min():.2g} to {own.max():.2g}, those of its input {source:.2g} "
            f"and of its result {output:.2g}; a product or ratio of them leaves float32, so rescale the weights or the images"
        )


def _plain_where_so(
    scale: FloatArray, bias: Float64Array, empty: npt.NDArray[np.bool_], scales: tuple[float, float]
) -> tuple[FloatArray, Float64Array]:
    """Make scales and biases exactly plain if they are plain but for the rounding of the float32 parameters behind them."""
    source, output = scales
    near = np.where(empty, constant_scale(source=source, output=output), plain_scales(scale.astype(np.float64)))
    chosen = np.where(empty | (np.abs(near - scale) <= _SAME_SCALE * scale), near, scale)
    biases = plain_biases(bias, chosen, source=source, output=output)
    plain = (np.abs(bias - biases * source * chosen) <= _SAME_BIAS * output) & (np.abs(biases) <= _BIAS_LIMIT)
    chosen = np.where(empty & ~plain, scale, chosen)
    return chosen.astype(np.float32), np.where(plain, biases, np.rint(bias / (source * chosen)))
