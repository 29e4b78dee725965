"""A file read by the native reader and by the one written from ``SPEC.md`` alone: both find the same."""

import dataclasses

import spec_reader
from trim_records import split

from paretrim import trimfile
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.runtime.compiled import native

PLAIN, RICH, FREQUENCIES, TABLES, EXPONENTS, GROUPS = range(6)


def assert_read_alike(content):
    """Equal bit for bit: the plain file of a graph is canonical."""
    found = spec_reader.read(content)
    assert plain_bytes(found.graph) == plain_bytes(trimfile.from_bytes(content).graph)
    return found


def codings(content):
    return [record[3][0] for record in split(content) if record[0] == 4]


def parts_of_native(content):
    """All that the native reader finds in a file, whatever the graph computes."""
    (spec, nodes, outputs, classes), *_ = native.read_trim(content, threads=1, checked=False)
    return repr((spec, [(*node[:4], dict(node[4]), bits_of(node[5]), node[6]) for node in nodes], outputs, classes))


def parts_of_second(content):
    graph = spec_reader.decode(content).graph
    nodes = [
        (
            node.name,
            node.op,
            node.inputs,
            dataclasses.astuple(node.type),
            dict(node.attributes),
            bits_of(node.tensors),
            node.layer,
        )
        for node in graph.nodes
    ]
    return repr((dataclasses.astuple(graph.input), nodes, graph.outputs, graph.classes))


def bits_of(tensors):
    return {name: (tensor.dtype.name, tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()}
