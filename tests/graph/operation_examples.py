"""Nodes of every operation, with values that reach them: what facts about operations are tried on."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from random_graphs import BLOCKS, FUNCTIONS, Builder, head

from paretrim.graph.interpreter import compute
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, InputSpec, Node, ValueType


@dataclass(frozen=True, eq=False)
class Example:
    """A node, the values [N, ...] and types of its inputs, and what the graph around it takes."""

    node: Node
    inputs: tuple[np.ndarray, ...]
    types: tuple[ValueType, ...]
    spec: InputSpec

    def __str__(self):
        function = self.node.attributes.get("function")
        return self.node.op if function is None else f"{self.node.op} {function}"


def single(b, x):
    """Operations that no block of a random graph holds."""
    x = b.conv(x, 4, relu=False)
    b.simple("unflatten", [b.simple("flatten", [x])])
    b.simple("relu", [x])
    for function in FUNCTIONS:
        b.pointwise(x, function)
    if not b.quantized:
        b.simple("dropout", [x], {"probability": 0.5})
        b.simple("clamp", [x], {"minimum": -0.25, "maximum": 0.5})
        b.simple("clamp", [x], {"maximum": 0.5})
    b.simple("max_pool", [x], {"window": (3, 2), "stride": (1, 2), "padding": (1, 0, 0, 1), "dilation": (2, 1)})
    b.simple("slice", [x], {"axis": 0, "start": 0, "stop": 4, "step": 2})
    column = b.simple("slice", [x], {"axis": 2, "start": 0, "stop": 1})
    b.simple("matmul", [column, b.simple("slice", [x], {"axis": 1, "start": 0, "stop": 1})])
    return x


def examples(*, quantized, pixels=True):
    """Examples of a float or an integer graph, every operation among them that such graphs can hold."""
    found = []
    for seed, block in enumerate((*BLOCKS, *BLOCKS, single)):
        b = Builder(np.random.default_rng(seed), quantized=quantized, pixels=pixels)
        # Values of both signs: on a grid whose zero point is not 0.
        head(b, block(b, b.conv(b.start(), 4, relu=seed % 2 == 0)), plain=seed % 3 == 0)
        for node in b.nodes:
            values, types = tuple(b.values[name] for name in node.inputs), tuple(b.types[name] for name in node.inputs)
            found.append(Example(node, values, types, b.input))
    return found


def reads(example, *, floats):
    """Whether a node computes on floats, or on integers, and not on the images themselves."""
    return INPUT not in example.node.inputs and all(kind.quantized != floats for kind in example.types)


INTEGER = examples(quantized=True)
FLOATS = [example for example in examples(quantized=False) if reads(example, floats=True)]
GRIDS = [example for example in INTEGER if reads(example, floats=False)]


def named(found):
    """A parameter ``name``: every operation, and function, of these examples."""
    return pytest.mark.parametrize("name", sorted({str(example) for example in found}))


def of(found, name):
    """Those of one operation, or of one function."""
    return [example for example in found if str(example) == name]


def facts(example):
    """What its operation says of itself."""
    return OPERATIONS[example.node.op]


def settings(example):
    """The attributes that facts depend on."""
    return settings_of(example.node)


def real(example, *inputs):
    """What the operation computes from floats."""
    return compute(example.node, inputs, tuple(ValueType(value.shape[1:]) for value in inputs), example.spec)


def exact(example, inputs):
    """The results of levels on the grids of the inputs before they are rounded, float64."""
    steps = [value.astype(np.float64) - kind.zero_point for value, kind in zip(inputs, example.types, strict=True)]
    scales = [kind.scale for kind in example.types]
    if facts(example).scaling(settings(example)) == "product":  # whole numbers, which float32 sums exactly
        return math.prod(scales) * real(example, *steps).astype(np.float64)
    return real(example, *(scale * value for scale, value in zip(scales, steps, strict=True))).astype(np.float64)
