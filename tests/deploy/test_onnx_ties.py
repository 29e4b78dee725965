"""Values half-way between two grid steps, to within float32: no runtime may round them the other way."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_runs import RUNTIMES, STEPS, assert_every_operation_agrees, assert_no_step_off, exact
from random_graphs import Builder, finish

from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import integer_share
from paretrim.graph.interpreter import compute, run, values
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_sum_takes_the_rounded_result_of_its_convolution(tmp_path, runtime):
    """Nothing but the sum is exposed: an output on the convolution would itself keep a runtime from fusing the two."""
    b = Builder(np.random.default_rng(3), quantized=True, shape=(3, 16, 16), count=50)
    x = b.conv(b.start(), 8)
    total = b.simple("add", [b.conv(b.conv(x, 8), 8, relu=False), x])
    graph, kind = exact(finish(b, total), runtime), b.types[total]
    expected = values(graph, b.images)[total]
    export_onnx(graph, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    model.graph.output.append(helper.make_tensor_value_info(total, TensorProto.UINT8, ["N", *kind.shape]))
    onnx.save(model, tmp_path / "a.onnx")
    found = RUNTIMES[runtime](tmp_path / "a.onnx", b.images)[total]
    off = np.abs(found.astype(int) - expected)
    assert off.max() <= 2 * STEPS
    assert (off > 0).mean() <= 0.002  # without the second rounding a sixth of them in OpenVINO


# Grids of sums in a quantized ResNet-56. With the graph's own scales one pair of inputs is a step off in ONNX Runtime in the
# first (which happens 1.2 times an image), one in both runtimes in the second, two in OpenVINO in the third.
NEAR_TIES = [
    ((0.025516191497445107, 130), (0.03598611056804657, 0), (0.036739498376846313, 0)),
    ((0.02280941791832447, 96), (0.0377487987279892, 0), (0.036639850586652756, 0)),
    ((0.02651316300034523, 103), (0.037263426929712296, 0), (0.04226863011717796, 0)),
]


def every_pair(first, second, out):
    """A convolution that changes nothing, the sum behind it, and images whose positions are all pairs of its inputs."""
    whole = (1, 256, 256)
    a, b, c = (ValueType(whole, "uint8", *grid) for grid in (first, second, out))
    one = {"weight": np.ones((1, 1, 1, 1), np.int8), "weight_scale": np.ones(1, np.float32), "bias": np.zeros(1, np.int32)}
    nodes = (
        Node("first", "slice", (INPUT,), ValueType(whole), {"axis": 0, "start": 0, "stop": 1}),
        Node("second", "slice", (INPUT,), ValueType(whole), {"axis": 0, "start": 1, "stop": 2}),
        Node("a", "quantize", ("first",), a),
        Node("b", "quantize", ("second",), b),
        Node("conv", "conv2d", ("a",), a, {}, one),
        Node("sum", "add", ("conv", "b"), c),
        Node("r", "dequantize", ("sum",), ValueType(whole)),
        Node("f", "flatten", ("r",), ValueType((65536,))),
    )
    steps = np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))
    grids = np.array([first, second])[:, :, None, None]
    return Graph(InputSpec((2, 256, 256)), nodes, ("f",)), ((steps - grids[:, 1]) * grids[:, 0]).astype(np.float32)[None]


@pytest.mark.parametrize("grids", NEAR_TIES)
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_no_pair_of_a_sum_is_a_step_off(tmp_path, runtime, grids):
    graph, images = every_pair(*grids)
    export_onnx(graph, tmp_path / "a.onnx")
    found, expected = RUNTIMES[runtime](tmp_path / "a.onnx", images)["logits"], run(graph, images)
    np.testing.assert_allclose(found, expected, atol=grids[2][0] / 2)


def every_value(kind, *nodes):
    """A graph of one channel whose 256 positions are all values on the grid of ``kind``; ``nodes`` lead from "q" to "x"."""
    output = nodes[-1].type
    ends = (
        Node("r", "dequantize", (nodes[-1].name,), ValueType(output.shape)),
        Node("f", "flatten", ("r",), ValueType((output.size,))),
    )
    images = ((np.arange(256) - kind.zero_point) * kind.scale).astype(np.float32).reshape(1, 1, 16, 16)
    return Graph(InputSpec((1, 16, 16)), (Node("q", "quantize", (INPUT,), kind), *nodes, *ends), ("f",)), images


# In each, one of 256 inputs is a step off in ONNX Runtime if the result keeps the graph's own scale.
NEAR_TIES_OF_A_CONCAT = [
    (0.16840611398220062, 0.27729520201683044),
    (0.09918558597564697, 0.1074288859963417),
    (0.027635589241981506, 0.04602346941828728),
    (0.030805319547653198, 0.034976109862327576),
]


@pytest.mark.parametrize(("scale", "out"), NEAR_TIES_OF_A_CONCAT)
@pytest.mark.parametrize("other", [0, 100])
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_no_value_of_a_concat_is_a_step_off(tmp_path, runtime, scale, out, other):
    """With parts of one zero point and of two, which are written in two ways."""
    first, second = (ValueType((1, 16, 16), "uint8", *grid) for grid in ((scale, 0), (out, other)))
    nodes = (
        Node("other", "quantize", (INPUT,), second),
        Node("x", "concat", ("q", "other"), ValueType((2, 16, 16), "uint8", out, 0)),
    )
    graph, images = every_value(first, *nodes)
    own = np.rint((np.arange(256, dtype=np.float32) * np.float32(scale)) / np.float32(out))
    steps = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    meant = compute(graph.nodes[2], (steps, steps), (first, second), graph.input)[0, 0].reshape(-1)
    assert (np.clip(own, 0, 255) != meant).sum() == 1
    assert_no_step_off(tmp_path / "a.onnx", graph, images, runtime)


def test_exact_ties_of_a_concat_keep_their_scale(tmp_path):
    """Every 44th input is half-way between two steps: to even, as ONNX Runtime rounds it too, but by no moved scale."""
    first = ValueType((1, 16, 16), "uint8", 0.0061918143182992935, 125)
    out = ValueType((2, 16, 16), "uint8", 0.006054218392819166, 125)
    other = ValueType((1, 16, 16), "uint8", 0.0023416662588715553, 118)
    graph, images = every_value(first, Node("other", "quantize", (INPUT,), other), Node("x", "concat", ("q", "other"), out))
    assert_no_step_off(tmp_path / "a.onnx", graph, images, "onnxruntime")


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("clamp", [{"lo": 114}, {"hi": 200}, {"lo": 114, "hi": 200}, {"lo": 100, "hi": 254}])
def test_a_clamp_keeps_both_ends_of_the_grid(tmp_path, runtime, clamp):
    """With both bounds written out, OpenVINO gave 254 for every 255 behind a ReLU on such a grid."""
    kind = ValueType((1, 16, 16), "uint8", 0.020579466596245766, 114)
    tensors = {"multiplier": np.full(1, 2, np.float32), "offset": np.zeros(1, np.float32)}
    graph, images = every_value(kind, Node("x", "batch_norm", ("q",), kind, clamp, tensors))
    assert_no_step_off(tmp_path / "a.onnx", graph, images, runtime)


@pytest.mark.parametrize("seed", range(4))
def test_no_pair_of_a_product_and_no_value_of_a_batch_norm_is_a_step_off(tmp_path, seed):
    b = Builder(np.random.default_rng(seed), quantized=True, shape=(1, 16, 16), count=8)
    x = b.batch_norm(b.start())
    graph = finish(b, b.simple("mul", [x, b.simple("adaptive_avg_pool", [x], {"output_size": (1, 1)})]))
    assert_every_operation_agrees(graph, b.images, tmp_path / "a.onnx", "onnxruntime", steps=0)


PADDING = {"padding": (1, 1, 1, 1)}

POOLS_WITH_TIES = (
    ("avg_pool", {"window": (2, 2), "stride": (2, 2)}, (6, 6)),
    ("avg_pool", {"window": (3, 3), "stride": (2, 2), **PADDING}, (6, 6)),  # edges of 6 values and corners of 4
    ("avg_pool", {"window": (4, 4), "stride": (2, 2), **PADDING, "count_padding": (1, 1, 1, 1)}, (6, 6)),
    ("adaptive_avg_pool", {"output_size": (3, 6)}, (3, 6)),
    ("adaptive_avg_pool", {"output_size": (5, 7)}, (5, 7)),
    ("adaptive_avg_pool", {"output_size": (1, 1)}, (1, 1)),
)


def pooled(scale, zero_point):
    """Pools on the grid of their input, a convolution, which another convolution reads as well; and noise."""
    weight = np.eye(4, dtype=np.int8).reshape(4, 4, 1, 1)
    same = {"weight": weight, "weight_scale": np.ones(4, np.float32), "bias": np.zeros(4, np.int32)}
    kind = ValueType((4, 12, 12), "uint8", float(np.float32(scale)), zero_point)
    nodes = [Node("q", "quantize", (INPUT,), kind), Node("conv", "conv2d", ("q",), kind, {}, same)]
    nodes.append(Node("x0", "conv2d", ("conv",), kind, {}, same))
    for op, attributes, size in POOLS_WITH_TIES:
        nodes.append(Node(f"x{len(nodes) - 2}", op, ("conv",), replace(kind, shape=(4, *size)), attributes))
    ends = [Node(f"{node.name}.flat", "flatten", (node.name,), replace(kind, shape=(node.type.size,))) for node in nodes[2:]]
    size = sum(node.type.size for node in ends)
    nodes += [*ends, Node("all", "concat", tuple(node.name for node in ends), replace(kind, shape=(size,)))]
    nodes.append(Node("r", "dequantize", ("all",), ValueType((size,))))
    steps = np.random.default_rng(0).integers(0, 256, (8, *kind.shape))
    images = ((steps - zero_point) * np.float32(kind.scale)).astype(np.float32)
    return Graph(InputSpec(kind.shape), tuple(nodes), ("r",)), images


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("scale", [0.0371, 0.0235294])  # with the second, what a sum of 6 is multiplied with is not 1 / 6
@pytest.mark.parametrize("zero_point", [0, 112, 113])
def test_exact_ties_of_a_pool_on_the_grid_of_its_input(tmp_path, runtime, scale, zero_point):
    """Up to a quarter of a pool's values lay half-way between two steps, and runtimes did not agree on the side."""
    graph, images = pooled(scale, zero_point)
    assert_no_step_off(tmp_path / "a.onnx", graph, images, runtime)
    assert integer_share(tmp_path / "a.onnx", runtime).not_int8 == ()
