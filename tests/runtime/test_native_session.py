"""Opening files in the native runtime: what it accepts and rejects, and the kernel choices it stores."""

import copy
import gc
import os
import pickle
import signal
import time

import numpy as np
import pytest
from session_graphs import FLOAT_GRAPH, FLOAT_IMAGES, GRAPH, IMAGES

import paretrim.runtime
from paretrim import trimfile
from paretrim.deploy.runnable import open_runnable
from paretrim.errors import CorruptFile, DataUnavailable, UnsupportedOperation
from paretrim.graph import interpreter, storage
from paretrim.graph.storage import save
from paretrim.runtime.kernel_choices import choices_file


def test_a_file_runs(file):
    session = paretrim.runtime.load(file, threads=2)
    np.testing.assert_array_equal(session(IMAGES), interpreter.run(GRAPH, IMAGES))
    assert session(IMAGES[:0]).shape == (0, 5)
    assert (session.shape, session.takes_pixels, session.classes, session.threads) == ((3, 8, 8), True, 5, 2)
    assert session.class_names == GRAPH.classes
    assert session.instruction_set == paretrim.runtime.instruction_sets()[0]


@pytest.mark.parametrize(
    ("name", "gone"),
    [("model.graph", r"there is no file '.*model\.graph'"), ("model.trim", r"'.*model\.trim': it cannot be read: No such file")],
)
def test_a_session_of_a_file_is_pickled_as_its_path_and_settings(tmp_path, monkeypatch, name, gone):
    (save if name.endswith(".graph") else trimfile.write)(GRAPH, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    slowest = paretrim.runtime.instruction_sets()[-1]
    session = paretrim.runtime.load(name, threads=2, instruction_set=slowest, measure=False, remember=False, limit=2)
    content = pickle.dumps(session)
    assert len(content) < 1000
    monkeypatch.chdir(tmp_path.parent)
    again = pickle.loads(content)
    assert (again.threads, again.instruction_set, again.source) == (2, slowest, session.source)
    assert (again.source.measure, again.source.remember, again.source.limit) == (False, False, 2)
    assert again(IMAGES).tobytes() == session(IMAGES).tobytes()
    assert not choices_file(tmp_path / name).exists()
    (tmp_path / name).unlink()
    with pytest.raises(CorruptFile, match=gone):
        pickle.loads(content)


def test_a_session_of_a_graph_in_memory_is_not_pickled():
    session = paretrim.runtime.plan(GRAPH, measure=False)
    with pytest.raises(
        UnsupportedOperation, match="planned from a graph in memory and cannot be pickled; write the graph to a file"
    ):
        pickle.dumps(session)
    assert copy.copy(session) is session
    assert copy.deepcopy(session) is session


def test_images_need_not_lie_in_order(file):
    session = paretrim.runtime.load(file)
    expected = session(IMAGES)
    channels_last = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not channels_last.flags.c_contiguous
    np.testing.assert_array_equal(session(channels_last), expected)
    np.testing.assert_array_equal(session(IMAGES[::-1]), expected[::-1])
    unaligned = np.frombuffer(b"x" + FLOAT_IMAGES.tobytes(), np.uint8)[1:].view(np.float32).reshape(FLOAT_IMAGES.shape)
    assert not unaligned.flags.aligned
    floats = paretrim.runtime.plan(FLOAT_GRAPH)
    np.testing.assert_array_equal(floats(unaligned), floats(FLOAT_IMAGES))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), r"images are float32 \[3, 3, 8, 8\]; the network takes uint8 \[N, 3, 8, 8\]"),
        (IMAGES[:, :2], r"images are uint8 \[3, 2, 8, 8\]; the network takes uint8 \[N, 3, 8, 8\]"),
        (IMAGES[0], r"images are a single image \[3, 8, 8\]; give a batch of one: images\[None\]"),
        (IMAGES.tolist(), r"images are a list; give a NumPy array \(for a torch tensor: images.numpy\(\)\)"),
    ],
)
def test_other_images_are_refused_in_words(images, message):
    with pytest.raises(DataUnavailable, match=message):
        paretrim.runtime.plan(GRAPH, measure=False)(images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused(value):
    session = paretrim.runtime.plan(FLOAT_GRAPH, measure=False)
    broken = FLOAT_IMAGES.copy()
    broken[-1, -1, -1, -1] = value
    with pytest.raises(DataUnavailable, match="images hold NaN or infinity; pass finite, normalised pixels"):
        session(broken)
    with pytest.raises(DataUnavailable, match="images hold NaN or infinity"):
        session.profile(broken[-1])
    np.testing.assert_array_equal(session(FLOAT_IMAGES), interpreter.run(FLOAT_GRAPH, FLOAT_IMAGES))


def test_the_compiled_module_checks_for_itself():
    network = paretrim.runtime.plan(GRAPH, measure=False).network
    for images in (
        IMAGES[0],
        IMAGES[:, :1],
        IMAGES.view(np.int8),
        IMAGES[:, ::-1],
        IMAGES[:, :, :, ::2],
        IMAGES.astype(np.float32),
    ):
        with pytest.raises(DataUnavailable, match="images do not have the shape, type, memory order or device of the input"):
            network.run(images)
    with pytest.raises(DataUnavailable, match="images do not have the shape"):
        network.profile(IMAGES)
    with pytest.raises(TypeError):
        network.run("pixels")


def test_a_file_that_cannot_run_is_named(tmp_path):
    with pytest.raises(UnsupportedOperation, match=r"model.onnx' is an ONNX file; open the .trim or .graph file"):
        paretrim.runtime.load(tmp_path / "model.onnx")
    with pytest.raises(CorruptFile, match=r"there is no file '.*none.graph'; check the path"):
        paretrim.runtime.load(tmp_path / "none.graph")
    for load in (paretrim.runtime.load, trimfile.read, open_reference):
        with pytest.raises(CorruptFile, match="cannot be read: File name too long"):
            load("n" * 5000)
        with pytest.raises(CorruptFile, match="cannot be read: File name too long"):
            load("n" * 5000 + ".trim")
    os.mkfifo(tmp_path / "pipe.trim")
    for load in (paretrim.runtime.load, trimfile.read, open_reference):
        with pytest.raises(CorruptFile, match="it is a pipe or a device; give a file"):
            load(tmp_path / "pipe.trim")
        with pytest.raises(CorruptFile, match="Is a directory"):
            trimfile.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorruptFile, match="pipe' is a folder, a pipe or a device; give a file"):
        paretrim.runtime.load(tmp_path / "pipe")
    with pytest.raises(CorruptFile, match=r"the path is 7; give the path of a .trim, .graph or .onnx file"):
        paretrim.runtime.load(7)
    (tmp_path / "broken.graph").write_bytes(b"nothing")
    with pytest.raises(CorruptFile, match=r"broken.graph': it has 7 bytes"):
        paretrim.runtime.load(tmp_path / "broken.graph")


def open_reference(path):
    return open_runnable(path, runtime="reference")


@pytest.mark.parametrize("name", ["model.TRIM", "model.trim.bak", "model", "model.onnx", "model.graph", ".trim"])
def test_a_trim_file_is_one_under_any_name(tmp_path, name):
    path = tmp_path / name
    trimfile.write(GRAPH, path)
    expected = interpreter.run(GRAPH, IMAGES)
    for load in (paretrim.runtime.load, open_reference, lambda path: open_runnable(path, runtime="paretrim")):
        np.testing.assert_array_equal(load(path)(IMAGES), expected)
    assert storage.to_bytes(trimfile.read(path)) == storage.to_bytes(GRAPH)
    with pytest.raises(UnsupportedOperation, match=f"{name}' is a .trim file; choose the runtime paretrim or reference"):
        open_runnable(path, runtime="onnxruntime")


def test_unknown_settings_are_named():
    with pytest.raises(UnsupportedOperation, match="threads is 0; it must be a whole number from 1 to 1024"):
        paretrim.runtime.plan(GRAPH, threads=0)
    with pytest.raises(UnsupportedOperation, match="threads is 5000; it must be a whole number from 1 to 1024"):
        paretrim.runtime.plan(GRAPH, threads=5000)
    for threads in ("2", 2.0, None, True, -1):
        with pytest.raises(UnsupportedOperation, match=f"threads is {threads!r}; it must be a whole number from 1 to 1024"):
            paretrim.runtime.plan(GRAPH, threads=threads)
    with pytest.raises(UnsupportedOperation, match=f"threads is {10**30}; it must be a whole number from 1 to 1024"):
        paretrim.runtime.plan(GRAPH, threads=10**30)
    assert paretrim.runtime.plan(GRAPH, threads=np.int64(2), measure=False).threads == 2
    with pytest.raises(UnsupportedOperation, match=r"altivec.*plain"):
        paretrim.runtime.plan(GRAPH, instruction_set="altivec")
    with pytest.raises(UnsupportedOperation, match="instruction_set is 7; give a name"):
        paretrim.runtime.plan(GRAPH, instruction_set=7)
    session = paretrim.runtime.plan(GRAPH, measure=False)
    for calls in (0, "3", 2.5, None, True):
        with pytest.raises(DataUnavailable, match=f"calls is {calls!r}; it must be at least 1"):
            session.profile(IMAGES[0], calls=calls)
    for image, given in ((IMAGES, r"\[\d+, 3, 8, 8\]"), (IMAGES[0].tolist(), "a list"), (None, "a NoneType")):
        with pytest.raises(DataUnavailable, match=f"the image is {given}; give one image as a NumPy array"):
            session.profile(image)


def test_any_number_of_images_in_any_order_of_memory(monkeypatch):
    session = paretrim.runtime.plan(GRAPH, threads=2, measure=False)
    assert session(IMAGES[:0]).shape == (0, 5)
    expected = session(IMAGES)
    for images in (np.asfortranarray(IMAGES), np.repeat(IMAGES, 2, axis=0)[::2], IMAGES.view(np.ma.MaskedArray)):
        np.testing.assert_array_equal(session(images), expected)
    np.testing.assert_array_equal(session(IMAGES[::-1]), expected[::-1])
    for images in (np.array(7, np.uint8), IMAGES.astype(object), IMAGES.astype(">u2"), IMAGES[..., None], IMAGES[:, :, :0]):
        with pytest.raises(DataUnavailable, match=r"images are .*; the network takes uint8 \[N, 3, 8, 8\]"):
            session(images)
    # More than any machine holds: a batch that is one image in memory.
    endless = np.broadcast_to(IMAGES[:1], (2**45, *IMAGES.shape[1:]))
    with pytest.raises(DataUnavailable, match="images at once do not fit into memory; give fewer per call"):
        session(endless)


def test_a_profile_names_every_step(file):
    layers = paretrim.runtime.load(file).profile(IMAGES[0], calls=3)
    weighted = [node for node in GRAPH.nodes if node.op in ("conv2d", "linear")]
    described = [layer for layer in layers if layer.weights]
    assert [layer.weights for layer in described] == [node.tensors["weight"].size for node in weighted]
    assert [layer.zeros for layer in described] == [int((node.tensors["weight"] == 0).sum()) for node in weighted]
    for layer in described:
        assert 0 <= layer.useful_multiply_adds <= layer.multiply_adds
        assert layer.useful_multiply_adds <= layer.issued_multiply_adds
        assert layer.kernel
    assert all(layer.time_ns > 0 for layer in described)


def test_the_machine_is_described():
    sets = paretrim.runtime.instruction_sets()
    assert sets[-1] == "plain"
    assert paretrim.runtime.peak_multiply_adds_a_second() > paretrim.runtime.peak_multiply_adds_a_second("plain") / 2 > 0
    with pytest.raises(UnsupportedOperation, match="altivec"):
        paretrim.runtime.peak_multiply_adds_a_second("altivec")


def test_the_child_of_a_fork_computes_alone_and_ends():
    """As in data loaders. The child has none of the pool's threads, so nothing may wait for them."""
    session = paretrim.runtime.plan(GRAPH, threads=3)
    expected = session(IMAGES)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(20)
            status = 0 if all(np.array_equal(session(part), expected[: len(part)]) for part in (IMAGES[:1], IMAGES)) else 2
            del session
            gc.collect()
            session = paretrim.runtime.plan(GRAPH, threads=2)  # with threads of its own again
            status = status or (0 if np.array_equal(session(IMAGES), expected) else 3)
            del session
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(session(IMAGES), expected)


def test_many_images_give_the_same_bits_in_parts(monkeypatch):
    session = paretrim.runtime.pretrained("cifar10-resnet20", threads=2)
    images = np.random.default_rng(0).integers(0, 256, (67, *session.shape), np.uint8)
    (whole,) = session.network.run(images)
    monkeypatch.setattr("paretrim.runtime.parts.PART_WORK", 1)
    counts = []
    monkeypatch.setattr("paretrim.runtime.parts.np.concatenate", lambda parts: counts.append(len(parts)) or np.vstack(parts))
    np.testing.assert_array_equal(session(images).view(np.uint32), whole.view(np.uint32))
    assert counts == [5]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer")
def test_ctrl_c_is_heeded_while_many_images_are_computed():
    session = paretrim.runtime.pretrained("cifar10-resnet20")
    images = np.zeros((10_000, *session.shape), np.uint8)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        start = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            session(images)
        assert time.process_time() - start < 1  # all of them take some seconds
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
