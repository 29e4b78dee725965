"""Container: the table, the seal and the digests of the records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from spec_reader.cursor import Bytes, named, require

MAGIC = bytes.fromhex("895452494d0d0a1a")
VERSIONS = (2, 3, 4, 5, 6, 7)
KINDS = {1: "structure", 2: "provenance", 3: "parameters", 4: "weights"}


@dataclass
class Record:
    """One line of the table, with its stored bytes except the first."""

    name: str
    kind: int
    rows: int
    decoded: int
    stored: int
    digest: bytes
    coding: int = 0
    data: bytes = b""


def version_of(file: Bytes) -> int:
    """The version of a file, read from its beginning."""
    require(file.take(8) == MAGIC, "it does not begin as a trim file")
    version = file.varint()
    require(version in VERSIONS, f"its version is {version},; this reader supports {VERSIONS}")
    return version


def split(content: bytes) -> list[Record]:
    """The records, after a check of their digests and the seal."""
    file = Bytes(content)
    version = version_of(file)
    records = [table_line(file, index) for index in range(file.varint(8192))]
    sealed = content[: file.at]
    require(file.take(32) == hashlib.sha256(sealed).digest(), "its seal is not the digest of what precedes it")
    kinds = [record.kind for record in records]
    require(kinds == sorted(kinds), "its records are not in the order of their kinds")
    require(kinds.count(1) == kinds.count(3) == 1 and kinds.count(2) <= 1, f"its records are of the kinds {kinds}")
    require(sum(record.decoded for record in records) <= 2**32, "its records hold more than 2^32 bytes")
    for record in records:
        with named(record.name):
            stored = file.take(record.stored)
            require(hashlib.sha256(stored).digest() == record.digest, "its SHA-256 does not match")
            require(len(stored) > 0, "it is empty")
            record.coding, record.data = stored[0], stored[1:]
            known = {5: 3, 6: 4, 7: 5}.get(version, 2) if record.kind == 4 else 1
            require(record.coding <= known, f"its coding is {record.coding}, which is reserved")
    file.end()
    codings = {record.coding for record in records if record.kind == 4}
    require(version != 5 or 3 in codings, "it is of version 5 and has no tables")
    require(version != 6 or 4 in codings, "it is of version 6 and has no floats by exponents")
    require(version != 7 or 5 in codings, "it is of version 7 and has no integers in groups")
    return records


def table_line(file: Bytes, index: int) -> Record:
    """One record's line of the table."""
    kind = file.byte()
    require(kind in KINDS, f"record {index} has the unknown kind {kind}")
    rows = file.varint(2**32) if kind == 4 else 0
    decoded, stored = file.varint(2**32), file.varint(2**32)
    name = f"record {index} ({KINDS[kind]})"
    require(kind > 2 or decoded <= 2**22, f"{name}: it claims {decoded} bytes, above 2^22")
    require(decoded <= 2**17 * stored + 2**16, f"{name}: it claims {decoded} bytes from {stored}")
    return Record(name, kind, rows, decoded, stored, file.take(32))
