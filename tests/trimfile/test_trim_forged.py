"""Forged files with a correct seal: every invalid part is named before any memory is allocated for it."""

import subprocess
import sys

import numpy as np
import pytest
from trim_networks import linear
from trim_records import CONTENT, join, number, refused, split

from paretrim.errors import CorruptFile
from paretrim.trimfile import provenance


def forged(change):
    records = split(CONTENT)
    change(records)
    return join(records)


def set_at(index, field, value):
    def change(records):
        records[index][field] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at(0, 2, 2**40), r"header: a decoded length is 1099511627776, above"),
        (set_at(0, 2, 2**23), r"header: record 0 \(structure\): it claims 8388608 bytes; the maximum is 4194304"),
        (set_at(0, 2, 100), r"record 0 \(structure\): "),
        (set_at(0, 2, 10**4), r"record 0 \(structure\): "),
        (set_at(1, 2, 2**22), r"record 1 \(provenance\): "),
        (set_at(2, 2, 1), r"record 2 \(parameters\): it claims 1 bytes but the structure has 840"),
        (set_at(2, 2, 2**31), r"record 2 \(parameters\): it claims 2147483648 bytes from \d+, more than they can encode"),
        (set_at(3, 2, 181), r"record 3 \(weights 0\): it claims 181 bytes but the structure has 180"),
        (set_at(3, 1, 8), "the records of weights hold fewer rows"),
        (set_at(3, 1, 10), "the records of weights hold more rows"),
        (set_at(3, 1, 2**32), "the records of weights hold more rows"),
        (set_at(3, 1, 2**33), "header: a number of rows is 8589934592, above"),
        (set_at(0, 0, 7), "header: record 0 has the unknown kind 7"),
        (set_at(0, 0, 0), "header: record 0 has the unknown kind 0"),
        (set_at(1, 0, 1), "header: it has 2 records of the kind structure"),
        (set_at(1, 0, 3), "header: it has 2 records of the kind parameters"),
        (set_at(2, 0, 2), "header: it has 2 records of the kind provenance"),
        (set_at(0, 3, b""), r"record 0 \(structure\): it is empty"),
        (set_at(0, 3, b"\x02abc"), r"record 0 \(structure\): its coding is 2"),
        (set_at(1, 3, b"\x00{}"), r"record 1 \(provenance\): it holds 2 bytes but claims"),
        (set_at(2, 3, b"\x00" + bytes(839)), r"record 2 \(parameters\): it is truncated"),
        (set_at(2, 3, b"\x00" + bytes(841)), r"record 2 \(parameters\): 1 bytes follow its end"),
        (set_at(3, 3, b"\x05"), r"record 3 \(weights 0\): its coding is 5"),
        (lambda records: records.reverse(), r"header: record 1 \(parameters\) follows one of a later kind"),
        (lambda records: records.pop(2), "header: it has 0 records of the kind parameters"),
        (lambda records: records.pop(3), "the records of weights hold fewer rows"),
        (lambda records: records.append(records[3]), "the records of weights hold more rows"),
    ],
)
def test_invalid_tables_are_refused(change, message):
    refused(forged(change), message)


def test_invalid_lengths_and_counts_are_refused():
    records = split(CONTENT)
    refused(
        join(records, version=1), "header: its version is 1; this reader supports 2 to 7; write the file again with this version"
    )
    refused(join(records, version=8), "header: its version is 8; this reader supports 2 to 7; update paretrim")
    refused(join(records, count=3), "header: ")
    refused(join(records, count=2**13 + 1), "header: the number of records is 8193, above 8192")
    refused(join(records, count=5), "header: ")
    refused(join(records, stored={3: 10**6}), r"record 3 \(weights 0\): it is truncated after \d+ of 1000000 bytes")
    refused(join(records, stored={3: 1}), r"header: \d+ bytes follow the last record|record 3")


def stage(epochs):
    facts = f'"name":"","settings":{{}},"epochs":{epochs},"bits":8'
    numbers = ",".join(f'"{name}":0' for name in ("seconds", "sparsity", "accuracy_before", "accuracy_after"))
    return f'{{"format":1,"recipe":"","history":[{{{facts},{numbers}}}],"measured":{{}}}}'


def structure(*, shape=b"\x03\x03\x04\x04", nodes=b"\x00", tail=b"\x00\x00"):
    return b"\x00" + shape + b"\x00\x00" + nodes + tail


def node(*, op=7, flags=19, name=b"\x00\x01a", rest=b"\x00\x00"):
    return bytes([op, flags]) + name + rest


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (structure(), "it is of version 2, but its weights and outputs need version 3"),
        (structure(nodes=b"\xff\xff\x7f"), "the number of nodes is 2097151, above 65536"),
        (structure(nodes=b"\x80\x00"), "the number of nodes is not a number in its shortest form"),
        (structure(nodes=b"\xff" * 11), "the number of nodes is not a number in its shortest form"),
        (structure(shape=b"\x09" + b"\x01" * 9), "the number of axes is 9, above 8"),
        (structure(shape=b"\x02" + b"\xff\xff\xff\xff\x07" * 2), "a shape has more than"),
        (structure(nodes=b"\x01" + node(op=200)), "node 0: it has the operation 200, of 24"),
        (structure(nodes=b"\x01" + node(flags=32)), "node 0: it has the flags 32"),
        (structure(nodes=b"\x01" + node(name=b"\x05\x01a")), "node 0: the length of the common beginning of two names is 5"),
        (structure(nodes=b"\x01" + node(name=b"\x00\x02\xc3\x28")), "node 0: a name in it is not valid UTF-8"),
        (structure(nodes=b"\x01" + node(name=b"\x00\xff\x7f")), "node 0: the length of a name is 16383, above 4096"),
        (structure(nodes=b"\x01" + node(flags=17, rest=b"\x01\x07")), "node 0: the distance to an input is 7, above 0"),
        (structure(nodes=b"\x01" + node(flags=9, rest=b"\x00")), "node 0: it copies its input's shape or grid but has no input"),
        (structure(nodes=b"\x02" + (node(flags=27) * 2).replace(b"\x00\x01a", b"\x00\x01a")), "two values are named 'a'"),
        (structure(nodes=b"\x01" + node(name=b"\x00\x06images", flags=27)), "two values are named 'images'"),
        (
            structure(nodes=b"\x01" + node(flags=27, rest=b"\x02\x03\x00\x02\x03\x00\x02\x00")),
            "names must ascend without duplicates",
        ),
        (structure(nodes=b"\x01" + node(flags=27, rest=b"\x01\x03\x09")), "an attribute has the kind 9; it must be 0 to 4"),
        (structure(nodes=b"\x01" + node(flags=27, rest=b"\x01\x03\x01\x07")), "a number has the form 7"),
        (structure(nodes=b"\x01" + node(flags=27, rest=b"\x01\x03\x01\x01\x63\x00")), "a number has 99 decimals"),
        (structure(nodes=b"\x01" + node(flags=27, rest=b"\x01\x03\x04\x7f")), "the length of a list is 127, above 64"),
        (structure(nodes=b"\x01" + node(flags=27, rest=b"\x7f")), "the number of attributes is 127, above 32"),
        (structure(nodes=b"\x01" + node(flags=27, rest=b"\x00\x01\x1d\x09")), "tensor 'weight' has the type 9"),
        (structure(nodes=b"\x01" + node(flags=27), tail=b"\x02\x00"), "the output is 2, above 1"),
        (structure(tail=b"\x00\xff\x7f"), "the number of classes is 16383"),
        (structure(tail=b"\x00\x00\x00"), "1 bytes follow its end"),
        (structure(tail=b"\x00"), "it is truncated"),
    ],
)
def test_forged_structures(body, message):
    empty = [3, 0, 0, b"\x00"]
    refused(join([[1, 0, len(body) - 1, body], empty]), r"record 0 \(structure\): .*" + message)


BOMB = """
import resource, sys
sys.path[:0] = {path!r}
from paretrim.errors import CorruptFile
from paretrim.runtime.compiled import native
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    native.read_trim({content!r}, threads=2)
except CorruptFile as error:
    pass
else:
    raise SystemExit("it was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_takes_no_memory():
    """A gigabyte of weights declared by the structure, and none in the file."""
    shape = b"\x02" + number(2**15) * 2
    tensors = b"\x01" + bytes([29]) + b"\x02" + shape
    body = structure(
        shape=b"\x03" + number(2**15) + b"\x01\x01", nodes=b"\x01" + node(op=4, flags=19, rest=b"\x01\x03\x00" + tensors)
    )
    for rows, decoded in ((2**15, 2**30), (1, 2**15), (2**15, 5)):
        content = join([[1, 0, len(body) - 1, body], [3, 0, 0, b"\x00"], [4, rows, decoded, b"\x00" * 9]])
        program = BOMB.format(path=sys.path, content=content)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 32 * 1024, "kilobytes"


def test_a_graph_that_breaks_its_rules_is_refused_also_with_a_right_seal():
    """The structure is well formed; what it says is not allowed: a weight of -128."""
    from paretrim.runtime.compiled import native

    weight = np.zeros((2, 4), np.int8)
    weight[1, 2] = -128
    content = native.write_trim(linear(weight), provenance="", threads=1)
    refused(content, r"record 0 \(structure\): .*its weight holds -128")


@pytest.mark.parametrize(
    ("text", "message", "native_message"),
    [
        ("[]", "its format is 'list'", "it is not an object"),
        ('{"format":9}', "its format is 9; this version reads 1; update paretrim", "its format is not 1"),
        ('{"format":1}', "it has the keys", "its keys must be exactly format, recipe, history and measured"),
        ('{"format":1,"format":1}', "it repeats a key", "it repeats a key"),
        ('{"format":1,"recipe":NaN}', "it holds NaN", "it holds NaN or infinity; numbers are finite"),
        ('{"format":-Infinity}', "it holds -Infinity", "it holds NaN or infinity; numbers are finite"),
        ('{"format":1e999}', "it is not valid JSON", "it holds NaN or infinity; numbers are finite"),
        ("{", "it is not valid JSON", r"it is not valid JSON \(at byte 1\)"),
        ("{} x", "it is not valid JSON", r"it is not valid JSON \(at byte 3\)"),
        (
            f'{{"format":1,"seconds":1{"0" * 400}}}',
            "it holds an integer of 401 digits",
            "it holds an integer of 401 digits",
        ),
        ('{"format":1,"recipe":"\\ud800"}', "it is not valid JSON: 'utf-8' codec can't encode", "it holds half of a character"),
        ('{"format":1,"recipe":1,"history":[],"measured":{}}', "recipe must be a string", "recipe must be a string"),
        (
            '{"format":1,"recipe":"","history":[],"measured":{"a":[]}}',
            "the values of measured must be numbers or strings",
            "the values of measured must be",
        ),
        (
            '{"format":1,"recipe":"","history":[{}],"measured":{}}',
            "a stage of the history must have exactly",
            "a stage of the history must have exactly",
        ),
        (
            stage('"x"'),
            "a stage of the history must have a string name",
            "a stage of the history must have a string name",
        ),
        ('{"a":' + "[" * 70 + "]" * 70 + "}", "it is nested more than 64 deep", "it is nested more than 64 deep"),
    ],
)
def test_forged_provenance(text, message, native_message):
    """Reading refuses it before its values are looked at; so does writing, which looks at the values."""
    records = split(CONTENT)
    records[1] = [2, 0, len(text), b"\x00" + text.encode()]
    refused(join(records), rf"record 1 \(provenance\): .*{native_message}")
    with pytest.raises(CorruptFile, match=f"record provenance: .*{message}"):
        provenance.decode(text)


def test_provenance_that_is_no_text():
    records = split(CONTENT)
    records[1] = [2, 0, 2, b"\x00\xff\xff"]
    refused(join(records), r"record 1 \(provenance\): it is not valid UTF-8")
