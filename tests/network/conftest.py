"""Adds the folders of random graphs and tiny networks to the path, since test folders are not packages."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network

sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("graph", "stages")]


f32 = np.float32


@pytest.fixture
def network():
    """A convolution with BatchNorm and a classifier; about 60 % of the weights are masked."""
    rng = np.random.default_rng(0)
    kind, rows = ValueType((4, 6, 6)), 4
    norm = {name: rng.uniform(0.5, 1.5, rows).astype(f32) for name in ("gamma", "beta", "mean", "variance")}
    nodes = (
        Node(
            "conv",
            "conv2d",
            (INPUT,),
            kind,
            {"padding": (1, 1, 1, 1)},
            {"weight": rng.normal(0, 0.3, (4, 2, 3, 3)).astype(f32)},
        ),
        Node("norm", "batch_norm", ("conv",), kind, {"epsilon": 1e-5}, norm),
        Node("relu", "relu", ("norm",), kind),
        Node("flat", "flatten", ("relu",), ValueType((144,))),
        Node("head", "linear", ("flat",), ValueType((3,)), {}, {"weight": rng.normal(0, 0.1, (3, 144)).astype(f32)}),
    )
    made = Network(Graph(InputSpec((2, 6, 6)), nodes, ("head",), ("a", "b", "c"))).eval()
    torch.manual_seed(0)
    for layer in weighted_layers(made).values():
        set_mask_(layer, torch.rand_like(layer.weight) > 0.6)
    return made
