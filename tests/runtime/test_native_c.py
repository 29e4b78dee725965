"""The C interface: the example compiles against the installed header and library and classifies; ctypes for the rest."""

import ctypes
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from random_graphs import random_graph

import paretrim
from paretrim import trimfile
from paretrim.graph import interpreter
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime.compiled import native

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = Path(native.__file__).parent
GRAPH, IMAGES = random_graph(11, quantized=True)


class Info(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("classes", ctypes.c_int64),
        ("takes_pixels", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_char_p),
    )


@pytest.fixture(scope="module")
def library():
    found = ctypes.CDLL(str(LIBRARY / "libparetrim.so"))
    found.paretrim_load_file.restype = found.paretrim_load_bytes.restype = ctypes.c_void_p
    found.paretrim_load_bytes.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32]
    found.paretrim_load_file_limit.restype = found.paretrim_load_bytes_limit.restype = ctypes.c_void_p
    found.paretrim_load_bytes_limit.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_double]
    found.paretrim_load_file_limit.argtypes = [ctypes.c_char_p, ctypes.c_int32, ctypes.c_double]
    found.paretrim_describe.argtypes = [ctypes.c_void_p, ctypes.POINTER(Info)]
    found.paretrim_class_name.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    found.paretrim_class_name.restype = found.paretrim_version.restype = found.paretrim_last_error.restype = ctypes.c_char_p
    found.paretrim_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    found.paretrim_free.argtypes = [ctypes.c_void_p]
    return found


@pytest.fixture
def network(library):
    content = trimfile.to_bytes(GRAPH)
    loaded = library.paretrim_load_bytes(content, len(content), 2)
    assert loaded, library.paretrim_last_error()
    yield loaded
    library.paretrim_free(loaded)


def run(library, network, images):
    logits = np.full((len(images), 5), np.nan, np.float32)
    status = library.paretrim_run(network, images.ctypes.data, len(images), logits.ctypes.data)
    return status, logits


def test_the_example_classifies_a_picture(tmp_path):
    compiler = shutil.which("cc")
    assert compiler, "the native runtime was built, so there is a compiler"
    program = tmp_path / "classify"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{ROOT / 'native/include'}", f"-L{LIBRARY}"]
    subprocess.run(
        [compiler, *flags, ROOT / "examples/classify.c", "-o", program, "-lparetrim", f"-Wl,-rpath,{LIBRARY}"], check=True
    )
    trimfile.write(GRAPH, tmp_path / "model.trim")
    picture = tmp_path / "picture.ppm"
    for image in IMAGES:
        picture.write_bytes(b"P6\n8 8\n255\n" + image.transpose(1, 2, 0).tobytes())
        done = subprocess.run([program, tmp_path / "model.trim", picture], capture_output=True, text=True, check=True)
        (logits,) = interpreter.run(GRAPH, image[None])
        best = int(logits.argmax())
        assert done.stdout == f"class {best}: class {best}, logit {logits[best]:g}\n"

    for content, words in (
        (b"P6\n9 8\n255\n" + bytes(216), "the image has another size than the network takes"),
        (b"P6\n8 8\n255\n" + bytes(100), "the image is cut off"),
        (b"P5\n8 8\n255\n" + bytes(192), "the image is no 8-bit P6"),
    ):
        picture.write_bytes(content)
        done = subprocess.run([program, tmp_path / "model.trim", picture], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, f"classify: {words}\n")
    done = subprocess.run([program, tmp_path / "none.trim", picture], capture_output=True, text=True, check=False)
    assert (done.returncode, "none.trim' cannot be read; check the path" in done.stderr) == (1, True)


def test_a_network_is_described_and_runs(library, network):
    info = Info()
    assert library.paretrim_describe(network, ctypes.byref(info)) == 0
    assert (info.channels, info.height, info.width, info.classes, info.takes_pixels, info.threads) == (3, 8, 8, 5, 1, 2)
    assert info.instruction_set.decode() == native.instruction_sets()[0]
    assert library.paretrim_version().decode() == paretrim.__version__
    assert [library.paretrim_class_name(network, index) for index in (0, 4, 5, -1)] == [b"class 0", b"class 4", None, None]
    status, logits = run(library, network, IMAGES)
    assert (status, library.paretrim_last_error()) == (0, b"")
    np.testing.assert_array_equal(logits, interpreter.run(GRAPH, IMAGES))
    with ThreadPoolExecutor(4) as callers:
        for _, found in callers.map(lambda _: run(library, network, IMAGES), range(50)):
            np.testing.assert_array_equal(found, logits)


def test_an_error_is_a_status_and_a_message(library, network, tmp_path):
    content = trimfile.to_bytes(GRAPH)
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    assert library.paretrim_load_bytes(damaged, len(damaged), 1) is None
    assert library.paretrim_last_error()
    assert library.paretrim_load_bytes(content, len(content) - 1, 1) is None
    assert library.paretrim_load_bytes(b"", 0, 1) is None
    assert library.paretrim_load_bytes(None, 0, 1) is None
    assert library.paretrim_last_error() == b"bytes is NULL; give the content of a .trim file"
    for threads in (0, -1, 100_000):
        assert library.paretrim_load_bytes(content, len(content), threads) is None
        assert f"threads is {threads}".encode() in library.paretrim_last_error()
    assert library.paretrim_load_file(str(tmp_path).encode(), 1) is None
    assert library.paretrim_load_file(None, 1) is None
    assert library.paretrim_run(network, None, 1, None) == 3
    assert library.paretrim_last_error() == b"images or logits is NULL; give both"
    assert library.paretrim_run(network, None, -1, None) == 3
    assert library.paretrim_run(network, None, 0, None) == 0
    assert library.paretrim_run(None, None, 0, None) == 3
    assert library.paretrim_describe(network, None) == 3
    assert library.paretrim_class_name(None, 0) is None
    library.paretrim_free(None)


def test_a_limit_is_raised_for_a_file_that_is_trusted(library, tmp_path, monkeypatch):
    """A few nodes more than are usual for so few bytes."""
    path = tmp_path / "a.trim"
    with monkeypatch.context() as raised:
        raised.setenv("PARETRIM_LIMIT", "2")  # the writer tells of a file that readers would refuse
        trimfile.write(chain(9300), path)
    content = path.read_bytes()
    said = b"it would take 18606 nodes and inputs"
    assert library.paretrim_load_bytes(content, len(content), 1) is None
    assert said in library.paretrim_last_error()
    assert b"load it with limit=2, or set PARETRIM_LIMIT=2" in library.paretrim_last_error()
    assert library.paretrim_load_bytes_limit(content, len(content), 1, 1.01) is None
    assert said in library.paretrim_last_error()
    for wrong in (0.0, -1.0, float("nan")):
        assert library.paretrim_load_bytes_limit(content, len(content), 1, wrong) is None
        assert b"; it must be above 0" in library.paretrim_last_error()
    monkeypatch.setenv("PARETRIM_LIMIT", "x")
    assert library.paretrim_load_file(str(path).encode(), 1) is None
    assert library.paretrim_last_error() == b"PARETRIM_LIMIT is 'x'; it must be a number above 0"
    monkeypatch.setenv("PARETRIM_LIMIT", "1.5")
    loaded = (
        library.paretrim_load_file(str(path).encode(), 1),
        library.paretrim_load_bytes_limit(content, len(content), 1, 2),
        library.paretrim_load_file_limit(str(path).encode(), 1, 2),
    )
    assert all(loaded)
    for one in loaded:
        library.paretrim_free(one)


def chain(count):
    """A network of so many nodes that do nothing, on one pixel."""
    grid = ValueType((1, 1, 1), "uint8", 0.5, 3)
    nodes = [Node("q", "quantize", (INPUT,), grid)]
    for index in range(count):
        nodes.append(Node(f"r{index}", "relu", (nodes[-1].name,), grid))
    nodes.append(Node("flat", "flatten", (nodes[-1].name,), ValueType((1,), "uint8", 0.5, 3)))
    return Graph(InputSpec((1, 1, 1)), (*nodes, Node("real", "dequantize", ("flat",), ValueType((1,)))), ("real",))


def test_nan_is_a_status(library):
    graph, images = random_graph(11, quantized=True, pixels=False)
    content = trimfile.to_bytes(graph)
    loaded = library.paretrim_load_bytes(content, len(content), 1)
    images[0, 0, 0, 0] = np.nan
    assert run(library, loaded, images)[0] == 3
    assert b"NaN" in library.paretrim_last_error()
    library.paretrim_free(loaded)


def test_nothing_else_is_exported():
    nm = shutil.which("nm")
    assert nm, "the native runtime was built, so there are binary utilities"
    said = subprocess.run([nm, "-D", "--defined-only", LIBRARY / "libparetrim.so"], capture_output=True, text=True, check=True)
    strong = {line.split()[2] for line in said.stdout.splitlines() if line.split()[1] in "TDBR"}
    header = (ROOT / "native/include/paretrim.h").read_text(encoding="utf-8")
    assert (
        strong == {word for word in header.replace("(", " ").replace("*", " ").split() if word.startswith("paretrim_")} & strong
    )
    assert len(strong) == 13
