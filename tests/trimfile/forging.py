"""Forged files: structures written field by field, for tests of what readers reject."""

from trim_records import join, number

OPERATIONS = {
    "quantize": 1,
    "dequantize": 2,
    "conv2d": 3,
    "linear": 4,
    "relu": 6,
    "concat": 11,
    "pad": 13,
    "flatten": 15,
    "adaptive_avg_pool": 20,
}
FLOAT, INT8, INT32 = 0, 2, 3


def text(value):
    return number(len(value.encode())) + value.encode()


def shape_of(extents):
    return number(len(extents)) + b"".join(number(extent) for extent in extents)


def attribute(name, values):
    """A list of integers, or one."""
    listed = isinstance(values, tuple)
    body = b"".join(number(2 * value) for value in (values if listed else (values,)))
    return b"\0" + text(name) + (b"\4" + number(len(values)) if listed else b"\0") + body


def node(index, op, inputs, shape, *, attributes=None, tensors=None, real=False):
    """Value ``index`` (from 1), which reads values ``inputs``; its grid is 1/16 with zero point 0."""
    found = bytes([OPERATIONS[op], 1 | (16 if real else 4)]) + b"\0" + text(f"n{index}")
    found += number(len(inputs)) + b"".join(number(index - 1 - value) for value in inputs) + shape_of(shape)
    found += b"" if real else b"\x00\x00\x80\x3d\x00"
    found += number(len(attributes or {})) + b"".join(
        attribute(name, (attributes or {})[name]) for name in sorted(attributes or {})
    )
    found += number(len(tensors or {}))
    for name in sorted(tensors or {}):
        kind, extents = (tensors or {})[name]
        found += b"\0" + text(name) + bytes([kind]) + shape_of(extents)
    return found


def weighted(outputs, *rest):
    """The tensors of a weighted layer."""
    return {"weight": (INT8, (outputs, *rest)), "weight_scale": (FLOAT, (outputs,)), "bias": (INT32, (outputs,))}


def network(shape, *nodes):
    """The structure of nodes, each made by a function of its number, on float images of a shape."""
    made = [one(index + 1) for index, one in enumerate(nodes)]
    return shape_of(shape) + b"\0\0" + number(len(made)) + b"".join(made) + number(len(made)) + b"\0"


def file_of(structure, *, small_bytes=0, rows=0, weight_bytes=0, weights=b"\0", provenance=None, parameters=None):
    """A file with correct digests and lengths."""
    records = [[1, 0, len(structure), b"\0" + structure]]
    if provenance is not None:
        records.append([2, 0, len(provenance), b"\0" + provenance])
    records.append([3, 0, small_bytes, b"\0" + bytes(small_bytes) if parameters is None else parameters])
    if rows:
        records.append([4, rows, weight_bytes, weights])
    return join(records)
