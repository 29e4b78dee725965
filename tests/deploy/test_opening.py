"""Arguments for opening a deployed file: a wrong type or size is one typed error in every runtime."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from random_graphs import random_graph

from paretrim import runtime, trimfile
from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import RUNTIMES, integer_share, open_runnable
from paretrim.deploy.statistics_of_use import OF_OPENVINO, SWITCH, without_statistics
from paretrim.errors import CannotWrite, CorruptFile, ParetrimError, UnsupportedOperation
from paretrim.graph import storage

GRAPH, IMAGES = random_graph(0, quantized=True)
ONNX = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    trimfile.write(GRAPH, folder / "net.trim")
    export_onnx(GRAPH, folder / "net.onnx")
    return {name: folder / ("net.onnx" if name in ONNX else "net.trim") for name in RUNTIMES}


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("threads", ["2", None, True, 1.5, 0, -1, [1], 2**40, 10**400])
def test_threads_of_another_type_or_size(name, threads, files):
    with pytest.raises(UnsupportedOperation, match=r"threads is .*; it must be a whole number from 1 to 1024"):
        open_runnable(files[name], runtime=name, threads=threads)


@pytest.mark.parametrize("name", RUNTIMES)
def test_whole_numbers_of_numpy(name, files):
    if name == "openvino":
        pytest.importorskip("openvino")
    opened = open_runnable(files[name], runtime=name, threads=np.int64(1))
    assert (type(opened.threads), opened.threads) == (int, 1)


@pytest.mark.parametrize("path", [None, 3, b"net.trim", ["net.trim"]])
def test_what_is_no_path(path):
    ways = [lambda name=name: open_runnable(path, runtime=name) for name in RUNTIMES]
    ways += [lambda name=name: integer_share(path, name) for name in ONNX]
    for way in (*ways, *(lambda read=read: read(path) for read in (runtime.load, trimfile.read, trimfile.inspect, storage.load))):
        with pytest.raises(
            CorruptFile, match=r"the path is .*; give the path of a \.trim, \.graph or \.onnx file as a text or a"
        ):
            way()


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_name_that_is_no_utf8(name, files, tmp_path):
    there = tmp_path / os.fsdecode(b"\xff\xfe") / files[name].name
    there.parent.mkdir()
    there.write_bytes(files[name].read_bytes())
    found = open_runnable(there, runtime=name).outputs(IMAGES)
    np.testing.assert_array_equal(found, open_runnable(files[name], runtime=name).outputs(IMAGES))


def test_files_are_checked_without_a_place_for_temporary_files(files, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    check_onnx(GRAPH, files["onnxruntime"], IMAGES)
    with pytest.raises(
        CannotWrite, match=r"no temporary folder can be made: No such file or directory; let TMPDIR name a folder"
    ):
        integer_share(files["onnxruntime"], "onnxruntime")


@pytest.mark.parametrize("path", ["", " \0", "a" * 5000, "\ud800"])
def test_paths_of_nothing(path):
    for read in (
        runtime.load,
        trimfile.read,
        storage.load,
        *(lambda p, n=name: open_runnable(p, runtime=n) for name in RUNTIMES),
    ):
        with pytest.raises(ParetrimError):
            read(path)


@pytest.mark.parametrize("name", RUNTIMES)
def test_nothing_is_left_in_the_home_folder(name, files, tmp_path):
    """ONNX Runtime and OpenVINO make files there to report their use, as soon as they are imported."""
    if name == "openvino":
        pytest.importorskip("openvino")
    program = f"from paretrim.deploy.runnable import open_runnable\nopen_runnable({str(files[name])!r}, runtime={name!r})\n"
    program += f"import os, sys; assert {OF_OPENVINO!r} not in sys.modules and {SWITCH!r} not in os.environ\n"
    places = {name: value for name, value in os.environ.items() if name not in (SWITCH, "CI")}
    places |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=places, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_choice_about_statistics_is_kept(monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    monkeypatch.setitem(sys.modules, OF_OPENVINO, os)
    with without_statistics():
        assert (os.environ[SWITCH], sys.modules[OF_OPENVINO]) == ("0", os)
    assert (os.environ[SWITCH], sys.modules[OF_OPENVINO]) == ("0", os)
