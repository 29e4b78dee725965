"""All operations by name. To add one, write its value in its family's module and list it here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from paretrim.graph.operations import boundary, data_movement, elementwise, pooling, products, weighted
from paretrim.graph.operations.operation import Operation

_ALL = (
    boundary.NORMALIZE,
    boundary.QUANTIZE,
    boundary.DEQUANTIZE,
    weighted.CONV2D,
    weighted.LINEAR,
    elementwise.BATCH_NORM,
    elementwise.RELU,
    elementwise.CLAMP_VALUES,
    elementwise.POINTWISE,
    elementwise.ADD,
    elementwise.MUL,
    data_movement.CONCAT,
    data_movement.SLICE,
    data_movement.PAD,
    data_movement.CHANNEL_SHUFFLE,
    data_movement.FLATTEN,
    data_movement.UNFLATTEN,
    elementwise.DROPOUT,
    pooling.MAX_POOL,
    pooling.AVG_POOL,
    pooling.ADAPTIVE_AVG_POOL,
    products.MATMUL,
    data_movement.PIXEL_SHUFFLE,
    data_movement.PIXEL_UNSHUFFLE,
)

OPERATIONS: Mapping[str, Operation] = MappingProxyType({operation.name: operation for operation in _ALL})

WEIGHTED = frozenset(operation.name for operation in _ALL if operation.weighted)
"""Operations with a weight that can be pruned and quantized."""

GRID_PRESERVING = frozenset(operation.name for operation in _ALL if operation.grid == "keeps")
"""Operations that move or select values and therefore keep the grid of their (single) input."""

TRAINING_ONLY = frozenset(operation.name for operation in _ALL if not operation.ships)
"""Operations that pass their input on unchanged except in training, and that no deployed graph holds."""

NORMALIZING = frozenset(operation.name for operation in _ALL if operation.normalizes)
"""Operations that scale and shift channels from statistics, which a weighted operation before them takes in."""

BOUNDING = frozenset(operation.name for operation in _ALL if operation.bounds is not None)
"""Activations that only bound values, which the clamp of a requantization before them takes in."""

WITH_TENSORS = frozenset(operation.name for operation in _ALL if operation.real_tensors)
"""Operations with tensors of a value for each of their channels, or a row of weights."""
