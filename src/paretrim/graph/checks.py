"""Checks that a graph is what ``docs/integer-graph.md`` describes, before it is stored, exported or used."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from paretrim.errors import CorruptFile, UnsupportedOperation, located
from paretrim.graph import windows
from paretrim.graph.dtypes import ELEMENT_TYPES, KNOWN, all_finite, all_represented_finite, pieces, type_name, widened
from paretrim.graph.names import LONGEST_NAME, UNSEEN
from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.table import GRID_PRESERVING, OPERATIONS, WEIGHTED
from paretrim.graph.shapes import infer_shape, settings_of
from paretrim.graph.types import INPUT, Array, Graph, InputSpec, Node, ValueType

__all__ = ["infer_shape", "validate"]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Scales below are subnormal in float32, where processors may flush to zero."""


def validate(graph: Graph) -> None:
    """Check shapes, types, grids, attributes and tensors of every node, and that no int32 accumulator can overflow.

    Raises:
        UnsupportedOperation: a node breaks a shape or attribute rule of its operation.
        CorruptFile: a type, a grid or the content of a tensor is outside what the page allows.
    """
    _check_input(graph.input)
    types = graph.types
    for node in graph.nodes:
        with located(f"node '{node.name}' (layer '{node.layer}', {node.op})"):
            _check_node(node, tuple(types[name] for name in node.inputs), graph.input)
    _check_outputs(graph, types)
    if graph.classes:
        _check_classes(graph, types[graph.outputs[0]])


def _check_outputs(graph: Graph, types: Mapping[str, ValueType]) -> None:
    for name in graph.outputs:
        if name == INPUT or types[name].quantized:
            raise CorruptFile(
                f"the output '{name}' is {types[name].dtype} {types[name].shape}; outputs are float32 values of nodes"
            )
        if graph.outputs.count(name) > 1:
            raise CorruptFile(f"the output '{name}' is named twice; name it once")


def _check_classes(graph: Graph, logits: ValueType) -> None:
    """Class names are those of the one output's first axis: of logits, or of the channels of a map."""
    if len(graph.outputs) != 1:
        raise CorruptFile(f"class names were given for a network of {len(graph.outputs)} outputs; leave them out")
    if len(graph.classes) != logits.shape[0]:
        what = "logits" if len(logits.shape) == 1 else "channels of a map"
        raise CorruptFile(
            f"{len(graph.classes)} class names were given for {logits.shape[0]} {what}; leave them out or give one each"
        )


def _check_input(spec: InputSpec) -> None:
    if len(spec.shape) != 3 or any(extent < 1 for extent in spec.shape):
        raise CorruptFile(f"the input has shape {spec.shape}; it must be (C, H, W)")
    if bool(spec.mean) != bool(spec.std) or (spec.std and not len(spec.mean) == len(spec.std) == spec.shape[0]):
        raise CorruptFile(
            f"the input of shape {spec.shape} has mean {spec.mean} and std {spec.std}; give one number per channel or neither"
        )
    if not all(math.isfinite(value) for value in spec.mean) or not all(math.isfinite(value) and value > 0 for value in spec.std):
        raise CorruptFile(f"the input has mean {spec.mean} and std {spec.std}; they must be finite and std above 0")


def _check_node(node: Node, inputs: tuple[ValueType, ...], spec: InputSpec) -> None:
    if not node.name or len(node.name) > LONGEST_NAME or UNSEEN.search(node.name):
        raise CorruptFile(f"a node name must be 1 to {LONGEST_NAME} printable characters")
    _check_grid(node.type)
    settings = settings_of(node)
    OPERATIONS[node.op].check(settings)
    shape = infer_shape(node.op, node.attributes, [value.shape for value in inputs], node.tensors)
    if shape != node.type.shape:
        raise CorruptFile(f"its type has shape {node.type.shape} and its operation computes {shape}; give it that shape")
    _check_types(node, inputs, spec)
    _check_tensors(node, inputs[0], spec)
    if node.type.quantized:
        _check_clamp(settings)
        _check_ratios(node, inputs)
    elif "lo" in node.attributes or "hi" in node.attributes:
        raise UnsupportedOperation("lo and hi clamp quantized values and the result is float32; use clamp or relu")


def _check_grid(value: ValueType) -> None:
    if value.dtype not in ELEMENT_TYPES:
        raise CorruptFile(f"its dtype is '{value.dtype}'; a value is {KNOWN}")
    if not (math.isfinite(value.scale) and value.scale >= SMALLEST_SCALE and float(np.float32(value.scale)) == value.scale):
        raise CorruptFile(f"its scale is {value.scale!r}; it must be a positive normal float32")
    if not 0 <= value.zero_point <= 255:
        raise CorruptFile(f"its zero point is {value.zero_point}; it must lie in 0..255")


def _check_clamp(settings: Settings) -> None:
    if "lo" in settings.values:
        low, high = settings.integer("lo"), settings.integer("hi")
        if not 0 <= low <= high <= 255:
            raise CorruptFile(f"it clamps to {low}..{high}; the range must lie in 0..255 and not be empty")


def _check_ratios(node: Node, inputs: tuple[ValueType, ...]) -> None:
    """The multipliers of an operation between grids must be finite in float32, and so must the largest sum of an add."""
    rescaling = OPERATIONS[node.op].rescaling
    if rescaling == "none":
        return
    scales, output = [np.float32(value.scale) for value in inputs], np.float32(node.type.scale)
    with np.errstate(over="ignore"):
        ratios = [np.multiply.reduce(scales) / output] if rescaling == "product" else [scale / output for scale in scales]
        if rescaling == "sum":
            ratios.append(np.float32(255) * np.add.reduce(ratios))
    if not np.isfinite(ratios).all():
        raise CorruptFile(
            f"the scales {', '.join(map(str, scales))} of its inputs overflow float32 on its grid of scale {output}; "
            "give it a coarser grid"
        )


def _check_types(node: Node, inputs: tuple[ValueType, ...], spec: InputSpec) -> None:
    operation = OPERATIONS[node.op]
    reads_pixels = spec.takes_pixels and INPUT in node.inputs
    if operation.grid == "pixels" or reads_pixels:
        if not reads_pixels or operation.grid not in ("pixels", "enters"):
            raise UnsupportedOperation("only normalize and quantize read pixels, and normalize reads nothing else")
        if node.type.quantized != (operation.grid == "enters"):
            kind = "uint8" if operation.grid == "enters" else "float32"
            raise CorruptFile(f"{node.op} cannot give {node.type.dtype}; it gives {kind}")
        return
    if len({value.dtype for value in inputs}) != 1:
        raise UnsupportedOperation(
            f"its inputs are {[value.dtype for value in inputs]}; quantize or dequantize one of them first"
        )
    quantized = inputs[0].quantized
    if quantized and not operation.ships:
        raise UnsupportedOperation(f"{node.op} is only for training; fold the float graph before quantizing it")
    if quantized and operation.grid == "float_only":
        raise UnsupportedOperation(
            f"{node.op} is only for float values; use lo and hi of the node before it, or a pointwise table"
        )
    expected = {"enters": (False, True), "leaves": (True, False)}.get(operation.grid, (quantized, quantized))
    float_result = operation.weighted and quantized and not node.type.quantized
    if (quantized, node.type.quantized) != expected and not float_result:
        raise UnsupportedOperation(f"it converts {inputs[0].dtype} to {node.type.dtype}; insert a quantize or dequantize")
    if _moves_off_grid(node, inputs[0]):
        raise CorruptFile(
            f"its grid is scale {node.type.scale}, zero point {node.type.zero_point}; it keeps that of its input,"
            f" scale {inputs[0].scale}, zero point {inputs[0].zero_point}"
        )


def _moves_off_grid(node: Node, source: ValueType) -> bool:
    same = (node.type.scale, node.type.zero_point) == (source.scale, source.zero_point)
    return node.op in GRID_PRESERVING and source.quantized and not same


def _check_tensors(node: Node, source: ValueType, spec: InputSpec) -> None:
    operation = OPERATIONS[node.op]
    wanted = operation.integer_tensors if source.quantized else operation.real_tensors
    needed = {name for name, rule in wanted.items() if not rule.optional}
    if not needed <= set(node.tensors) <= set(wanted):
        raise CorruptFile(f"it has the tensors {sorted(node.tensors)}; it must have {sorted(wanted)}")
    for name, tensor in node.tensors.items():
        rule, dtype, shape = wanted[name], type_name(tensor), wanted[name].shape_in(node, name)
        if dtype not in (rule.dtype, *rule.also) or tensor.shape != shape:
            raise CorruptFile(f"its {name} is {dtype} {tensor.shape}; it must be {' or '.join((rule.dtype, *rule.also))} {shape}")
        if dtype in ("float32", "float16", "bfloat16") and not _finite(tensor, dtype):
            raise CorruptFile(f"its {name} holds NaN or infinity; use finite numbers")
    if "variance" in wanted:
        epsilon = settings_of(node).number("epsilon")
        if epsilon is None or node.tensors["variance"].astype(np.float64).min() + epsilon <= 0:
            raise CorruptFile("variance + epsilon must be above 0 in every channel; give epsilon, or a larger one")
    if node.op in WEIGHTED and source.quantized:
        _check_weight(node, source)
    elif node.op in WEIGHTED:
        _check_stored_weight(node)
    if "table" in wanted:
        _check_table(node, source, spec)


def _finite(tensor: Array, dtype: str) -> bool:
    if dtype == "float32":
        return all_finite(tensor)
    return all(all_finite(widened(part)) for _, part in pieces(tensor))


def _check_weight(node: Node, source: ValueType) -> None:
    if node.tensors["weight"].min() < -127:
        raise CorruptFile("its weight holds -128; integer weights lie in -127..127")
    scales = node.tensors["weight_scale"].astype(np.float64)
    products = source.scale * scales
    multipliers = products / (node.type.scale if node.type.quantized else 1.0)
    smallest = min(scales.min(), products.min(), multipliers.min())
    largest = max(products.max(), multipliers.max())
    if smallest < SMALLEST_SCALE or largest > np.finfo(np.float32).max:
        raise CorruptFile(
            f"its weight_scale lies in {scales.min()}..{scales.max()}; scales and their products must be normal float32 above 0"
        )
    bound = windows.largest_accumulator(node.tensors["weight"], node.tensors["bias"], source.zero_point)
    if bound >= 2**31:
        raise CorruptFile(f"its accumulator can reach {bound}, beyond int32; use smaller weights or a smaller bias")


def _check_stored_weight(node: Node) -> None:
    """A weight of a float layer: the numbers it represents must be finite."""
    dtype, scaled = type_name(node.tensors["weight"]), "weight_scale" in node.tensors
    if (dtype == "int8" and not scaled) or (dtype == "float32" and scaled):
        raise CorruptFile(
            f"its weight is {dtype} {'with' if scaled else 'without'} weight_scale; int8 has one and float32 has none"
        )
    if dtype == "int8" and node.tensors["weight"].min() < -127:
        raise CorruptFile("its weight holds -128; integer weights lie in -127..127")
    if not scaled:
        return
    if node.tensors["weight_scale"].min() < SMALLEST_SCALE:
        raise CorruptFile("its weight_scale must be normal float32 above 0")
    with np.errstate(over="ignore"):
        if not all_represented_finite(node.tensors):
            raise CorruptFile("its weight times its weight_scale overflows float32; use smaller scales")


def _check_table(node: Node, source: ValueType, spec: InputSpec) -> None:
    table = OPERATIONS[node.op].table
    assert table is not None, f"{node.op} has a table and does not say which"
    with np.errstate(all="ignore"):  # numbers of a forged file may overflow float64; they end up at the ends of the grid
        expected = table(settings_of(node), source, node.type, spec)
    # Other mathematics libraries may be off by one step: the last bit of exp can decide a tie.
    worst = int(np.abs(node.tensors["table"].astype(np.int64) - expected.astype(np.int64)).max())
    if worst > 1:
        raise CorruptFile(f"its table differs from its function by {worst} steps; build it with paretrim.graph.functions")
