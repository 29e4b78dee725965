"""Weights coded by their frequencies: when the writer chooses this, the round trip, and the rejection of forged records."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from second_reading import codings
from trim_networks import integers, linear
from trim_records import join, number, split, take

from paretrim import trimfile
from paretrim.errors import CorruptFile
from paretrim.graph.entropy import order0_bytes
from paretrim.runtime.compiled import native

GOLDEN = Path(__file__).parent / "golden-frequencies.trim"
RICH, FREQUENCIES = 1, 2


def eights(outputs=16, inputs=475):
    """Zeros in aligned blocks of eight, of which the other models know nothing, and the last block is cut off."""
    weight = integers((outputs, inputs), salt="magnitudes", low=1, high=2)
    weight *= 1 - 2 * integers((outputs, inputs), salt="signs", low=0, high=1)
    kept = integers((outputs, -(-inputs // 8)), salt="blocks", low=0, high=4) == 0
    return (weight * kept.repeat(8, axis=1)[:, :inputs]).astype(np.int8)


CONTENT = trimfile.to_bytes(linear(eights()))


def test_golden_file():
    """The bytes of version 2, as ``golden.trim``."""
    assert GOLDEN.read_bytes() == CONTENT
    assert codings(CONTENT) == [FREQUENCIES]
    np.testing.assert_array_equal(trimfile.open_file(GOLDEN).graph.nodes[-1].tensors["weight"], eights())


def times_coded(weight):
    """The file, and how often its writer coded a weight on average."""
    before = native.coded_bytes()
    content = trimfile.to_bytes(linear(weight))
    return content, (native.coded_bytes() - before) / weight.nbytes


def gaussian(shape, *, zeros=0.0, block=1):
    """Weights of rows of several widths, whose blocks of channels are 0 at random."""
    random = np.random.default_rng(5)
    weight = np.rint(random.normal(0, 1, shape) * random.uniform(15, 35, (shape[0], 1))).clip(-127, 127).astype(np.int8)
    weight[(random.random((shape[0], -(-shape[1] // block))) < zeros).repeat(block, axis=1)[:, : shape[1]]] = 0
    return weight


@pytest.mark.parametrize(("zeros", "block"), [(0.0, 1), (0.8, 1), (0.8, 4)])
def test_many_weights_without_order_take_little_more_than_a_model_of_them(zeros, block):
    weight = gaussian((600, 1003), zeros=zeros, block=block)
    content, times = times_coded(weight)
    assert codings(content) == [FREQUENCIES]
    assert times < (2.2 if zeros else 1.2)  # a sample of few values has to be a larger share of them
    found = trimfile.from_bytes(content)
    np.testing.assert_array_equal(found.graph.nodes[-1].tensors["weight"], weight)
    assert found.layer_bytes["fc", "weight"] < 1.001 * order0_bytes(weight)


def test_few_weights_take_the_fewest_bytes():
    """The same weights, fewer: frequencies would be read faster, and learning takes less."""
    assert FREQUENCIES not in codings(trimfile.to_bytes(linear(gaussian((50, 1003)))))


def test_order_is_worth_a_model():
    weight = np.sort(gaussian((600, 1003)), axis=1)
    content = trimfile.to_bytes(linear(weight))
    assert FREQUENCIES not in codings(content)


def test_a_value_without_a_share_is_coded_otherwise():
    weight = eights()
    weight[7, 7] = -128
    content = native.write_trim(linear(weight), provenance="", threads=1)
    assert codings(content) != [FREQUENCIES]
    assert native.read_trim(content, threads=1)[0][1][-1][5]["weight"].tobytes() == weight.tobytes()


def forged(data):
    records = split(CONTENT)
    records[-1][3] = data
    return join(records)


DATA = split(CONTENT)[-1][3]
LENGTH, START = take(DATA, 1)
STREAM, SYMBOLS = DATA[START : START + LENGTH], DATA[START + LENGTH :]


def record(stream=STREAM, symbols=SYMBOLS):
    return bytes([FREQUENCIES]) + number(len(stream)) + stream + symbols


def changed(data, at, mask):
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_the_parts_of_the_record_are_known():
    assert forged(record()) == CONTENT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([FREQUENCIES]) + number(2**20), r"the length of its stream is 1048576, above \d+"),
        (record(symbols=b""), "its symbols take 0 bytes, which no stream of symbols does"),
        (record(symbols=SYMBOLS[:31]), "its symbols take 31 bytes"),
        (record(symbols=SYMBOLS[:-1]), "its symbols take [0-9]+ bytes"),
        (record(symbols=bytes(32)), "its symbols begin with a state of 0, below 65536"),
        (record(symbols=SYMBOLS[:-2]), "its symbols end before its weights do"),
        (record(symbols=SYMBOLS[:36]), "its symbols end before its weights do"),
        (record(symbols=SYMBOLS + bytes(2)), "its symbols do not end where its weights do"),
        (record(symbols=changed(SYMBOLS, len(SYMBOLS) - 1, 1)), "its symbols do not end where its weights do"),
        (record(stream=b""), "its coded stream ends before its values do"),
    ],
)
def test_invalid_symbols_are_refused(data, message):
    with pytest.raises(CorruptFile, match=rf"record 2 \(weights 0\): .*{message}"):
        trimfile.from_bytes(forged(data))


@pytest.mark.parametrize(
    ("message", "weight"),
    [
        (r"a frequency in it is -?\d+ of (4096|2048)", eights()),
        (r"frequencies in it sum up to \d+ of (4096|2048)", eights()),
        ("it marks a weight past the last channel of its row", eights()),
        (r"a row is of kind \d+ of \d+", gaussian((700, 1003), zeros=0.8, block=4)),
    ],
)
def test_invalid_frequencies_and_rows_are_refused(message, weight):
    """After a changed bit the model decodes noise, so many random changes produce each invalid case."""
    content = trimfile.to_bytes(linear(weight))
    records = split(content)
    data = records[-1][3]
    length, start = take(data, 1)
    seen = set()
    for attempt in range(200):
        digest = hashlib.sha256(f"{message} {attempt}".encode()).digest()
        at = start + int.from_bytes(digest[:4], "little") % (length + 32)
        records[-1][3] = changed(data, at, 1 << digest[4] % 8)
        try:
            trimfile.from_bytes(join(records))
        except CorruptFile as error:
            seen.add(str(error))
    assert any(re.search(message, one) for one in seen), seen


def test_a_short_record_is_coded_in_every_way():
    """Three, and with tables where values are few."""
    assert times_coded(eights())[1] == 4
    assert times_coded(np.arange(-60, 60, dtype=np.int8).reshape(4, 30))[1] == 3


def test_where_neighbours_tell_weights_only_frequencies_and_the_best_model_code_them_all():
    random = np.random.default_rng(0)
    common = random.normal(0, 20, (1, 1003))
    weight = np.rint(common + random.normal(0, 4, (600, 1003))).clip(-127, 127).astype(np.int8)
    content, times = times_coded(weight)
    assert codings(content) == [RICH]
    assert times < 2.2
    np.testing.assert_array_equal(trimfile.from_bytes(content).graph.nodes[-1].tensors["weight"], weight)


def test_floats_are_coded_once():
    weight = np.random.default_rng(0).normal(0, 1, (30, 40)).astype(np.float32)
    assert times_coded(weight)[1] == 1
