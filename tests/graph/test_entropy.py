import numpy as np
import pytest

from paretrim.graph.entropy import order0_bytes, summarize_weights
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType


def test_order0_entropy_by_hand():
    assert order0_bytes(np.zeros(100, np.int8)) == 0
    assert order0_bytes(np.arange(-128, 128).astype(np.int8)) == 256
    assert order0_bytes(np.array([0, 0, 0, 1] * 8, np.int8)) == pytest.approx(32 * (0.75 * np.log2(4 / 3) + 0.25 * 2) / 8)


def test_entropy_counts_the_stored_weights():
    weight = {
        "weight": np.array([[0, 0, 3], [0, -3, 0]], np.int8),
        "weight_scale": np.ones(2, np.float32),
        "bias": np.zeros(2, np.int32),
    }
    nodes = (
        Node("q", "quantize", (INPUT,), ValueType((1, 1, 3), "uint8")),
        Node("f", "flatten", ("q",), ValueType((3,), "uint8")),
        Node("fc", "linear", ("f",), ValueType((2,)), {}, weight),
    )
    (summary,) = summarize_weights(Graph(InputSpec((1, 1, 3)), nodes, ("fc",)))
    assert (summary.name, summary.shape, summary.dtype) == ("fc", (2, 3), "int8")
    assert (summary.zeros, summary.weights, summary.bytes) == (4, 6, 6)
    assert summary.entropy_bytes == pytest.approx((4 * np.log2(6 / 4) + 2 * np.log2(6)) / 8)
