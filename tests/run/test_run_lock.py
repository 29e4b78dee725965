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
                RunInUse,
                match=rf"run' is in use by another call in this process, {os.getpid()} on \S+ since 20.*choose another folder \(",
            ),
            hold(tmp_path / "run"),
        ):
            pass
    with hold(tmp_path / "run"):
        pass


def test_what_a_killed_holder_left_half_written_is_removed(tmp_path):
    ours = [
        ".holder.json.0123abcd.part",
        "teachers/t/.epoch-00003.safetensors.0123abcd.part",
        "stages/s/.candidate.safetensors.0123abcd.part",
        "deployed/d/.model.onnx.0123abcd.part",
        "timings/candidates/c/.onnxruntime-1.npz.0123abcd.part",
    ]
    others = [
        "photos/.cat.jpg.0123abcd.part",  # a folder that runs do not write in
        "another-run/teachers/t/.epoch-00003.safetensors.0123abcd.part",  # somebody may be writing it
        "teachers/t/epoch-00003.safetensors",
        "teachers/t/.film.part",
        "teachers/t/.film.0123ABCD.part",
        "notes.0123abcd.part",
    ]
    for name in (*ours, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "stages" / ".link.0123abcd.part").symlink_to(tmp_path / "photos")
    with hold(tmp_path):
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
        assert left == {*others, NOTE, ".lock"}
        (tmp_path / ours[1]).write_text("being written")
        with pytest.raises(RunInUse), hold(tmp_path):
            pass
        assert (tmp_path / ours[1]).exists()  # a process without the lock removes nothing


def test_a_holder_without_a_note_is_still_a_holder(tmp_path):
    with hold(tmp_path):
        (tmp_path / NOTE).write_text("not yet")
        with pytest.raises(RunInUse, match=re.escape("in use by another process that has just started")), hold(tmp_path):
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


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a" * 300, "a/" * 3000], ids=("null", "surrogate", "long", "deep"))
def test_a_folder_whose_name_no_path_can_have(tmp_path, name):
    with pytest.raises(InvalidRecipe, match=r"cannot be made: .*; choose another folder"), hold(tmp_path / name):
        pass


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("paretrim.lock.clear_torn", refuse)
    with pytest.raises(InvalidRecipe, match=r"cannot be read: Too many open files; choose another folder"), hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InvalidRecipe, match=r"file/run' cannot be made: Not a directory; choose another folder"),
        hold(tmp_path / "file" / "run"),
    ):
        pass


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name, said in (
        ("file", "there is a file of that name"),
        ("link", "it is a link to nothing"),
        ("loop", "it is a link to"),
    ):
        with pytest.raises(InvalidRecipe, match=rf"{name}' cannot be made: {said}"), hold(tmp_path / name):
            pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "good").symlink_to("folder")
    with hold(tmp_path / "good"):
        assert (tmp_path / "folder" / NOTE).exists()
