import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_runs import by_onnxruntime
from random_graphs import random_graph

from paretrim.deploy import onnx_file
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.onnx_operations import OPERATIONS as WRITERS
from paretrim.deploy.onnx_writer import Writer
from paretrim.errors import CorruptFile, ExportMismatch, MissingDependency, UnsupportedOperation
from paretrim.graph.interpreter import run
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


def test_every_operation_has_a_writer():
    assert {*WRITERS, "normalize", "quantize", "dequantize"} == set(OPERATIONS)


def test_what_the_file_says(tmp_path):
    graph, images = random_graph(3, quantized=True)
    export_onnx(graph, tmp_path / "a.onnx")
    export_onnx(graph, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said.pop("classes").split("\n") == list(graph.classes)
    assert {key: tuple(map(float, text.split(","))) for key, text in said.items()} == {
        "mean": graph.input.mean,
        "std": graph.input.std,
    }
    (images_in,), (logits,) = model.graph.input, model.graph.output
    assert (images_in.name, images_in.type.tensor_type.elem_type) == ("images", TensorProto.UINT8)
    assert images_in.type.tensor_type.shape.dim[0].dim_param == "N"
    assert logits.name == "logits"
    names = tuple(node.name for node in graph.nodes)
    assert all(constant.name.startswith(names) for constant in model.graph.initializer)
    for node in graph.nodes:
        if "weight" in node.tensors:
            (weight,) = (constant for constant in model.graph.initializer if constant.name == f"{node.name}/weight")
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), node.tensors["weight"])
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    several = [by_onnxruntime(tmp_path / "a.onnx", images[:count])["logits"] for count in (1, 3)]
    np.testing.assert_array_equal(several[0][0], several[1][0])


def test_a_narrow_clamp_is_written_and_a_wide_one_is_not(tmp_path):
    for zero_point, clips in ((0, 0), (40, 1)):
        kind = ValueType((1, 2, 2), "uint8", 0.5, zero_point)
        tensors = {
            "weight": np.ones((1, 1, 1, 1), np.int8),
            "weight_scale": np.ones(1, np.float32),
            "bias": np.zeros(1, np.int32),
        }
        nodes = (
            Node("q", "quantize", (INPUT,), ValueType((1, 2, 2), "uint8", 0.5, 128)),
            Node("c", "conv2d", ("q",), kind, {"lo": zero_point}, tensors),
            Node("r", "dequantize", ("c",), ValueType((1, 2, 2))),
            Node("f", "flatten", ("r",), ValueType((4,))),
        )
        graph = Graph(InputSpec((1, 2, 2)), nodes, ("f",))
        export_onnx(graph, tmp_path / "a.onnx")
        assert Counter(node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node)["Clip"] == clips
        images = np.array([-9, -1, 2, 400], np.float32).reshape(1, 1, 2, 2)
        np.testing.assert_array_equal(by_onnxruntime(tmp_path / "a.onnx", images)["logits"], run(graph, images))


@pytest.mark.parametrize("name", ["a/real", "a/scale", "logits"])
def test_names_that_the_file_has_for_something_else_are_changed(tmp_path, name):
    kind = ValueType((1, 2, 2), "uint8")
    nodes = (
        Node("a", "quantize", (INPUT,), kind),
        Node("b", "relu", ("a",), kind),
        Node(name, "relu", ("b",), kind),
        Node("r", "dequantize", (name,), ValueType((1, 2, 2))),
        Node("f", "flatten", ("r",), ValueType((4,))),
    )
    graph = Graph(InputSpec((1, 2, 2)), nodes, ("f",))
    export_onnx(graph, tmp_path / "a.onnx")
    images = np.array([-9, 0, 2, 400], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(by_onnxruntime(tmp_path / "a.onnx", images)["logits"], run(graph, images))


def test_two_values_of_one_name_are_not_written():
    writer = Writer({}, {})
    writer.add("Relu", ["x"], "y")
    with pytest.raises(UnsupportedOperation, match="two values of the ONNX file would be named 'y'; rename"):
        writer.add("Relu", ["y"], "y")
    with pytest.raises(UnsupportedOperation, match="two values of the ONNX file would be named 'y'; rename"):
        writer.constant("y", 1.0)


def test_an_invalid_graph_is_not_written(tmp_path):
    graph = Graph(InputSpec((1, 2, 2)), (Node("f", "flatten", (INPUT,), ValueType((5,))),), ("f",))
    with pytest.raises(CorruptFile, match="node 'f'"):
        export_onnx(graph, tmp_path / "a.onnx")


def test_a_file_onnx_refuses_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "OPSET", 7)  # QuantizeLinear is younger
    with pytest.raises(ExportMismatch, match="the ONNX checker refuses the exported graph"):
        export_onnx(random_graph(0, quantized=True)[0], tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_onnx_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match="pip install onnx"):
        export_onnx(random_graph(0, quantized=False)[0], tmp_path / "a.onnx")


def test_importing_needs_neither_torch_nor_a_runtime():
    code = (
        "import sys, paretrim.deploy.onnx_file, paretrim.deploy.runnable, paretrim.deploy.onnx_runtime, "
        "paretrim.deploy.openvino_runtime, paretrim.graph.interpreter, paretrim.graph.entropy;"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
