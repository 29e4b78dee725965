"""A graph in one safetensors file: tensors named ``node/tensor``, the structure as JSON in the metadata, sealed by a SHA-256.

Equal graphs give equal bytes. The seal covers the whole file with its own 64 digits set to zero, so a changed byte anywhere is
noticed before anything in the file is interpreted. It guards against damage, not against malice: a file with a valid seal is
still checked in full, and nothing in it is ever executed or used as a path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from paretrim.errors import CorruptFile, ParetrimError, located
from paretrim.files import DAMAGE, path_of, read_regular, write_atomically
from paretrim.graph.checks import validate
from paretrim.graph.structure import graph_of, parse_strictly, structure_of
from paretrim.graph.types import Array, Graph

FORMAT, ANY_OUTPUTS = 1, 2
"""Versions of the file, the second for a graph that returns anything other than one vector; readers refuse all others."""

LARGEST_FILE = 2**32
"""Bytes; a larger file is not a compressed vision network, and reading it would take the machine's memory."""

LARGEST_HEADER = 2**26
"""Bytes of names, shapes and structure."""

_UNSEALED = "0" * 64
_SEAL = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_DTYPES = {"int8": "I8", "uint8": "U8", "int32": "I32", "float32": "F32", "float16": "F16", "uint16": "U16"}


def save(graph: Graph, path: Path | str) -> None:
    """Check a graph and write it; an existing file is replaced in one step.

    Raises:
        UnsupportedOperation: the graph breaks a rule of its operations.
        CorruptFile: the graph's types or tensors are outside what a graph allows.
        OutOfSpace: the disk is full; the old file is intact.
    """
    write_atomically(Path(path), to_bytes(graph))


def load(path: Path | str) -> Graph:
    """Read a graph back and check all of it.

    Raises:
        CorruptFile: the file is missing, damaged, of a newer format, or not a graph; the message says which.
    """
    path = path_of(path)
    with located(f"graph file '{path}'"):
        try:
            size = path.stat().st_size
            if size > LARGEST_FILE:
                raise CorruptFile(f"it has {size:,} bytes; a graph file has at most {LARGEST_FILE:,}")
            content = read_regular(path, at_most=LARGEST_FILE)
        except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
            raise CorruptFile(f"it cannot be read: {getattr(error, 'strerror', error)}") from error
        return from_bytes(content)


def to_bytes(graph: Graph) -> bytes:
    """The content of a graph file; equal graphs give equal bytes.

    Raises:
        UnsupportedOperation: the graph breaks a rule of its operations.
        CorruptFile: the graph's types or tensors are outside what a graph allows.
    """
    validate(graph)
    tensors = {f"{node.name}/{name}": tensor for node in graph.nodes for name, tensor in node.tensors.items()}
    header: dict[str, object] = {
        "__metadata__": {"format": _format_of(graph), "graph": _canonical(structure_of(graph)), "sha256": _UNSEALED}
    }
    # Widest elements first, so that every tensor is aligned to its element size.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    offset, blocks = 0, []
    for name in order:
        tensor = tensors[name]
        block = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": _DTYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(block)],
        }
        offset += len(block)
        blocks.append(block)
    head = _canonical(header).encode()
    head += b" " * (-len(head) % 8)
    content = len(head).to_bytes(8, "little") + head + b"".join(blocks)
    return _with_seal(content, hashlib.sha256(content).hexdigest())


def from_bytes(content: bytes) -> Graph:
    """The graph in the content of a graph file.

    Raises:
        CorruptFile: the content is damaged, of a newer format, or not a graph; the message says which.
    """
    metadata = _read_metadata(content)
    structure = _parse(metadata["graph"])
    try:
        tensors = load_tensors(content)
    except (SafetensorError, *DAMAGE, MemoryError) as error:
        raise CorruptFile(f"its tensors cannot be read: {error}") from error
    try:
        graph = graph_of(structure, _by_node(tensors))
        validate(graph)
        if metadata["format"] != _format_of(graph):
            raise CorruptFile(
                f"it has format {metadata['format']} and the outputs {graph.output_shapes}; one vector is format {FORMAT}, and"
                f" anything else {ANY_OUTPUTS}"
            )
    except CorruptFile:
        raise
    except ParetrimError as error:
        raise CorruptFile(str(error)) from error
    return graph


def _format_of(graph: Graph) -> str:
    return str(FORMAT if graph.returns_a_vector else ANY_OUTPUTS)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _seal(content: bytes) -> re.Match[bytes]:
    """Where the seal is: once, in the header."""
    if len(content) < 8:
        raise CorruptFile(f"it has {len(content)} bytes and is cut off before its header")
    length = int.from_bytes(content[:8], "little")
    if length > min(LARGEST_HEADER, len(content) - 8):
        raise CorruptFile(f"its header claims {length} bytes of a file of {len(content)}; it is truncated or not a graph file")
    found = list(_SEAL.finditer(content, 8, 8 + length))
    if len(found) != 1:
        raise CorruptFile("it is not a graph file: its header does not hold exactly one SHA-256")
    return found[0]


def _with_seal(content: bytes, digits: str) -> bytes:
    start, stop = _seal(content).span(1)
    return content[:start] + digits.encode() + content[stop:]


def _read_metadata(content: bytes) -> Mapping[str, str]:
    claimed = _seal(content).group(1).decode()
    if hashlib.sha256(_with_seal(content, _UNSEALED)).hexdigest() != claimed:
        raise CorruptFile("its SHA-256 does not match its content; it was damaged or cut off, copy or build it again")
    length = int.from_bytes(content[:8], "little")
    header = _parse(content[8 : 8 + length])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CorruptFile("it is not a graph file: its header has no metadata")
    if metadata.get("format") not in (str(FORMAT), str(ANY_OUTPUTS)):
        raise CorruptFile(
            f"it has format {metadata.get('format')!r} and this version reads {FORMAT} and {ANY_OUTPUTS}; update paretrim"
        )
    if set(metadata) != {"format", "graph", "sha256"}:
        raise CorruptFile(f"its metadata has the keys {sorted(metadata)}; a graph file has format, graph and sha256")
    return metadata


def _parse(text: str | bytes) -> object:
    return parse_strictly(text, "its structure")


def _by_node(tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    result: dict[str, dict[str, Array]] = {}
    for name, tensor in tensors.items():
        node, slash, short = name.rpartition("/")
        if not slash or str(tensor.dtype) not in _DTYPES:
            raise CorruptFile(
                f"its tensor {name!r} is {tensor.dtype}; tensors are named node/tensor and are one of {sorted(_DTYPES)}"
            )
        result.setdefault(node, {})[short] = tensor
    return result
