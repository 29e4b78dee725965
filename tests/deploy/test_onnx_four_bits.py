"""ONNX files that hold weights in four bits: the same network, in half the bytes."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from random_graphs import Builder, finish, grouped, residual

from paretrim.cli.main import main
from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.onnx_writer import FourBits
from paretrim.deploy.openvino_runtime import OpenVinoRunnable
from paretrim.deploy.write import write_graph
from paretrim.errors import InvalidRecipe, UnsupportedOperation
from paretrim.graph.interpreter import run
from paretrim.graph.operations.table import WEIGHTED


def graph_and_images(*, narrow=True):
    """Convolutions of 3, 6 and more channels, groups and a linear layer; with weights of four bits, or of eight."""
    builder = Builder(np.random.default_rng(0), quantized=True)
    graph = finish(builder, grouped(builder, residual(builder, builder.conv(builder.start(), 6))))
    return (narrowed(graph) if narrow else graph), builder.images


def narrowed(graph):
    def four(node):
        tensors = node.tensors
        if node.op in WEIGHTED:
            tensors = {**tensors, "weight": tensors["weight"] >> 4, "weight_scale": tensors["weight_scale"] * 16}
        return replace(node, tensors=tensors)

    return replace(graph, nodes=tuple(map(four, graph.nodes)))


def unpacked(tensor):
    """The integers of an INT4 tensor as the standard packs them: two in a byte, the first in the lower half."""
    bytes_ = np.frombuffer(tensor.raw_data, np.uint8)
    values = np.stack([bytes_ & 15, bytes_ >> 4], 1).reshape(-1)[: np.prod(tensor.dims)].astype(np.int8)
    return np.where(values > 7, values - 16, values).reshape(tensor.dims)


@pytest.mark.parametrize("block", [0, 2, 32])
def test_every_node_computes_the_same_in_onnx_runtime(tmp_path, block):
    graph, images = graph_and_images()
    export_onnx(graph, tmp_path / "a.onnx", four_bits=FourBits(block))
    check_onnx(graph, tmp_path / "a.onnx", images)


@pytest.mark.parametrize("block", [0, 2])
def test_openvino_runs_it(tmp_path, block):
    graph, images = graph_and_images()
    export_onnx(graph, tmp_path / "a.onnx", four_bits=FourBits(block))
    found, expected = OpenVinoRunnable.open(tmp_path / "a.onnx", 1)(images), run(graph, images)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("block", [0, 2])
def test_weights_stand_in_four_bits_with_a_scale_for_every_block(tmp_path, block):
    graph, _ = graph_and_images()
    export_onnx(graph, tmp_path / "a.onnx", four_bits=FourBits(block))
    model = onnx.load(tmp_path / "a.onnx")
    assert model.opset_import[0].version == 21
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in graph.nodes:
        if node.op not in WEIGHTED:
            continue
        weight = stored[f"{node.name}/weight"]
        assert weight.data_type == TensorProto.INT4
        assert np.array_equal(unpacked(weight), node.tensors["weight"])
        assert len(weight.raw_data) == -(-node.tensors["weight"].size // 2)
        scales, (outputs, inputs, *kernel) = list(stored[f"{node.name}/weight/scale"].dims), node.tensors["weight"].shape
        assert scales == ([outputs, inputs // block, *kernel] if block and inputs % block == 0 else [outputs])


def test_only_layers_that_fit_have_four_bits_and_some_layer_must(tmp_path):
    graph, _ = graph_and_images(narrow=False)
    with pytest.raises(
        UnsupportedOperation, match="none of the 5 layers has weights of four bits, from -8 to 7 or in groups that"
    ):
        export_onnx(graph, tmp_path / "a.onnx", four_bits=FourBits())
    narrow = {node.name: node for node in narrowed(graph).nodes if node.op == "linear"}
    mixed = replace(graph, nodes=tuple(narrow.get(node.name, node) for node in graph.nodes))
    export_onnx(mixed, tmp_path / "a.onnx", four_bits=FourBits())
    kinds = [tensor.data_type for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer if tensor.name.endswith("/weight")]
    assert kinds == [TensorProto.INT8] * 4 + [TensorProto.INT4]


@pytest.mark.parametrize("block", [8, 16, 32])
def test_weights_in_groups_have_a_scale_of_their_own_in_every_block(tmp_path, block):
    """Where blocks divide groups; else the layer keeps its integers, as one of eight bits."""
    random = np.random.default_rng(0)
    builder = Builder(random, quantized=True)
    graph = finish(builder, builder.conv(builder.conv(builder.start(), 64), 64))
    small, multiples = random.integers(-7, 8, (64, 64, 1, 1)), random.integers(1, 19, (64, 4))
    small[:, ::16] = 7  # so that no larger multiple fits
    weight = (small.reshape(64, 4, 16) * multiples[:, :, None]).astype(np.int8).reshape(small.shape)
    wide = next(node for node in graph.nodes if node.op == "conv2d" and node.tensors["weight"].shape[1] == 64)
    weight = np.broadcast_to(weight, wide.tensors["weight"].shape).copy()
    graph = replace(
        graph, nodes=tuple(replace(n, tensors={**n.tensors, "weight": weight}) if n is wide else n for n in graph.nodes)
    )
    if block == 32:
        with pytest.raises(UnsupportedOperation, match="none of the 3 layers has weights of four bits"):
            export_onnx(graph, tmp_path / "a.onnx", four_bits=FourBits(block))
        return
    export_onnx(graph, tmp_path / "a.onnx", four_bits=FourBits(block))
    stored = {tensor.name: tensor for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer}
    tensor, scales = stored[f"{wide.name}/weight"], numpy_helper.to_array(stored[f"{wide.name}/weight/scale"])
    assert tensor.data_type == TensorProto.INT4
    assert scales.shape[:2] == (64, 64 // block)
    expected = weight * wide.tensors["weight_scale"].reshape(-1, 1, 1, 1)
    assert np.allclose(unpacked(tensor) * scales.repeat(block, axis=1), expected, rtol=1e-6, atol=0)
    check_onnx(graph, tmp_path / "a.onnx", builder.images)


def test_a_block_below_zero_is_refused():
    with pytest.raises(InvalidRecipe, match="block is -1; give at least 1 input channel, or 0 for one scale per output channel"):
        FourBits(-1)


def test_export_writes_it(tmp_path, capsys):
    graph, images = graph_and_images()
    write_graph(graph, tmp_path / "a.graph")
    assert main(["export", str(tmp_path / "a.graph"), "--to", str(tmp_path / "a.onnx"), "--int4", "2"]) == 0
    check_onnx(graph, tmp_path / "a.onnx", images)
    assert main(["export", str(tmp_path / "a.graph"), "--to", str(tmp_path / "a.trim"), "--int4", "2"]) == 2
    assert "--int4 writes an ONNX file, and" in capsys.readouterr().err
