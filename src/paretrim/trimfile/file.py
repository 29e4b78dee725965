"""Writing and reading a ``.trim`` file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from paretrim.errors import CorruptFile, ParetrimError, UnsupportedOperation, located
from paretrim.files import path_of, written_aside
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

MOVED_AT_ONCE = 2**22
"""Bytes that are moved at once in a file that is being written."""


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

    Every part is decoded and compared with the graph before it is written. Without ``check_weights`` weights are not: then
    :func:`paretrim.runtime.load` must do it, with this graph as ``known``, before anyone else uses the file.

    Raises:
        UnsupportedOperation: the graph breaks a rule of its operations, ``threads`` is below 1, or the file would exceed the
            readers' budget for its size; ``PARETRIM_LIMIT`` raises the budget (see :func:`paretrim.runtime.load`).
        CorruptFile: a type or tensor of the graph is invalid.
        OutOfSpace: the disk is full; the old file is intact.
        CannotWrite: the path is not writable; the old file is intact.
    """
    graph, text, threads = _checked(graph, provenance, threads)
    size = sum(tensor.nbytes for node in graph.nodes for tensor in node.tensors.values())
    limit = allowed(None)
    with written_aside(Path(path), size) as file, _refused_readably():

        def put(at: int, content: bytes | memoryview) -> None:
            file.seek(at)
            file.write(content)

        front, place = native.write_trim_records(
            graph, put, provenance=text, threads=threads, limit=limit, check_weights=check_weights
        )
        if len(front) != place:
            _move(file, place, len(front))
        put(0, front)


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
    graph, text, threads = _checked(graph, provenance, threads)
    with _refused_readably():
        return native.write_trim(graph, provenance=text, threads=threads, limit=allowed(None), check_weights=check_weights)


def _checked(graph: Graph, provenance: Provenance | None, threads: int) -> tuple[Graph, str, int]:
    """What is written: the graph with the user's names, the provenance as text, and the number of threads."""
    _require_threads(threads)
    graph = with_user_names(graph)
    validate(graph)
    return graph, texts.encode(provenance or Provenance()), min(threads, MOST_THREADS)


@contextmanager
def _refused_readably() -> Iterator[None]:
    """Name the remedy for a network that exceeds the budget of readers."""
    try:
        yield
    except CorruptFile as error:
        needed = re.search(r"PARETRIM_LIMIT=\d+", str(error))
        if needed is None:
            raise
        raise UnsupportedOperation(
            f"readers would refuse the file of this network: {error}; set {needed[0]} in the environment to write it"
        ) from error


def _move(file: BinaryIO, start: int, to: int) -> None:
    """Move everything from ``start`` to the end of a file."""
    end = file.seek(0, os.SEEK_END)
    firsts = range(start, end, MOVED_AT_ONCE)
    for first in firsts if to < start else reversed(firsts):
        file.seek(first)
        part = file.read(min(MOVED_AT_ONCE, end - first))
        file.seek(first + to - start)
        file.write(part)
    file.truncate(end + to - start)


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
