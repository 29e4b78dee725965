"""The native runtime as an operator of ONNX Runtime: its results bit for bit, and its error messages."""

import ctypes
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from random_graphs import random_graph

from paretrim import trimfile
from paretrim.deploy.onnx_operator import export_operator
from paretrim.deploy.runnable import open_runnable
from paretrim.errors import CorruptFile, MissingDependency, UnsupportedOperation
from paretrim.graph import interpreter
from paretrim.graph.types import INPUT
from paretrim.runtime import libraries, onnxruntime_library, plan

GRAPH, IMAGES = random_graph(11, quantized=True)
TRIM = trimfile.to_bytes(GRAPH)
NONE, OLD, CURRENT = 0, 1, 16
"""Versions of ONNX Runtime's interface: what the operator must have is the last."""


def registered():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.register_custom_ops_library(onnxruntime_library())
    return options


def opened(path, options=None):
    return onnxruntime.InferenceSession(str(path), options or registered(), providers=["CPUExecutionProvider"])


def by_hand(path, *, shape=("N", "C", "H", "W"), element=TensorProto.UINT8, **attributes):
    """A file for which ONNX Runtime passes any input on to the operator."""
    node = helper.make_node("Network", [INPUT], ["logits"], domain="paretrim", **attributes)
    images, logits = (
        helper.make_tensor_value_info(name, kind, sizes)
        for name, kind, sizes in ((INPUT, element, shape), ("logits", TensorProto.FLOAT, ("N", "classes")))
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("paretrim", 1)]
    graph = helper.make_graph([node], "by hand", [images], [logits])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)
    return path


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_the_bits_are_those_of_the_session_and_the_interpreter(tmp_path, seed, threads, pixels):
    graph, images = random_graph(seed, quantized=True, pixels=pixels)
    path = tmp_path / "native.onnx"
    export_operator(trimfile.to_bytes(graph), path, threads=threads)
    session, alone = opened(path), plan(graph, threads=threads)
    assert [value.type for value in session.get_inputs()] == ["tensor(uint8)" if pixels else "tensor(float)"]
    for count in (1, 2, 3, 8):
        batch = np.concatenate([images] * 3)[:count]
        (logits,) = session.run(None, {INPUT: batch})
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, interpreter.run(graph, batch))
        np.testing.assert_array_equal(logits, alone(batch))


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    path, again = tmp_path / "native.onnx", tmp_path / "again.onnx"
    export_operator(TRIM, path, threads=2)
    export_operator(TRIM, again, threads=2)
    assert path.read_bytes() == again.read_bytes()
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = opened(path)
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape, logits.name, logits.shape) == ("images", ["N", 3, 8, 8], "logits", ["N", 5])
    assert session.get_modelmeta().custom_metadata_map["classes"].split("\n") == list(GRAPH.classes)
    assert session.run(None, {INPUT: IMAGES[:0]})[0].shape == (0, 5)


def test_how_images_are_prepared_goes_into_the_file(tmp_path):
    facts = {"mean": "0.5", "std": "0.25", "resize": "256"}
    trim = trimfile.to_bytes(GRAPH, trimfile.Provenance(measured={**facts, "seed": 3}))
    export_operator(trim, tmp_path / "a.onnx", threads=1)
    found = {one.key: one.value for one in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert found == {**facts, "classes": "\n".join(GRAPH.classes), "threads": "1"}


def test_one_library_serves_many_sessions_and_callers(tmp_path):
    other, images = random_graph(3, quantized=True)
    export_operator(TRIM, tmp_path / "a.onnx", threads=2)
    export_operator(trimfile.to_bytes(other), tmp_path / "b.onnx", threads=1)
    options = registered()
    a, b = opened(tmp_path / "a.onnx", options), opened(tmp_path / "b.onnx", options)
    del options
    apart = opened(tmp_path / "a.onnx")
    expected = interpreter.run(GRAPH, IMAGES)
    with ThreadPoolExecutor(4) as callers:
        for session in (a, apart):
            for (found,) in callers.map(lambda _, session=session: session.run(None, {INPUT: IMAGES}), range(30)):
                np.testing.assert_array_equal(found, expected)
    del a, apart
    np.testing.assert_array_equal(b.run(None, {INPUT: images})[0], interpreter.run(other, images))


def test_it_is_one_node_among_others(tmp_path):
    """An application may put its own operations around it; ONNX Runtime's optimiser sees to the rest."""
    path = by_hand(tmp_path / "a.onnx", file=TRIM, threads=1)
    model = onnx.load(path)
    model.graph.node[0].output[0] = "raw"
    model.graph.node.append(helper.make_node("Softmax", ["raw"], ["logits"], axis=1))
    onnx.save(model, path)
    raw = interpreter.run(GRAPH, IMAGES).astype(np.float64)
    expected = np.exp(raw - raw.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(opened(path).run(None, {INPUT: IMAGES})[0], expected, rtol=1e-5, atol=1e-7)


def test_a_library_that_was_not_registered_is_missed(tmp_path):
    export_operator(TRIM, tmp_path / "a.onnx", threads=1)
    with pytest.raises(Exception, match=r"paretrim:Network\(-1\) is not a registered function/op"):
        opened(tmp_path / "a.onnx", onnxruntime.SessionOptions())


def test_our_own_runtimes_register_it(tmp_path):
    export_operator(TRIM, tmp_path / "a.onnx", threads=1)
    runnable = open_runnable(tmp_path / "a.onnx", runtime="onnxruntime")
    np.testing.assert_array_equal(runnable(IMAGES), interpreter.run(GRAPH, IMAGES))
    damaged = by_hand(tmp_path / "b.onnx", shape=("N", 3, 8, 8), file=TRIM[:-1], threads=1)
    with pytest.raises(CorruptFile, match=r"cannot open '.*b\.onnx'.*paretrim\.Network: "):
        open_runnable(damaged, runtime="onnxruntime")


def test_our_own_runtimes_hold_it_to_its_threads(tmp_path):
    export_operator(TRIM, tmp_path / "a.onnx", threads=2)
    assert open_runnable(tmp_path / "a.onnx", runtime="onnxruntime", threads=2).threads == 2
    with pytest.raises(UnsupportedOperation, match=r"a\.onnx' was written for 2 threads, not 1; ask for 2, or export"):
        open_runnable(tmp_path / "a.onnx", runtime="onnxruntime", threads=1)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 3, 8, 4), np.uint8), r"images are uint8 \[1, 3, 8, 4\]; the network takes uint8 pixels \[N, 3, 8, 8\]"),
        (np.zeros((1, 4, 8, 8), np.uint8), r"images are uint8 \[1, 4, 8, 8\]"),
        (np.zeros((3, 8, 8), np.uint8), r"images are uint8 \[3, 8, 8\]"),
        (np.zeros((1, 3, 8, 8, 1), np.uint8), r"images are uint8 \[1, 3, 8, 8, 1\]"),
        (np.zeros((), np.uint8), r"images are uint8 \[\]"),
        (np.zeros((1, 3, 8, 8), np.float32), r"images are float32 \[1, 3, 8, 8\]"),
        (np.zeros((1, 3, 8, 8), np.int8), r"images are of ONNX type 3 \[1, 3, 8, 8\]"),
    ],
)
def test_other_images_are_refused(tmp_path, images, words):
    element = helper.np_dtype_to_tensor_dtype(images.dtype)
    session = opened(by_hand(tmp_path / "a.onnx", shape=(None,) * images.ndim, element=element, file=TRIM, threads=1))
    with pytest.raises(Exception, match=words) as raised:
        session.run(None, {INPUT: images})
    assert type(raised.value).__name__ == "InvalidArgument"


def test_images_that_are_no_numbers_are_refused(tmp_path):
    graph, images = random_graph(11, quantized=True, pixels=False)
    export_operator(trimfile.to_bytes(graph), tmp_path / "a.onnx", threads=1)
    session = opened(tmp_path / "a.onnx")
    broken = images.copy()
    broken[-1, -1, -1, -1] = np.nan
    with pytest.raises(Exception, match=r"paretrim\.Network: images hold NaN or infinity") as raised:
        session.run(None, {INPUT: broken})
    assert type(raised.value).__name__ == "InvalidArgument"
    np.testing.assert_array_equal(session.run(None, {INPUT: images})[0], interpreter.run(graph, images))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"file": TRIM[:-1] + bytes([TRIM[-1] ^ 1]), "threads": 1}, r"paretrim\.Network: record \d+ .* SHA-256"),
        ({"file": TRIM[:-1], "threads": 1}, r"paretrim\.Network: "),
        ({"file": b"\0" * 100, "threads": 1}, r"paretrim\.Network: "),
        ({"file": b"", "threads": 1}, r"paretrim\.Network: "),
        ({"file": TRIM, "threads": 0}, r"threads is 0; it must be from 1 to 1024"),
        ({"file": TRIM, "threads": 2**62}, r"threads is \d+; it must be from 1 to 1024"),
        ({"file": TRIM}, r"attribute 'threads' cannot be read"),
        ({"file": TRIM, "threads": 1.0}, r"attribute 'threads' cannot be read"),
        ({"threads": 1}, r"attribute 'file' cannot be read"),
        ({"file": [1, 2], "threads": 1}, r"attribute 'file' cannot be read"),
    ],
)
def test_a_node_that_holds_no_network_is_no_session(tmp_path, attributes, words):
    path = by_hand(tmp_path / "a.onnx", **attributes)
    with pytest.raises(Exception, match=words):
        opened(path)


class Base(ctypes.Structure):
    """The interface that ONNX Runtime passes to an operator library."""

    GetApi = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    GetVersionString = ctypes.CFUNCTYPE(ctypes.c_void_p)
    _fields_ = (("get", GetApi), ("version", GetVersionString))


@pytest.mark.parametrize("newest", [NONE, OLD, CURRENT - 1])
def test_an_older_runtime_is_told_so(newest):
    """A stand-in whose interface ends at a version: it can make a status, and must not be asked for more."""
    said = []
    status = ctypes.create_string_buffer(1)
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)(
        lambda code, words: said.append((code, words.decode())) or ctypes.addressof(status)
    )
    table = (ctypes.c_void_p * 1)(ctypes.cast(create, ctypes.c_void_p))
    asked = []
    get = Base.GetApi(lambda version: asked.append(version) or (ctypes.addressof(table) if version <= newest else None))
    release = ctypes.create_string_buffer(b"1.2.3")
    base = Base(get, Base.GetVersionString(lambda: ctypes.addressof(release)))
    library = ctypes.CDLL(onnxruntime_library())
    library.RegisterCustomOps.restype = ctypes.c_void_p
    found = library.RegisterCustomOps(None, ctypes.byref(base))
    assert asked == [CURRENT, 1]
    if newest == NONE:
        assert (found, said) == (None, [])
        return
    assert found == ctypes.addressof(status)
    not_implemented = 9
    words = "paretrim.Network: this is ONNX Runtime 1.2.3; the operator needs 1.16 or later"
    assert said == [(not_implemented, words)]


def test_nothing_else_is_exported():
    nm = shutil.which("nm")
    assert nm, "the native runtime was built, so there are binary utilities"
    said = subprocess.run([nm, "-D", "--defined-only", onnxruntime_library()], capture_output=True, text=True, check=True)
    assert [line.split()[2] for line in said.stdout.splitlines() if line.split()[1] in "TDBR"] == ["RegisterCustomOps"]


def test_what_the_native_runtime_does_not_run_is_not_written(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(UnsupportedOperation, match="threads is 0; it must be a whole number from 1 to 1024"):
        export_operator(TRIM, path, threads=0)
    with pytest.raises(CorruptFile, match="SHA-256"):
        export_operator(TRIM[:-1] + bytes([TRIM[-1] ^ 1]), path, threads=1)
    assert not list(tmp_path.iterdir())


def test_missing_grids_and_integers_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "FOLDER", tmp_path)
    with pytest.raises(MissingDependency, match=r"'.*onnxruntime\.so' does not exist; in a checkout run scripts/native\.sh"):
        onnxruntime_library()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match="pip install onnx"):
        export_operator(TRIM, tmp_path / "a.onnx", threads=1)
