"""One layer of an integer graph that computes in float32, given to the native runtime: torch adds up in an order of its own.

Float sums have one order in interpreter and native runtime (``docs/decisions/0044-one-order-of-float-sums.md``), and a value
behind a float layer goes onto a grid, where a last bit can be a whole step. So the layer is computed by what keeps that order,
on a GPU too, with a copy of its values there and back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from paretrim.graph.interpreter import compute
from paretrim.graph.names import free_name
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime import Session, plan


def weighted_layer(node: Node, source: ValueType) -> Callable[[Tensor], Tensor]:
    """A conv2d or linear node that reads float32, as a function of what it reads [N, ...], on any device.

    Raises:
        UnsupportedOperation: the native runtime does not compute it.
    """
    session = plan(_alone(node, source), threads=torch.get_num_threads(), measure=False)
    return lambda value: _computed(session, value)


def other_layer(node: Node, inputs: list[Tensor], types: tuple[ValueType, ...], spec: InputSpec) -> Tensor:
    """The value of any other node on float32, from the reference interpreter, on the device of its inputs."""
    found = compute(node, tuple(value.cpu().numpy() for value in inputs), types, spec)
    return torch.from_numpy(found).to(inputs[0].device)


def _computed(session: Session, value: Tensor) -> Tensor:
    images = value.reshape(len(value), *session.shape)
    return torch.from_numpy(session.outputs(images.cpu().numpy())[0]).to(value.device)


def _alone(node: Node, source: ValueType) -> Graph:
    """The graph of one node; a vector arrives as an image of one pixel, which is what graphs take."""
    if len(source.shape) > 1:
        return Graph(InputSpec(source.shape), (replace(node, inputs=(INPUT,)),), (node.name,))
    vector = Node(free_name("vector", (INPUT, node.name)), "flatten", (INPUT,), source)
    return Graph(InputSpec((*source.shape, 1, 1)), (vector, replace(node, inputs=(vector.name,))), (node.name,))
