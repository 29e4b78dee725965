"""Files of networks with several outputs: version 3, and nothing else in them is new."""

from dataclasses import replace
from pathlib import Path

import pytest
import spec_reader
from test_trim_safety import join, refused, split
from trim_networks import small, two_heads

from paretrim import trimfile
from paretrim.graph.storage import to_bytes as plain_bytes

GOLDEN = Path(__file__).parent / "golden-outputs.trim"
VERSION = 8
"""Where the version stands."""


def test_golden_file():
    """The bytes of version 3, as ``golden.trim``."""
    assert trimfile.to_bytes(two_heads()) == GOLDEN.read_bytes()
    assert plain_bytes(trimfile.read(GOLDEN)) == plain_bytes(two_heads())


def test_only_several_outputs_raise_the_version():
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
        (b"\1\5", "it has 1 outputs; a file of version 3 has 2 or more"),
        (b"\0", "it has 0 outputs; a file of version 3 has 2 or more"),
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
