"""Weights: which rows of which tensors a record holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spec_reader.container import Record
from spec_reader.cursor import require
from spec_reader.structure import Structure, Tensor


@dataclass
class Piece:
    """Some rows of one large tensor; ``scales`` are the tensor's weight_scale, if it has one for every row."""

    tensor: Tensor
    first: int
    rows: int
    scales: list[int] | None

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.rows * math.prod(self.tensor.shape[1:])


def deal(records: list[Record], structure: Structure) -> list[list[Piece]]:
    """The pieces of every record."""
    pieces: list[list[Piece]] = [[] for _ in records]
    left = [record.rows for record in records]
    now = 0
    for layer, tensor in structure.tensors(large=True):
        scale = layer.tensors.get("weight_scale")
        known = scale is not None and scale.element == "<f4" and not scale.large  # a large one is decoded later, and refused
        fits = tensor.name == "weight" and scale is not None and known and scale.count == tensor.shape[0]
        row = 0
        while row < tensor.shape[0]:
            while now < len(records) and left[now] == 0:
                now += 1
            require(now < len(records), "the records of weights hold fewer rows than the tensors have")
            rows = min(tensor.shape[0] - row, left[now])
            pieces[now].append(Piece(tensor, row, rows, scale.elements if scale and fits else None))
            row, left[now] = row + rows, left[now] - rows
    require(not any(left), "the records of weights hold more rows than the tensors have")
    for record, dealt in zip(records, pieces, strict=True):
        size = sum(piece.count * np.dtype(piece.tensor.element).itemsize for piece in dealt)
        require(size == record.decoded, f"{record.name}: it claims {record.decoded} bytes, and its tensors have {size}")
    return pieces
