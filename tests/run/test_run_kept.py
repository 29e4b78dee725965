"""Internal files of a run that were replaced by something else: the run continues without them, or names them."""

import os

import pytest

from paretrim.errors import CannotWrite, CorruptFile, RunInUse
from paretrim.files import append_line, read_json
from paretrim.lock import NOTE, hold
from paretrim.results import store
from paretrim.results.run_folder import ONNX_PROBLEM, keep_onnx_problem, onnx_problem_in
from paretrim.train.checkpoint import load_state

DEEP = b"[" * 100_000


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def deep(path):
    path.write_bytes(DEEP)


def loop(path):
    path.symlink_to(path.name)


def binary(path):
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("damage", [pipe, folder, deep, loop, binary])
def test_an_unreadable_note_is_ignored(damage, tmp_path):
    damage(tmp_path / ONNX_PROBLEM)
    assert onnx_problem_in(tmp_path) is None
    with pytest.raises((OSError, ValueError)):
        read_json(tmp_path / ONNX_PROBLEM)


def test_a_note_is_read(tmp_path):
    keep_onnx_problem(tmp_path, "it differs", {})
    assert onnx_problem_in(tmp_path) == "it differs"


@pytest.mark.parametrize("damage", [pipe, deep, loop, binary])
def test_a_held_folder_is_held_whatever_its_note_says(damage, tmp_path):
    with hold(tmp_path):
        (tmp_path / NOTE).unlink()
        damage(tmp_path / NOTE)
        with pytest.raises(RunInUse, match="in use by another process that has just started"), hold(tmp_path):
            pass


def test_a_pipe_in_place_of_outcomes_is_named_and_never_waited_for(tmp_path):
    path = tmp_path / "outcomes.jsonl"
    pipe(path)
    with pytest.raises(CannotWrite, match=r"outcomes\.jsonl' cannot be written: it is no regular file; choose another place"):
        append_line(path, "{}")
    with pytest.raises(CorruptFile, match=r"outcomes\.jsonl' cannot be read: it is a pipe or a device, not a file; check"):
        store.inspect(path)
    with pytest.raises(OSError, match="it is a pipe or a device, not a file"):
        load_state(path)
