"""Attributes and shapes of nodes, checked by the rules of their operations.

Shapes are written without the batch: ``(C, H, W)`` or ``(F,)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations.attributes import LARGEST, Settings, Shape, read_by
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.types import Array, Attribute, Node


def settings_of(node: Node) -> Settings:
    """The attributes of a node, checked, with defaults filled in.

    Raises:
        UnsupportedOperation: an attribute is unknown, missing, of the wrong kind or out of range.
    """
    return read_by(OPERATIONS[node.op].attributes, node.op, node.attributes)


def infer_shape(
    op: str, attributes: Mapping[str, Attribute], input_shapes: Sequence[Shape], tensors: Mapping[str, Array]
) -> Shape:
    """Shape of an operation's result from its inputs' shapes. Only the shapes of ``tensors`` matter.

    >>> infer_shape("max_pool", {"window": (2, 2), "stride": (2, 2)}, [(16, 32, 32)], {})
    (16, 16, 16)

    Raises:
        UnsupportedOperation: the inputs do not fit the operation; the message says which rule is broken.
    """
    operation = OPERATIONS[op]
    settings = read_by(operation.attributes, op, attributes)
    operation.require_inputs(len(input_shapes))
    shape = operation.shape(settings, input_shapes, tensors)
    if any(extent < 1 for extent in shape) or math.prod(shape) > LARGEST:
        raise UnsupportedOperation(
            f"{op} of {list(input_shapes)} would have the shape {shape}; extents must be 1 or more and fit int32"
        )
    return shape
