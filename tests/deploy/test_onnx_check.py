"""The check of ONNX files finds and names an error in one layer of any network, and accepts rounding differences."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from random_graphs import BLOCKS, Builder, finish, random_graph
from torch import nn

from paretrim.data.digits import load_digits
from paretrim.deploy import onnx_check, onnx_operations
from paretrim.deploy.onnx_check import check_onnx, export_checked, random_images
from paretrim.deploy.onnx_file import export_onnx
from paretrim.errors import DataUnavailable, ExportMismatch
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network.freeze import freeze
from paretrim.run.own import start_from_loaders
from paretrim.run.pipeline import run_stages
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget


class Branches(nn.Module):
    """Every operation whose grids differ: a depthwise convolution, a gate, a sum, a concat, a shuffle, pools."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8))
        self.gate = nn.Conv2d(8, 8, 1)
        self.narrow = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.head = nn.Linear(16, 10)

    def forward(self, images):
        x = self.stem(images)
        x = torch.relu(self.depthwise(x) * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))) + x)
        x = torch.cat([self.narrow(x), x], 1)
        x = x.reshape(-1, 2, 8, 8, 8).transpose(1, 2).reshape(-1, 16, 8, 8)
        return self.head(self.pool(x).mean((2, 3)))


@pytest.fixture(scope="module", params=["untrained", "trained"])
def deployed(request, tmp_path_factory):
    """An integer graph and images for it."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = digits.train.images.float() / 255 - 0.5, digits.train.labels
    module = Branches()
    if request.param == "trained":
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(8):
            for some in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(images[some]), labels[some]).backward()
                optimizer.step()
        module.eval()
        assert (module(images).argmax(1) == labels).float().mean() > 0.75
    batches = [(images[first : first + 64], labels[first : first + 64]) for first in range(0, 256, 64)]
    start = start_from_loaders(module.eval(), batches, batches)
    (_, candidate) = run_stages(start, [Quantize(budget=Budget(epochs=0))], tmp_path_factory.mktemp("stages"))
    return freeze(candidate.network, start.spec), images[:64].numpy()


def changed(graph, node, **changes):
    return replace(graph, nodes=tuple(replace(one, **changes) if one.name == node.name else one for one in graph.nodes))


def weights_rescaled(node):
    return {"tensors": {**node.tensors, "weight_scale": node.tensors["weight_scale"] * np.float32(1.01)}}


def channels_swapped(node):
    weight = node.tensors["weight"]
    axis = 0 if weight.shape[1] == 1 else 1
    return {"tensors": {**node.tensors, "weight": np.ascontiguousarray(np.flip(weight, axis))}}


def padding_moved(node):
    top, left, bottom, right = node.attributes["padding"]
    return {"attributes": {**node.attributes, "padding": (top - 1, left, bottom + 1, right)}}


def reversed_inputs(node):
    return {"inputs": node.inputs[::-1]}


def other_groups(node):
    return {"attributes": {"groups": 8}}


MISTAKES = [
    *((op, change) for op in ("conv2d", "linear") for change in (weights_rescaled, channels_swapped)),
    *((op, padding_moved) for op in ("conv2d", "avg_pool")),
    ("concat", reversed_inputs),
    ("channel_shuffle", other_groups),
]


@pytest.mark.parametrize(("op", "mistake"), MISTAKES)
def test_a_mistake_in_one_layer_is_found_and_named(deployed, tmp_path, op, mistake):
    graph, images = deployed
    export_onnx(graph, tmp_path / "a.onnx")
    check_onnx(graph, tmp_path / "a.onnx", images)
    nodes = [node for node in graph.nodes if node.op == op]
    if mistake is padding_moved:
        nodes = [node for node in nodes if any(node.attributes.get("padding", ()))]
    assert nodes
    for node in nodes:
        export_onnx(changed(graph, node, **mistake(node)), tmp_path / "a.onnx")
        with pytest.raises(ExportMismatch, match=rf"in ONNX Runtime \S+ node '{node.name}' \({op}, layer '.*'\) is the first"):
            check_onnx(graph, tmp_path / "a.onnx", images, threads=2)
        with pytest.raises(ExportMismatch, match=rf"node '{node.name}' "):
            check_onnx(graph, tmp_path / "a.onnx", random_images(graph))


@pytest.mark.parametrize("op", ["quantize", "conv2d", "mul", "add", "concat", "avg_pool", "adaptive_avg_pool", "pointwise"])
def test_a_wrong_scale_is_found_and_named(deployed, tmp_path, op):
    """Half a percent off in the file, so that most results are on their right step.

    Images of digits have 17 grey levels, none of them near the middle of two steps: it takes more to move one of them.
    """
    graph, images = deployed
    factor = np.float32(1.02 if op == "quantize" else 1.005)
    export_onnx(graph, tmp_path / "a.onnx")
    nodes = [node for node in graph.nodes if node.op == op and node.type.quantized]
    assert nodes
    for node in nodes:
        model = onnx.load(tmp_path / "a.onnx")
        writers = [one for one in model.graph.node if one.op_type == "QuantizeLinear"]
        outputs = {node.name, f"{node.name}/unclamped", f"{node.name}/part_0", f"{node.name}/part_1"}
        names = {one.input[1] for one in writers if one.output[0] in outputs}
        for constant in model.graph.initializer:
            if constant.name in names:
                scale = onnx.numpy_helper.to_array(constant) * factor
                constant.CopyFrom(onnx.numpy_helper.from_array(scale, constant.name))
        onnx.save(model, tmp_path / "b.onnx")
        with pytest.raises(ExportMismatch, match=rf"node '{node.name}' \({op}, layer '.*'\) is the first"):
            check_onnx(graph, tmp_path / "b.onnx", images)


def test_a_mistake_in_floats_is_found_and_named(tmp_path):
    graph, images = random_graph(4, quantized=False)
    export_onnx(graph, tmp_path / "a.onnx")
    check_onnx(graph, tmp_path / "a.onnx", images)
    for node in graph.nodes:
        if "weight" in node.tensors:
            tensors = {**node.tensors, "weight": np.ascontiguousarray(np.flip(node.tensors["weight"], 1))}
            export_onnx(changed(graph, node, tensors=tensors), tmp_path / "a.onnx")
            with pytest.raises(ExportMismatch, match=rf"node '{node.name}' .* of its values, by up to \S+ of the largest value"):
                check_onnx(graph, tmp_path / "a.onnx", images)


def renamed(graph, old, new):
    nodes = tuple(
        replace(
            node, name=new if node.name == old else node.name, inputs=tuple(new if one == old else one for one in node.inputs)
        )
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, outputs=(new if graph.output == old else graph.output,))


@pytest.mark.parametrize("name", ["logits", "block/conv", "conv/real"])
@pytest.mark.parametrize("quantized", [True, False])
def test_a_node_whose_name_the_file_changes_is_checked_under_its_own(tmp_path, name, quantized):
    b = Builder(np.random.default_rng(0), quantized=quantized)
    middle = b.conv(b.start(), 4, relu=False)
    graph = renamed(finish(b, b.conv(middle, 4)), middle, name)
    export_checked(graph, tmp_path / "a.onnx")
    check_onnx(graph, tmp_path / "a.onnx", b.images)
    (node,) = (node for node in graph.nodes if node.name == name)
    tensors = {**node.tensors, "weight": np.ascontiguousarray(np.flip(node.tensors["weight"], 1))}
    export_onnx(changed(graph, node, tensors=tensors), tmp_path / "a.onnx")
    with pytest.raises(ExportMismatch, match=rf"node '{name}' \(conv2d, "):
        check_onnx(graph, tmp_path / "a.onnx", b.images)


def test_a_dequantized_value_may_be_named_like_the_output_or_be_it(tmp_path):
    kind = ValueType((1, 2, 2), "uint8", 0.5, 128)
    images = np.linspace(-9, 9, 8, dtype=np.float32).reshape(2, 1, 2, 2)
    quantize = Node("q", "quantize", (INPUT,), kind)
    middle = Node("logits", "dequantize", ("q",), ValueType((1, 2, 2))), Node("f", "flatten", ("logits",), ValueType((4,)))
    flat = replace(kind, shape=(4,))
    last = Node("f", "flatten", ("q",), flat), Node("logits", "dequantize", ("f",), ValueType((4,)))
    for nodes in (middle, last):
        graph = Graph(InputSpec((1, 2, 2)), (quantize, *nodes), (nodes[-1].name,))
        export_onnx(graph, tmp_path / "a.onnx")
        check_onnx(graph, tmp_path / "a.onnx", images)


@pytest.mark.parametrize("name", ["logits", "images"])
def test_a_layer_in_the_middle_may_be_named_like_the_input_or_output(tmp_path, name):
    class Middle(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.add_module(name, nn.Conv2d(8, 4, 1))

        def forward(self, x):
            return self.get_submodule(name)(torch.relu(self.first(x))).mean((2, 3))

    torch.manual_seed(0)
    batches = [(torch.randn(16, 3, 8, 8), torch.randint(0, 4, (16,)))]
    start = start_from_loaders(Middle().eval(), batches, batches)
    (_, candidate) = run_stages(start, [Quantize(budget=Budget(epochs=0))], tmp_path / "stages")
    graph = freeze(candidate.network, start.spec)
    assert name in {node.layer for node in graph.nodes}
    export_onnx(graph, tmp_path / "a.onnx")
    check_onnx(graph, tmp_path / "a.onnx", batches[0][0].numpy())


@pytest.mark.parametrize("pixels", [True, False])
def test_every_block_passes(tmp_path, pixels):
    for quantized in (True, False):
        for index, block in enumerate(BLOCKS):
            b = Builder(np.random.default_rng(index), quantized=quantized, pixels=pixels)
            graph = finish(b, block(b, b.conv(b.start(), 4)))
            export_onnx(graph, tmp_path / "a.onnx")
            check_onnx(graph, tmp_path / "a.onnx", b.images)


def test_what_rounding_explains_is_no_mistake(tmp_path, monkeypatch):
    """Scales that are a few units in the last place off, as from another order of operations; and then a hundred times as far."""
    exact = onnx_operations.sum_scales
    b = Builder(np.random.default_rng(3), quantized=True, shape=(3, 16, 16), count=8)
    x = b.conv(b.start(), 8)
    total = b.simple("add", [b.conv(x, 8, relu=False), x])
    graph = finish(b, total)
    for units, wrong in ((20, False), (4000, True)):

        def off(*given, units=units):
            moved, out = exact(*given)
            return moved, float(np.float32(out * (1 + units * 2.0**-23)))

        monkeypatch.setattr(onnx_operations, "sum_scales", off)
        export_onnx(graph, tmp_path / "a.onnx")
        if wrong:
            with pytest.raises(ExportMismatch, match=rf"node '{total}' \(add"):
                check_onnx(graph, tmp_path / "a.onnx", b.images)
        else:
            check_onnx(graph, tmp_path / "a.onnx", b.images)


def cancelling(op):
    """A graph whose node ``op`` adds up large terms of opposite signs to almost nothing, and images for it."""
    images = np.random.default_rng(0).normal(0, 100, (8, 4, 16, 16))
    images = (images - images.mean(axis=(2, 3), keepdims=True)).astype(np.float32)
    node = {
        "adaptive_avg_pool": Node(op, op, (INPUT,), ValueType((4, 1, 1)), {"output_size": (1, 1)}),
        "conv2d": Node(
            op,
            op,
            (INPUT,),
            ValueType((2, 1, 1)),
            {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1},
            {"weight": np.ones((2, 4, 16, 16), np.float32), "bias": np.zeros(2, np.float32)},
        ),
    }[op]
    return Graph(InputSpec((4, 16, 16)), (node,), (op,)), images


@pytest.mark.parametrize("op", ["adaptive_avg_pool", "conv2d"])
def test_terms_that_cancel_are_rounded_by_their_own_size(tmp_path, monkeypatch, op):
    """The order in which float32 terms are added shows in a sum that is nearly 0; a wrong term is found all the same."""
    graph, images = cancelling(op)
    export_onnx(graph, tmp_path / "model.onnx")
    check_onnx(graph, tmp_path / "model.onnx", images, classes=False)
    monkeypatch.setattr(onnx_check, "SUM_ERROR", 0.0)
    with pytest.raises(ExportMismatch, match=f"node '{op}' .* is the first that differs"):
        check_onnx(graph, tmp_path / "model.onnx", images, classes=False)
    monkeypatch.undo()
    images[:, :, 0, 0] += 100
    wrong = onnx.load(tmp_path / "model.onnx")
    other = onnx.helper.make_node("Mul", ["images", "one_percent_more"], ["changed"])
    wrong.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.01), "one_percent_more"))
    wrong.graph.node[0].input[0] = "changed"
    wrong.graph.node.insert(0, other)
    onnx.save(wrong, tmp_path / "model.onnx")
    with pytest.raises(ExportMismatch, match=f"node '{op}' .* is the first that differs"):
        check_onnx(graph, tmp_path / "model.onnx", images, classes=False)


def test_a_file_that_is_wrong_only_as_a_whole_is_refused(tmp_path, monkeypatch):
    graph, images = random_graph(6, quantized=True)
    export_onnx(graph, tmp_path / "right.onnx")
    right = onnx_check.intermediate_values(tmp_path / "right.onnx", [node.name for node in graph.nodes], images)
    *nodes, last = graph.nodes
    tensors = {**last.tensors, "weight": -last.tensors["weight"], "bias": -last.tensors["bias"]}
    export_onnx(replace(graph, nodes=(*nodes, replace(last, tensors=tensors))), tmp_path / "a.onnx")
    monkeypatch.setattr(onnx_check, "intermediate_values", lambda *_: dict(right))
    with pytest.raises(ExportMismatch, match=r"every single node is right, but the whole file gives another class on 100\.0%"):
        check_onnx(graph, tmp_path / "a.onnx", images)
    with pytest.raises(ExportMismatch, match=r"the whole file gives other numbers on 100\.0% of"):
        check_onnx(graph, tmp_path / "a.onnx", images, classes=False)


def test_a_number_is_off_beyond_noise_and_a_share_of_the_largest():
    expected = np.array([[10.0], [0.0], [0.0]], np.float32)
    np.testing.assert_array_equal(onnx_check.off(expected, expected + np.array([[0.0], [0.69], [-0.71]]), 0.1), [0, 0, 1])


def test_a_class_changes_within_the_noise_or_beyond_it():
    expected = np.array([[1.0, 0.9, 0.0], [1.0, 0.5, 0.0], [1.0, 0.5, 0.0]], np.float32)
    logits = np.array([[0.9, 1.0, 0.0], [0.5, 1.0, 0.0], [0.6, 0.5, 0.0]], np.float32)
    np.testing.assert_array_equal(onnx_check.beyond_noise(expected, logits, 0.1), [False, True, False])


def test_without_data_noise_is_checked(tmp_path, monkeypatch):
    graph, _ = random_graph(5, quantized=True, pixels=False)
    assert random_images(graph).dtype == np.float32
    export_checked(graph, tmp_path / "a.onnx")
    before = (tmp_path / "a.onnx").read_bytes()
    other = changed(graph, graph.nodes[1], **weights_rescaled(graph.nodes[1]))
    monkeypatch.setattr(onnx_check, "export_onnx", lambda _, path: export_onnx(other, path))
    with pytest.raises(ExportMismatch, match=rf"a\.onnx' is not written: in ONNX Runtime \S+ node '{graph.nodes[1].name}'"):
        export_checked(graph, tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_bytes() == before


def test_no_images_are_named(tmp_path):
    graph, images = random_graph(5, quantized=True)
    with pytest.raises(DataUnavailable, match="no images were given to check the ONNX file on; give at least one"):
        check_onnx(graph, tmp_path / "a.onnx", images[:0])
