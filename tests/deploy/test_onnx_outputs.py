"""Networks of several outputs as ONNX files: names, values in every runtime, the check, and the native runtime as an operator."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx_runs import exact
from random_graphs import random_graph

from paretrim import trimfile
from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.onnx_operator import export_operator
from paretrim.deploy.runnable import RUNTIMES, open_outputs, open_runnable, verify
from paretrim.errors import ExportMismatch, UnsupportedOperation
from paretrim.graph.interpreter import run_outputs

HEADS = 3


def written(graph, folder):
    """The graph's files by the runtime that opens them."""
    export_onnx(graph, folder / "model.onnx")
    trimfile.write(graph, folder / "model.trim")
    return {runtime: folder / ("model.onnx" if runtime in ("onnxruntime", "openvino") else "model.trim") for runtime in RUNTIMES}


def test_a_file_names_its_outputs(tmp_path):
    graph, _ = random_graph(2, quantized=True, heads=HEADS)
    export_onnx(graph, tmp_path / "model.onnx")
    outputs = onnx.load(tmp_path / "model.onnx").graph.output
    assert tuple(output.name for output in outputs) == graph.outputs
    shapes = [tuple(axis.dim_value for axis in output.type.tensor_type.shape.dim[1:]) for output in outputs]
    assert tuple(shapes) == graph.output_shapes


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_runtime_returns_every_output(tmp_path, seed, runtime):
    graph, images = random_graph(seed, quantized=True, heads=HEADS)
    graph = exact(graph, runtime)
    runnable = open_runnable(written(graph, tmp_path)[runtime], runtime=runtime)
    found, expected = runnable.outputs(images), run_outputs(graph, images)
    assert [output.shape for output in found] == [output.shape for output in expected]
    if runtime in ("paretrim", "reference"):
        assert all(map(np.array_equal, found, expected))
    for output, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(output, other, atol=0.1 * np.abs(other).max())
    agreement = verify(graph, runnable, images)
    assert agreement.images == len(images)
    assert agreement.worst_absolute == pytest.approx(max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)))
    with pytest.raises(UnsupportedOperation, match=r"the network has 3 outputs; call outputs\(images\)"):
        runnable(images)
    timed = open_outputs(written(graph, tmp_path)[runtime], runtime=runtime, threads=1)
    assert all(map(np.array_equal, timed(images), found))


@pytest.mark.parametrize("quantized", [True, False])
def test_names_of_outputs_are_free_for_nodes(tmp_path, quantized):
    """Nodes with the name of an output: the output keeps its name, the other node is renamed."""
    graph, images = random_graph(5, quantized=quantized, heads=HEADS)
    names = {graph.outputs[1]: "output_0", graph.nodes[1].name: "output_2", graph.outputs[2]: "a/b"}

    def named(name):
        return names.get(name, name)

    nodes = tuple(replace(node, name=named(node.name), inputs=tuple(map(named, node.inputs))) for node in graph.nodes)
    graph = replace(graph, nodes=nodes, outputs=tuple(map(named, graph.outputs)))
    export_onnx(graph, tmp_path / "model.onnx")
    check_onnx(graph, tmp_path / "model.onnx", images)
    found = open_runnable(tmp_path / "model.onnx", runtime="onnxruntime").outputs(images)
    for output, other in zip(found, run_outputs(graph, images), strict=True):
        np.testing.assert_allclose(output, other, atol=0.1 * np.abs(other).max())


def test_the_check_finds_outputs_that_are_exchanged(tmp_path):
    graph, images = random_graph(7, quantized=True, heads=2)
    export_onnx(graph, tmp_path / "model.onnx")
    check_onnx(graph, tmp_path / "model.onnx", images)
    model = onnx.load(tmp_path / "model.onnx")
    ends = [node for node in model.graph.node if node.op_type == "Identity"]
    (first,), (second,) = ends[0].input, ends[1].input
    ends[0].input[:], ends[1].input[:] = [second], [first]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportMismatch, match="every single node is right, but the whole file"):
        check_onnx(graph, tmp_path / "model.onnx", images)


def test_verify_refuses_outputs_of_another_network(tmp_path):
    graph, images = random_graph(1, quantized=True, heads=2)
    files = written(graph, tmp_path)
    one = replace(graph, outputs=graph.outputs[:1])
    with pytest.raises(
        ExportMismatch, match=r"gives logits \(3, 5\), \(3, \d+\), finite: True; the graph gives finite \(3, 5\);"
    ):
        verify(one, open_runnable(files["reference"], runtime="reference"), images)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_operator_returns_every_output(tmp_path, threads):
    graph, images = random_graph(9, quantized=True, heads=HEADS)
    export_operator(trimfile.to_bytes(graph), tmp_path / "native.onnx", threads=threads)
    found = open_runnable(tmp_path / "native.onnx", runtime="onnxruntime", threads=threads).outputs(images)
    expected = run_outputs(graph, images)
    assert [output.shape for output in found] == [output.shape for output in expected]
    assert all(map(np.array_equal, found, expected))
