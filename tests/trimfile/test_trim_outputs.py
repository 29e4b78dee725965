"""Files of networks with several outputs, or a map as their only one: version 3, and nothing else in them is new."""

from dataclasses import replace
from pathlib import Path

import pytest
import spec_reader
from trim_networks import small, two_heads
from trim_records import join, refused, split

from paretrim import trimfile
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

GOLDEN = Path(__file__).parent / "golden-outputs.trim"
VERSION = 8
"""Where the version stands."""


def test_golden_file():
    """The bytes of version 3, as ``golden.trim``."""
    assert trimfile.to_bytes(two_heads()) == GOLDEN.read_bytes()
    assert plain_bytes(trimfile.read(GOLDEN)) == plain_bytes(two_heads())


def one_map():
    """Two channels of pixels, halved: the network returns them as they are."""
    kind = ValueType((2, 4, 4))
    nodes = (Node("half", "pointwise", (INPUT,), kind, {"function": "mul_constant", "constant": 0.5}),)
    return Graph(InputSpec((2, 4, 4)), nodes, ("half",), ("ground", "ink"))


def test_a_map_alone_is_read_by_all():
    graph = one_map()
    content = trimfile.to_bytes(graph)
    assert content[VERSION] == 3
    assert plain_bytes(trimfile.from_bytes(content).graph) == plain_bytes(graph)
    assert spec_reader.read(content).graph.classes == ("ground", "ink")
    refused_by_all(join(split(content), version=2), r"record 0 \(structure\): ")


def test_only_what_is_no_vector_raises_the_version():
    assert trimfile.to_bytes(small())[VERSION] == 2
    assert trimfile.to_bytes(replace(two_heads(), outputs=("features",)))[VERSION] == 2
    assert trimfile.to_bytes(two_heads())[VERSION] == 3


def refused_by_all(content, message):
    refused(content, message)
    with pytest.raises(ValueError, match="record 0"):
        spec_reader.read(content)


def test_a_version_says_how_many_outputs_there_are():
    one, several = split(trimfile.to_bytes(small(()))), split(trimfile.to_bytes(two_heads()))
    # The number of the one output, 5, stands where version 3 has how many there are: then the 0 of the class names comes first.
    refused_by_all(join(one, version=3), r"record 0 \(structure\): ")
    refused_by_all(join(several, version=2), r"record 0 \(structure\): ")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (b"\1\5", "it is of version 3, but its weights and outputs need version 2"),
        (b"\0", "it has no outputs"),
        (b"\7\5\6\5\6\5\6\5", "the number of outputs is 7"),
        (b"\2\5\7", "the output is 7"),
        (b"\2\5\5", "the output 'fc' is named twice; name it once"),
        (b"\2\5\4", "the output is uint8"),
        (b"\2\5\0", "the output is uint8"),
    ],
)
def test_forged_outputs_are_refused(outputs, message):
    content = trimfile.to_bytes(two_heads())
    records = split(content)
    structure = spec_reader.text_record(spec_reader.split(content)[0])
    assert structure.endswith(b"\2\5\6\0"), "two outputs, 5 and 6, and no class names"
    changed = structure.removesuffix(b"\2\5\6\0") + outputs + b"\0"
    records[0][2:] = [len(changed), b"\0" + changed]
    refused_by_all(join(records, version=3), rf"record 0 \(structure\): .*{message}")
