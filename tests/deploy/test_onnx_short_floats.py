"""ONNX files with 16-bit weights, in all layers or in some: results in ONNX Runtime and OpenVINO."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from random_graphs import Builder, finish, grouped, residual

from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import open_runnable
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.graph.operations.table import WEIGHTED

STORED = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
NEAR = 2e-5
"""Share of the largest output that the orders of float32 sums make; a weight rounded otherwise makes 10 to 100 times as much."""


def graph_and_images():
    """Convolutions of 3, 6 and more channels, groups, a residual sum and a linear layer, in float32."""
    builder = Builder(np.random.default_rng(0), quantized=False)
    graph = finish(builder, grouped(builder, residual(builder, builder.conv(builder.start(), 6))))
    return graph, builder.images


def short(tensors, form):
    """Tensors of a layer whose weight [Co, ...] has a scale for each channel and is stored in 16 bits, rounded by torch."""
    weight = torch.from_numpy(np.array(tensors["weight"]))
    scale = np.linspace(0.5, 2.0, len(weight)).astype(np.float32)
    if form == "float16":
        return {**tensors, "weight": weight.half().numpy(), "weight_scale": scale}
    return {**tensors, "weight": weight.bfloat16().view(torch.int16).numpy().view(np.uint16), "weight_scale": scale}


def with_short_weights(graph, form, chosen):
    """The graph whose layers with weights, counted from 0, are stored in ``form`` where ``chosen`` says so."""
    layers = [node.name for node in graph.nodes if node.op in WEIGHTED]
    picked = set(layers) if chosen is None else {layers[chosen]}

    def of(node):
        return replace(node, tensors=short(node.tensors, form)) if node.name in picked else node

    made = replace(graph, nodes=tuple(map(of, graph.nodes)))
    validate(made)
    return made, picked


CASES = [(form, chosen) for form in STORED for chosen in (None, 0, 2, -1)]


@pytest.mark.parametrize(("form", "chosen"), CASES)
def test_every_runtime_computes_what_the_graph_means(form, chosen, tmp_path):
    whole, images = graph_and_images()
    graph, picked = with_short_weights(whole, form, chosen)
    export_onnx(graph, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {name for name, kind in kinds.items() if kind == STORED[form]} == {f"{name}/weight" for name in picked}
    check_onnx(graph, tmp_path / "a.onnx", images)
    expected = run(graph, images)
    assert np.abs(expected - run(whole, images)).max() > 10 * NEAR * np.abs(expected).max()
    for runtime in ("onnxruntime", "openvino"):
        found = open_runnable(tmp_path / "a.onnx", runtime=runtime)(images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=NEAR * np.abs(expected).max(), err_msg=runtime)


@pytest.mark.parametrize("form", STORED)
def test_a_file_of_short_weights_has_half_the_bytes(form, tmp_path):
    graph, _ = graph_and_images()
    export_onnx(graph, tmp_path / "whole.onnx")
    export_onnx(with_short_weights(graph, form, None)[0], tmp_path / "short.onnx")
    names = ("whole.onnx", "short.onnx")
    files = [{one.name: one for one in onnx.load(tmp_path / name).graph.initializer} for name in names]
    sizes = [(tmp_path / name).stat().st_size for name in ("whole.onnx", "short.onnx")]
    assert sizes[1] < sizes[0]
    for node in graph.nodes:
        if node.op in WEIGHTED:
            assert [len(stored[f"{node.name}/weight"].raw_data) for stored in files] == [
                4 * node.tensors["weight"].size,
                2 * node.tensors["weight"].size,
            ]
