"""Untrusted files: after any change, one typed error that names the record, or the network that was written."""

import re
from pathlib import Path

import numpy as np
import pytest
from trim_networks import linear, small
from trim_records import CONTENT, MAGIC, join, refused, split

from paretrim import runtime, trimfile
from paretrim.errors import CorruptFile

CORPUS = Path(__file__).parent / "corpus"
WHAT_TO_DO = re.compile(r"; .*(copy (or (write the file|create it)|this one) again|write the file again|update paretrim|limit=)")


def test_the_second_reader_understands_the_file():
    assert join(split(CONTENT)) == CONTENT
    assert [record[0] for record in split(CONTENT)] == [1, 2, 3, 4]


def test_every_flipped_bit_is_detected_and_its_record_named():
    records = split(CONTENT)
    start = len(CONTENT) - sum(len(record[3]) for record in records)
    names = ["header: "] * start
    for index, (kind, name) in enumerate(zip(records, ["structure", "provenance", "parameters", "weights 0"], strict=True)):
        names += [f"record {index} ({name}): its SHA-256"] * len(kind[3])
    for at, name in enumerate(names):
        for bit in range(8):
            damaged = bytearray(CONTENT)
            damaged[at] ^= 1 << bit
            with pytest.raises(CorruptFile) as caught:
                trimfile.from_bytes(bytes(damaged))
            assert name in str(caught.value) or (at < start and "record" in str(caught.value)), (at, bit, str(caught.value))
            assert WHAT_TO_DO.search(str(caught.value)), str(caught.value)


def test_every_truncation_and_every_addition_is_detected():
    for length in range(len(CONTENT)):
        refused(CONTENT[:length])
    refused(CONTENT + b"\0", "header: 1 bytes follow the last record")


def test_random_bytes_are_refused():
    stream = np.random.default_rng(0)
    for length in (0, 1, 8, 9, 100, 5000):
        refused(stream.bytes(length), "header: ")
        refused(MAGIC + b"\2" + stream.bytes(length), "header: ")


@pytest.mark.parametrize("record", range(4))
def test_well_sealed_records_of_changed_bytes_give_an_error_or_a_network_of_the_same_size(record):
    """Digests are right, so the bytes reach the decoders: each must end in the typed error or in values that pass every check."""
    for at in range(len(split(CONTENT)[record][3])):
        for bit in range(8):
            records = split(CONTENT)
            data = bytearray(records[record][3])
            data[at] ^= 1 << bit
            records[record][3] = bytes(data)
            try:
                graph = trimfile.from_bytes(join(records)).graph
            except CorruptFile as error:
                assert "record" in str(error)  # noqa: PT017
            else:
                assert len(graph.nodes) <= len(small().nodes) or record == 0


@pytest.mark.parametrize("record", range(4))
@pytest.mark.parametrize("added", [b"\0", bytes(9), b"hidden bytes"], ids=repr)
def test_nothing_can_be_added_to_a_coded_stream(record, added):
    """Unread bytes fit nowhere but in the few that a decoder reads ahead."""
    records = split(CONTENT)
    records[record][3] += added
    refused(join(records), r"record \d.*: its coded stream does not end where its values do")


def test_names_are_never_paths(tmp_path, monkeypatch):
    from dataclasses import replace

    graph = small()
    renamed = replace(graph.nodes[-1], name="../../evil", layer="/etc/passwd")
    graph = replace(graph, nodes=(*graph.nodes[:-1], renamed), outputs=("../../evil",))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    trimfile.write(graph, tmp_path / "in" / "a.trim")
    assert trimfile.read(tmp_path / "in" / "a.trim").nodes[-1].layer == "/etc/passwd"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.trim", "in"]


def test_missing_and_damaged_files_name_the_file(tmp_path):
    path = tmp_path / "a.trim"
    with pytest.raises(CorruptFile, match=r"trim file '.*a.trim': it cannot be read: No such file"):
        trimfile.read(path)
    path.write_bytes(CONTENT[:-1])
    for load in (trimfile.read, trimfile.inspect, runtime.load):
        with pytest.raises(CorruptFile, match=r"'.*a.trim': record 3 \(weights 0\): it is truncated after"):
            load(path)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.trim")), ids=lambda path: path.stem)
def test_the_kept_corpus_is_read_or_refused(path):
    """What the fuzzer starts from, and what it once broke the reader or the writer with; digests as found and made right."""
    content = path.read_bytes()
    try:
        contents = [content, join(split(content))]
    except AssertionError:
        contents = [content]
    for one in contents:
        try:
            found = trimfile.from_bytes(one)
        except CorruptFile as error:
            assert "record" in str(error) or "header" in str(error)  # noqa: PT017
        else:
            assert trimfile.from_bytes(trimfile.to_bytes(found.graph, found.provenance)).file_bytes > 0


@pytest.mark.parametrize("scale", [1.2e-38, 1.5e-45, 1e38, -1.0, float("nan"), float("inf"), 0.0])
def test_invalid_scales_change_no_weight(scale):
    """The native writer stands on its own: what the checks of a graph would refuse comes back bit for bit all the same."""
    from paretrim.runtime.compiled import native

    weight = np.arange(-60, 60, dtype=np.int8).reshape(4, 30)
    weight[np.abs(weight) < 25] = 0
    scales = np.array([scale, 1.3e-45, 0.01, scale], np.float32)
    content = native.write_trim(linear(weight, scale=scales), provenance="", threads=1)
    tensors = native.read_trim(content, threads=1)[0][1][-1][5]
    assert tensors["weight"].tobytes() == weight.tobytes()
    assert tensors["weight_scale"].tobytes() == scales.tobytes()
