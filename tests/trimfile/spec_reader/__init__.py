"""A second reader of the ``.trim`` file, written from ``SPEC.md`` alone: it knows only what that page says.

It shares no code with the native reader, is slow (a second for about thirty thousand weights), and is meant for small files.
Its modules are the chapters of that page; from the package it uses only the graph that it returns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from paretrim.errors import ParetrimError
from paretrim.graph.checks import validate
from paretrim.graph.types import Graph
from spec_reader.budget import check_budget, check_parameters, check_weights
from spec_reader.container import KINDS, split, version_of
from spec_reader.cursor import Bytes, named
from spec_reader.numbers_and_text import text_record
from spec_reader.parameters import read_parameters
from spec_reader.pieces import deal
from spec_reader.provenance import read_provenance
from spec_reader.structure import read_structure
from spec_reader.weights import read_weights


class File(NamedTuple):
    """What a file holds; ``provenance`` is the object of its record, None where there is none."""

    graph: Graph
    provenance: dict[str, Any] | None


def read(content: bytes) -> File:
    """The whole file; its graph satisfies the rules of its operations.

    Raises:
        ValueError: the page does not allow these bytes; the message begins with the record.
    """
    file = decode(content)
    try:
        validate(file.graph)
    except ParetrimError as error:
        raise ValueError(f"record 0 (structure): {error}") from error
    return file


def decode(content: bytes) -> File:
    """The whole file, if it is well-formed; the rules of operations are not checked.

    Raises:
        ValueError: as from :func:`read`.
    """
    with named("header"):
        records = split(content)
    of_kind = {kind: [record for record in records if record.kind == kind] for kind in KINDS}
    with named(of_kind[1][0].name):
        structure = read_structure(text_record(of_kind[1][0]), version_of(Bytes(content)))
        check_budget(structure, len(content))
    provenance = None
    for record in of_kind[2]:
        with named(record.name):
            provenance = read_provenance(text_record(record))
    with named(of_kind[3][0].name):
        check_parameters(of_kind[3][0].decoded, len(content))
        read_parameters(of_kind[3][0], structure)
    pieces = deal(of_kind[4], structure)
    modelled = 0
    for record, dealt in zip(of_kind[4], pieces, strict=True):
        with named(record.name):
            modelled += read_weights(record, dealt)
            check_weights(modelled, len(content))
    with named(of_kind[1][0].name):
        return File(structure.graph(), provenance)
