"""Standard streams whose encoding lacks what our texts hold, and folders whose names no encoding can write."""

import io
import os
import sys

import pytest
from rich.console import Console

from paretrim.cli.streams import IN_ASCII, guarded_streams
from paretrim.results.run_folder import STORE
from paretrim.run.records import records_of

HELD = "prune → quantize  81.11 ± 4.36  – − 1×8×8 ♥ ü\n"
SHOWN = b"prune > quantize  81.11 ~ 4.36  - - 1x8x8 ? ?\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_an_encoding_lacks_is_written_in_one_character(monkeypatch, name):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace"))
    with guarded_streams():
        stream = getattr(sys, name)
        stream.write(HELD)
        stream.flush()
        assert raw.getvalue() == SHOWN
        Console(file=stream, width=60).print(HELD, end="", markup=False)
        stream.flush()
    assert raw.getvalue() == 2 * SHOWN
    assert all(len(one) == 1 and one.isascii() and one.isprintable() for one in IN_ASCII.values())


def test_every_encoding_that_has_a_character_writes_it(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    with guarded_streams():
        sys.stdout.write(HELD)
        sys.stdout.flush()
    assert raw.getvalue() == "prune > quantize  81.11 ± 4.36  - - 1×8×8 ? ü\n".encode("latin-1")


@pytest.mark.parametrize("name", [b"r\xfcn", "rün".encode(), b"run\x1b[2J"])
def test_a_run_folder_of_any_name_can_be_stored(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    records = records_of(folder)
    assert records.store == folder / STORE
    assert records.study.isprintable()
    records.study.encode()
