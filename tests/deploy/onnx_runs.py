"""An ONNX file run by both runtimes, and every operation in it compared with the interpreter on the same inputs."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

from paretrim.bench.machine import describe
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.saturation import EXACT_SUMS, may_saturate
from paretrim.graph.interpreter import compute, run
from paretrim.graph.types import INPUT

STEPS = 1
"""Bound for one operation on equal inputs: runtimes multiply by scales that were rounded in another order, at most a unit in
the last place away, which only moves results that lie within that distance of a tie to the neighbouring step."""


def by_onnxruntime(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry(*EXACT_SUMS)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, {INPUT: images}), strict=True))


def by_openvino(path, images):
    core = openvino.Core()
    model = core.read_model(str(path))
    names = [value.get_any_name() for value in model.outputs]
    model.reshape(list(images.shape))
    settings_ = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    outputs = core.compile_model(model, "CPU", settings_)([images])
    return dict(zip(names, outputs.values(), strict=True))


RUNTIMES = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}


def expose(graph, path):
    """Add every quantized value to the outputs of the file."""
    model = onnx.load(path)
    for node in graph.nodes:
        if node.type.quantized:
            model.graph.output.append(helper.make_tensor_value_info(node.name, TensorProto.UINT8, ["N", *node.type.shape]))
    onnx.save(model, path)


def exact(graph, runtime):
    """The graph, or one with small weights where the runtime could not add products of larger ones exactly."""
    if runtime != "openvino" or not may_saturate(graph, describe()):
        return graph

    def small(node):
        weight = node.tensors.get("weight")
        return node if weight is None else replace(node, tensors={**node.tensors, "weight": weight // 2})

    return replace(graph, nodes=tuple(map(small, graph.nodes)))


def assert_every_operation_agrees(graph, images, path, runtime, *, steps=STEPS):
    """Each node on the very inputs it had in the runtime, so that a deviation cannot hide in or come from an earlier one."""
    graph = exact(graph, runtime)
    export_onnx(graph, path)
    expose(graph, path)
    found = RUNTIMES[runtime](path, images)
    found |= {INPUT: images, graph.output: found["logits"]}
    types = graph.types
    for node in graph.nodes:
        inputs, kinds = tuple(found[name] for name in node.inputs), tuple(types[name] for name in node.inputs)
        expected = compute(node, inputs, kinds, graph.input)
        if node.type.quantized:
            assert found[node.name].dtype == np.uint8
            distance = np.abs(expected.astype(int) - found[node.name])
            bound = 0 if kinds[0].quantized and node.op == "quantize" else steps
            assert distance.max() <= bound, f"{runtime} {node.name} {dict(node.attributes)}"
        else:
            np.testing.assert_allclose(found[node.name], expected, rtol=1e-5, atol=1e-5)


def assert_no_step_off(path, graph, images, runtime):
    export_onnx(graph, path)
    found, expected = RUNTIMES[runtime](path, images)["logits"], run(graph, images)
    np.testing.assert_allclose(found, expected, atol=graph.nodes[-2].type.scale / 2)
