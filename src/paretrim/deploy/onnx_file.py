"""Writes a graph as an ONNX file: float graphs directly, integer graphs in QDQ format (QuantizeLinear and DequantizeLinear).

Every quantized value is a uint8 value of the file with its node's name. Its producer computes on dequantized inputs, between a
DequantizeLinear and a QuantizeLinear, which ONNX Runtime and OpenVINO recognise and run in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from paretrim.deploy.onnx_operations import OPERATIONS
from paretrim.deploy.onnx_writer import FLOAT, FourBits, OnnxOperation, Writer, graph_facts
from paretrim.errors import ExportMismatch, MissingDependency, UnsupportedOperation
from paretrim.files import path_of, write_atomically
from paretrim.graph.checks import validate
from paretrim.graph.functions import pixel_affine, pixel_table, pixel_values
from paretrim.graph.names import free_name
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.outputs import output_names
from paretrim.graph.types import INPUT, Array, Graph, InputSpec, Node

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSET = 17
"""The newest operator set that all supported releases of ONNX Runtime and OpenVINO optimise; nothing newer is needed."""

IR_VERSION = 8
"""The IR version of :data:`OPSET`."""

OPSET_FOUR_BITS, IR_FOUR_BITS = 21, 10
"""The versions that 4-bit weights need."""

_INT32 = 6  # TensorProto.INT32, fixed by the ONNX standard


def export_onnx(
    graph: Graph, path: Path | str, *, facts: Mapping[str, str] = MappingProxyType({}), four_bits: FourBits | None = None
) -> None:
    """Check a graph and write it as ONNX with a dynamic batch size; an existing file is replaced in one step.

    The input ``images`` is uint8 pixels [N, C, H, W] if the graph takes pixels, otherwise float32; the output ``logits`` is
    float32 [N, classes]. Several outputs, float32 [N, ...], have the names of ``graph.outputs``, with dots for slashes. Equal
    graphs give equal bytes. The metadata holds the class names under ``classes``, one per line, how
    pixels are normalised under ``mean`` and ``std``, and ``facts``.

    ``four_bits`` stores weights that fit into four bits as INT4 (operator set 21); results stay the same. Today's runtimes
    compute such layers in floating point, so the file is smaller but not faster.

    Raises:
        UnsupportedOperation: the graph breaks a rule of its operations, or ``four_bits`` is given and no weight fits.
        CorruptFile: a type or tensor of the graph is invalid.
        MissingDependency: the package onnx is not installed.
        ExportMismatch: the ONNX checker refuses the file, which is a bug in this module.
        OutOfSpace: the disk is full; the old file is intact.
    """
    path = path_of(path)
    if not isinstance(graph, Graph):
        raise UnsupportedOperation(f"the graph is of type {type(graph).__name__}; give a Graph, such as the .graph of a result")
    validate(graph)
    if four_bits is not None:
        _require_four_bits(graph, four_bits)
    model = _model(graph, facts, four_bits)
    write_atomically(path, model.SerializeToString(deterministic=True))


def _require_four_bits(graph: Graph, four_bits: FourBits) -> None:
    weights = [node.tensors["weight"] for node in graph.nodes if node.op in WEIGHTED]
    if not any(weight.dtype == np.int8 and four_bits.split(weight) for weight in weights):
        raise UnsupportedOperation(
            f"none of the {len(weights)} layers has weights of four bits, from -8 to 7 or in groups that blocks divide; quantize "
            "with weight_bits = 4 or less, or leave --int4 (in Python four_bits) out"
        )


def _model(graph: Graph, facts: Mapping[str, str] = MappingProxyType({}), four_bits: FourBits | None = None) -> ModelProto:
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise MissingDependency("writing ONNX files needs the package onnx; install it with: pip install onnx") from error
    names = file_output_names(graph)
    graph = with_file_names(graph)
    writer = Writer(graph.types, {node.name: node.op for node in graph.nodes}, four_bits=four_bits)
    for node in graph.nodes:
        _write_node(writer, node, graph)
    for name, output in zip(graph.outputs, names, strict=True):
        writer.add("Identity", [writer.real(name)], output)
    element = TensorProto.UINT8 if graph.input.takes_pixels else TensorProto.FLOAT
    body = helper.make_graph(
        [_node_proto(item) for item in writer.operations],
        "paretrim",
        [helper.make_tensor_value_info(INPUT, element, ["N", *graph.input.shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
            for name, shape in zip(names, graph.output_shapes, strict=True)
        ],
        [_constant(writer, name, array) for name, array in writer.constants.items()],
    )
    opset, version = (OPSET, IR_VERSION) if four_bits is None else (OPSET_FOUR_BITS, IR_FOUR_BITS)
    model = helper.make_model(body, producer_name="paretrim", ir_version=version, opset_imports=[helper.make_opsetid("", opset)])
    props = {**graph_facts(graph), **facts}
    if props:
        helper.set_model_props(model, props)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportMismatch(f"the ONNX checker refuses the exported graph: {error}; please report this") from error
    return model


def _constant(writer: Writer, name: str, array: Array) -> TensorProto:
    from onnx import TensorProto, helper, numpy_helper

    if name in writer.packed:
        return _packed(name, array)
    if name in writer.brain:
        return helper.make_tensor(name, TensorProto.BFLOAT16, array.shape, array.astype("<u2").tobytes(), raw=True)
    return numpy_helper.from_array(np.asarray(array), name)


def _packed(name: str, values: Array) -> TensorProto:
    """A constant of integers from -8 to 7, two per byte, the first in the low half."""
    from onnx import TensorProto, helper

    pairs = np.resize(values.reshape(-1), values.size + values.size % 2).astype(np.uint8) & 15
    if values.size % 2:
        pairs[-1] = 0
    return helper.make_tensor(name, TensorProto.INT4, values.shape, (pairs[::2] | pairs[1::2] << 4).tobytes(), raw=True)


def file_output_names(graph: Graph) -> tuple[str, ...]:
    """Names of the outputs in the file."""
    names: list[str] = []
    for name in output_names(graph):
        names.append(free_name(name.replace("/", "."), names))
    return tuple(names)


def with_file_names(graph: Graph) -> Graph:
    """The graph with the names that its values have in the file: without slashes, and no other value has the name of an output.

    The nodes keep their order. An output node keeps its name only if it is a dequantize node, whose value has no other name in
    the file.
    """
    names = dict(zip(file_output_names(graph), graph.outputs, strict=True))
    taken, renamed = {*names, *graph.types}, {}
    for node in graph.nodes:
        is_file_output = names.get(node.name) == node.name and node.op == "dequantize"
        if "/" in node.name or (node.name in names and not is_file_output):
            renamed[node.name] = free_name(node.name.replace("/", "."), taken)
            taken.add(renamed[node.name])
    if not renamed:
        return graph
    nodes = tuple(
        replace(node, name=renamed.get(node.name, node.name), inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def _node_proto(operation: OnnxOperation) -> NodeProto:
    from onnx import helper

    node = helper.make_node(operation.op, operation.inputs, [operation.output], name=operation.name)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(operation.attributes.items()))
    return node


def _write_node(writer: Writer, node: Node, graph: Graph) -> None:
    if node.op == "normalize":
        writer.finish(node, "Add", _normalized(writer, node, graph.input))
    elif node.op == "quantize" and graph.types[node.inputs[0]].quantized:
        if _far_from_ties(node, graph.input):
            writer.finish(node, "Add", _normalized(writer, node, graph.input))
        else:
            _look_up(writer, node)
    elif node.op == "quantize":
        writer.quantize(node.inputs[0], node.name, node.type)
    elif node.op == "dequantize":
        read = any(node.name in other.inputs for other in graph.nodes)
        writer.alias(node.name, _in_plain_arithmetic(writer, node) if read else writer.real(node.inputs[0]))
    else:
        OPERATIONS[node.op](writer, node)


def _in_plain_arithmetic(writer: Writer, node: Node) -> str:
    """A dequantize node, bit for bit, without DequantizeLinear, for layers that compute in float32.

    Between a DequantizeLinear and a QuantizeLinear, ONNX Runtime (1.20 and later) quantizes float weights of a Conv,
    ConvTranspose or Gemm to int8 (its WeightBiasQuantization). These layers are float so that this does not happen.
    """
    kind = writer.types[node.inputs[0]]
    steps = writer.add("Cast", [node.inputs[0]], f"{node.name}/cast", {"to": FLOAT})
    centered = writer.add("Sub", [steps, writer.constant(f"{node.name}/zero_point", kind.zero_point)], f"{node.name}/centered")
    return writer.add("Mul", [centered, writer.constant(f"{node.name}/scale", kind.scale)], f"{node.name}/real")


def _normalized(writer: Writer, node: Node, spec: InputSpec) -> list[str]:
    """The two values whose sum is the normalised pixel."""
    factor, term = pixel_affine(spec)
    pixels = writer.add("Cast", [INPUT], f"{node.name}/cast", {"to": FLOAT})
    scaled = writer.add("Mul", [pixels, writer.constant(f"{node.name}/factor", factor)], f"{node.name}/mul")
    return [scaled, writer.constant(f"{node.name}/term", term)]


def _far_from_ties(node: Node, spec: InputSpec) -> bool:
    """Whether float32 arithmetic in any order gives exactly the node's table.

    Ties are common: with mean and std 0.5, every pixel lies halfway between two steps.
    """
    steps = pixel_values(spec) / node.type.scale
    # Bounds intermediate results in steps; each of a few operations is off by at most half an ulp of that.
    largest = np.abs(steps).max() + np.abs(spec.mean).max() / min(spec.std) / node.type.scale + 255
    reach = 8 * 2.0**-24 * float(largest)
    distance = np.abs(steps - np.floor(steps) - 0.5).min()
    return bool(distance > reach) and np.array_equal(node.tensors["table"], pixel_table(spec, node.type))


def _look_up(writer: Writer, node: Node) -> None:
    """The table itself: slightly slower than arithmetic, but exact."""
    channels = len(node.tensors["table"])
    index = writer.add("Cast", [INPUT], f"{node.name}/cast", {"to": _INT32})
    if channels > 1:
        offsets = (256 * np.arange(channels)).reshape(channels, 1, 1)
        index = writer.add("Add", [index, writer.constant(f"{node.name}/offsets", offsets, np.int32)], f"{node.name}/index")
    table = writer.constant(f"{node.name}/table", node.tensors["table"].reshape(-1), np.uint8)
    writer.add("Gather", [table, index], node.name)
