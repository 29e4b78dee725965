import numpy as np

from paretrim.graph.fusion import fuse, grid_values
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

MAP, VECTOR = ValueType((2, 4, 4)), ValueType((32,))
NORM = {name: np.ones(2, np.float32) for name in ("gamma", "beta", "mean", "variance")}
WEIGHT = {"weight": np.ones((2, 2, 1, 1), np.float32)}


def graph(*rows, output):
    """Nodes written as (name, op, inputs)."""
    nodes = []
    for name, op, inputs in rows:
        kind = VECTOR if op in ("flatten", "linear") or (op == "relu" and inputs == "l") else MAP
        attributes = {"batch_norm": {"epsilon": 1e-5}, "dropout": {"probability": 0.5}, "clamp": {"minimum": 0.0, "maximum": 6.0}}
        tensors = {"batch_norm": NORM, "conv2d": WEIGHT, "linear": {"weight": np.ones((32, 32), np.float32)}}.get(op, {})
        nodes.append(Node(name, op, tuple(inputs.split()), kind, attributes.get(op, {}), tensors))
    return Graph(InputSpec((2, 4, 4)), tuple(nodes), (output,))


def runs(made):
    return [tuple(node.name for node in (run.head, run.batch_norm, run.activation) if node) for run in fuse(made)]


def test_a_layer_is_fused_with_its_norm_and_activation():
    made = graph(("c", "conv2d", INPUT), ("n", "batch_norm", "c"), ("r", "relu", "n"), ("d", "conv2d", "r"), ("k", "clamp", "d"),
                 ("f", "flatten", "k"), output="f")  # fmt: skip
    assert runs(made) == [("c", "n", "r"), ("d", "k"), ("f",)]
    assert grid_values(made) == (INPUT, "r", "k")


def test_values_with_other_readers_are_not_fused():
    made = graph(("c", "conv2d", INPUT), ("n", "batch_norm", "c"), ("a", "add", "c n"), ("r", "relu", "a"), ("b", "add", "r a"),
                 ("f", "flatten", "b"), output="f")  # fmt: skip
    assert runs(made) == [("c",), ("n",), ("a",), ("r",), ("b",), ("f",)]
    assert grid_values(made) == (INPUT, "c", "n", "a", "b")


def test_an_output_ends_a_fusion():
    made = graph(("c", "conv2d", INPUT), ("n", "batch_norm", "c"), ("r", "relu", "n"), output="n")
    assert runs(made) == [("c", "n"), ("r",)]
    assert grid_values(made) == (INPUT, "n")  # a map, whose kernels make integers, which a dequantize follows
    assert grid_values(graph(("c", "conv2d", INPUT), ("r", "relu", "c"), output="r")) == (INPUT, "r")


def test_logits_stay_float():
    made = graph(("f", "flatten", INPUT), ("l", "linear", "f"), output="l")
    assert grid_values(made) == (INPUT,)
    assert grid_values(graph(("f", "flatten", INPUT), ("l", "linear", "f"), ("r", "relu", "l"), output="r")) == (INPUT, "r")


def test_norms_and_sums_fuse_activations_but_movements_do_not():
    made = graph(("n", "batch_norm", INPUT), ("r", "relu", "n"), ("a", "add", "r r"), ("s", "relu", "a"), ("d", "dropout", "s"),
                 ("m", "relu", "d"), ("f", "flatten", "m"), output="f")  # fmt: skip
    assert runs(made) == [("n", "r"), ("a", "s"), ("d",), ("m",), ("f",)]
    assert grid_values(made) == (INPUT, "r", "s")


def test_two_norms_in_a_row_fold_once():
    made = graph(("c", "conv2d", INPUT), ("n", "batch_norm", "c"), ("o", "batch_norm", "n"), ("r", "relu", "o"), output="r")
    assert runs(made) == [("c", "n"), ("o", "r")]
