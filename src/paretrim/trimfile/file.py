"""Writing and reading a ``.trim`` file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretrim.errors import CorruptFile, ParetrimError, UnsupportedOperation, located
from paretrim.files import path_of, write_atomically
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import MOST_THREADS, is_whole
from paretrim.graph.outputs import with_user_names
from paretrim.graph.types import Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native
from paretrim.runtime.session import allowed, content_of
from paretrim.trimfile import provenance as texts
from paretrim.trimfile.provenance import Provenance

if TYPE_CHECKING:
    from paretrim.runtime._native import GraphValues, NodeValues

THREADS = 2
"""Default threads for writing or reading a file; more threads than records have no effect."""


@dataclass(frozen=True, eq=False)
class TrimFile:
    """Contents of a file, and the sizes of its parts.

    ``layer_bytes``: stored bytes of every large tensor, by node and name (fractions, because layers share a stream).
    ``record_bytes``: stored bytes of the header and of every record, by name.
    """

    graph: Graph
    provenance: Provenance
    file_bytes: int
    layer_bytes: Mapping[tuple[str, str], float]
    record_bytes: Mapping[str, int]


def write(
    graph: Graph,
    path: Path | str,
    provenance: Provenance | None = None,
    *,
    threads: int = THREADS,
    check_weights: bool = True,
) -> None:
    """Check a graph and write it; an existing file is replaced in one step.

    The content is decoded and compared with the graph before it is written. Without ``check_weights`` its weights are not: then
    :func:`paretrim.runtime.load` must do it, with this graph as ``known``, before anyone else uses the file.

    Raises:
        UnsupportedOperation: the graph breaks a rule of its operations, ``threads`` is below 1, or the file would exceed the
            readers' budget for its size; ``PARETRIM_LIMIT`` raises the budget (see :func:`paretrim.runtime.load`).
        CorruptFile: a type or tensor of the graph is invalid.
        OutOfSpace: the disk is full; the old file is intact.
        CannotWrite: the path is not writable; the old file is intact.
    """
    write_atomically(Path(path), to_bytes(graph, provenance, threads=threads, check_weights=check_weights))


def read(path: Path | str, *, threads: int = THREADS, limit: float | None = None) -> Graph:
    """Read a graph back and check all of it. ``limit`` as in :func:`paretrim.runtime.load`.

    Raises:
        CorruptFile: the file is missing, damaged, of a newer version, or not a network; the message names the record.
        UnsupportedOperation: ``threads`` is below 1.
    """
    return open_file(path, threads=threads, limit=limit).graph


def open_file(path: Path | str, *, threads: int = THREADS, limit: float | None = None) -> TrimFile:
    """Read the whole contents of a file; arguments and errors as in :func:`read`."""
    path = path_of(path)
    with located(f"trim file '{path}'"):
        return from_bytes(content_of(path), threads=threads, limit=limit)


def to_bytes(graph: Graph, provenance: Provenance | None = None, *, threads: int = THREADS, check_weights: bool = True) -> bytes:
    """The content of a file. The bytes do not depend on the number of threads. Arguments and errors as in :func:`write`."""
    _require_threads(threads)
    graph = with_user_names(graph)
    validate(graph)
    threads = min(threads, MOST_THREADS)
    text, limit = texts.encode(provenance or Provenance()), allowed(None)
    try:
        return native.write_trim(graph, provenance=text, threads=threads, limit=limit, check_weights=check_weights)
    except CorruptFile as error:
        needed = re.search(r"PARETRIM_LIMIT=\d+", str(error))
        if needed is None:
            raise
        raise UnsupportedOperation(
            f"readers would refuse the file of this network: {error}; set {needed[0]} in the environment to write it"
        ) from error


def from_bytes(content: bytes | memoryview, *, threads: int = THREADS, limit: float | None = None) -> TrimFile:
    """Decode the content of a file; arguments and errors as in :func:`read`."""
    _require_threads(threads)
    try:
        values, text, tensors, records = native.read_trim(content, threads=min(threads, MOST_THREADS), limit=allowed(limit))
    except MemoryError as error:
        raise CorruptFile(f"its {len(content):,} bytes decode to more than fits into memory; free some") from error
    try:
        graph = _graph(values)
        validate(graph)
    except ParetrimError as error:
        raise CorruptFile(f"record 0 (structure): {error}") from error
    return TrimFile(
        graph=graph,
        provenance=texts.decode(text),
        file_bytes=len(content),
        layer_bytes={(node, tensor): size for node, tensor, size in tensors},
        record_bytes={name: round(size) for name, size in records},
    )


def _require_threads(threads: int) -> None:
    if not is_whole(threads) or threads < 1:
        raise UnsupportedOperation(f"threads is {threads!r}; it must be at least 1")


def _graph(values: GraphValues) -> Graph:
    (shape, mean, std), nodes, outputs, classes = values
    return Graph(InputSpec(shape, mean, std), tuple(_node(node) for node in nodes), outputs, classes)


def _node(values: NodeValues) -> Node:
    name, op, inputs, (shape, dtype, scale, zero_point), attributes, tensors, layer = values
    return Node(name, op, inputs, ValueType(shape, dtype, scale, zero_point), attributes, tensors, layer)
