"""A file's records taken apart, and sealed again whatever they hold, by the specification alone."""

import hashlib

import pytest
from trim_networks import small

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.history import StageOutcome
from paretrim.trimfile import Provenance

MAGIC = b"\x89TRIM\r\n\x1a"
RECORD = r"header: |record \d+ \((structure|provenance|parameters|weights \d+)\): |record provenance: |the records of weights"
CONTENT = trimfile.to_bytes(small(), Provenance(recipe="0123"))
HISTORY = (
    StageOutcome("prune", {"sparsity": 0.9, "pattern": "1x4"}, 3, 12.5, 0.9, 32, 0.91, 0.89),
    StageOutcome("quantize", {"weight_bits": 8}, 0, 1.0, 0.9, 8, 0.89, 0.885),
)
KNOWN = Provenance("0" * 16, HISTORY, {"deployed_accuracy": 0.8831, "test_images": 10000, "machine": "a CPU"})


def number(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def take(content, at):
    value = shift = 0
    while True:
        value |= (content[at] & 127) << shift
        shift += 7
        at += 1
        if content[at - 1] < 128:
            return value, at


def split(content):
    """Records as [kind, rows, decoded, stored bytes], read by the specification alone."""
    assert content[:8] == MAGIC
    version, at = take(content, 8)
    count, at = take(content, at)
    records = []
    for _ in range(count):
        kind, rows = content[at], 0
        at += 1
        if kind == 4:
            rows, at = take(content, at)
        decoded, at = take(content, at)
        stored, at = take(content, at)
        records.append([kind, rows, decoded, stored, content[at : at + 32]])
        at += 32
    assert version in (2, 3, 4, 5, 6, 7)
    assert content[at : at + 32] == hashlib.sha256(content[:at]).digest()
    at += 32
    for record in records:
        data, at = content[at : at + record[3]], at + record[3]
        assert hashlib.sha256(data).digest() == record[4]
        record[3:] = [data]
    assert at == len(content)
    return records


def join(records, *, version=2, count=None, stored=None):
    """A file with right digests whose author is not our writer."""
    head = MAGIC + number(version) + number(len(records) if count is None else count)
    for index, (kind, rows, decoded, data) in enumerate(records):
        length = stored.get(index, len(data)) if stored else len(data)
        head += bytes([kind]) + (number(rows) if kind == 4 else b"") + number(decoded) + number(length)
        head += hashlib.sha256(data).digest()
    return head + hashlib.sha256(head).digest() + b"".join(record[3] for record in records)


def refused(content, message=RECORD):
    with pytest.raises(CorruptFile, match=message):
        trimfile.from_bytes(content)
