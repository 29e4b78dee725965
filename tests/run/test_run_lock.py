import json
import os
import re

import pytest

from paretrim.errors import InvalidRecipe, RunInUse
from paretrim.lock import NOTE, hold


def test_a_second_holder_is_refused_with_the_first_ones_name(tmp_path):
    with hold(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / NOTE).read_text())["pid"] == os.getpid()
        with (
            pytest.raises(
                RunInUse, match=rf"run' is in use by process {os.getpid()} on \S+ since 20.*choose another with --folder"
            ),
            hold(tmp_path / "run"),
        ):
            pass
    with hold(tmp_path / "run"):
        pass


def test_a_holder_without_a_note_is_still_a_holder(tmp_path):
    with hold(tmp_path):
        (tmp_path / NOTE).write_text("not yet")
        with pytest.raises(RunInUse, match=re.escape("in use by another process that has just begun")), hold(tmp_path):
            pass


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    with hold(tmp_path):
        assert (tmp_path / NOTE).exists()
    assert not (tmp_path / NOTE).exists()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(InvalidRecipe, match=r"cannot be written: Read-only file system; choose another"), hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InvalidRecipe, match=r"file/run' cannot be made: Not a directory; choose another with --folder"),
        hold(tmp_path / "file" / "run"),
    ):
        pass
