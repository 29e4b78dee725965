"""The bytes of a ``.trim`` file, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretrim.graph.dtypes import count_zeros, pieces, type_name
from paretrim.graph.groups import groups_of
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.outputs import layer_name, output_names
from paretrim.graph.types import Array, Node
from paretrim.trimfile.file import THREADS, TrimFile, open_file
from paretrim.trimfile.provenance import Provenance


@dataclass(frozen=True)
class LayerSize:
    """One weighted layer. ``bytes`` is the size of its weights in the file, ``share`` their share of the file, in [0, 1].

    ``format`` is the element type or, for integers with few distinct values, what they fit: ``int8``, ``ternary``, ``int4``
    (all in -8..7), ``codebook 16``, or ``int4 in groups of 32`` input channels with a multiple each.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    weights: int
    zeros: int
    bits_per_weight: float
    bytes: float
    share: float


@dataclass(frozen=True)
class Inspection:
    """Every weighted layer, and the bytes of the header and of every record, which add up to ``file_bytes``.

    ``outputs`` are the shapes of the outputs for one image, by name.
    """

    layers: tuple[LayerSize, ...]
    records: Mapping[str, int]
    file_bytes: int
    provenance: Provenance
    outputs: Mapping[str, tuple[int, ...]]


def inspect(path: Path | str, *, threads: int = THREADS, limit: float | None = None) -> Inspection:
    """The contents of a file. ``limit`` as in :func:`paretrim.runtime.load`.

    Raises:
        CorruptFile: the file is missing, damaged, of a newer version, or not a network; the message names the record.
    """
    found = open_file(path, threads=threads, limit=limit)
    layers = tuple(_layer(found, node) for node in found.graph.nodes if node.op in WEIGHTED and node.tensors["weight"].size)
    outputs = dict(zip(output_names(found.graph), found.graph.output_shapes, strict=True))
    return Inspection(layers, found.record_bytes, found.file_bytes, found.provenance, outputs)


def _layer(found: TrimFile, node: Node) -> LayerSize:
    size, weight = found.layer_bytes[node.name, "weight"], node.tensors["weight"]
    return LayerSize(
        name=layer_name(found.graph, node),
        shape=weight.shape,
        format=_format(weight),
        weights=weight.size,
        zeros=count_zeros(weight),
        bits_per_weight=8 * size / weight.size,
        bytes=size,
        share=size / found.file_bytes,
    )


def _format(weight: Array) -> str:
    if weight.dtype != np.int8:
        return type_name(weight)
    counts = sum(np.bincount(part.reshape(-1).astype(np.int16) + 128, minlength=256) for _, part in pieces(weight))
    values = np.flatnonzero(counts) - 128
    if len(values) <= 3 and set(-values) | {0} == set(values) | {0}:
        return "ternary"
    if values.min() >= -8 and values.max() <= 7:
        return "int4"
    if len(values) <= 16:
        return f"codebook {len(values)}"
    groups = groups_of(weight)
    return "int8" if groups is None else f"int{groups.bits} in groups of {groups.size}"
