import sys
from dataclasses import replace

import numpy as np
import pytest
from random_graphs import BLOCKS, Builder, finish, random_graph

from paretrim.deploy import runnable
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.onnx_runtime import OnnxRuntimeRunnable
from paretrim.deploy.openvino_runtime import COMPILED_SIZES, OpenVinoRunnable
from paretrim.deploy.report import IntegerReport, report_of, typed
from paretrim.deploy.runnable import RUNTIMES, in_batches, integer_share, open_runnable, verify
from paretrim.errors import CorruptFile, DataUnavailable, ExportMismatch, MissingDependency, UnsupportedOperation
from paretrim.graph.interpreter import run
from paretrim.graph.storage import save
from paretrim.graph.types import ValueType


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A graph, its images and its files."""
    folder = tmp_path_factory.mktemp("deployed")
    graph, images = random_graph(5, quantized=True)
    save(graph, folder / "a.graph")
    export_onnx(graph, folder / "a.onnx")
    return (
        graph,
        images,
        {runtime: folder / ("a.graph" if runtime in ("paretrim", "reference") else "a.onnx") for runtime in RUNTIMES},
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_agrees_with_the_reference(deployed, runtime):
    graph, images, files = deployed
    runnable = open_runnable(files[runtime], runtime=runtime)
    assert (runnable.runtime, runnable.threads) == (runtime, 1)
    assert runnable.version
    agreement = verify(graph, runnable, images)
    assert agreement.images == len(images)
    assert agreement.top1 == 1.0
    assert 0 <= agreement.mean_absolute <= agreement.worst_absolute <= 0.05 * np.abs(run(graph, images)).max()
    if runtime in ("paretrim", "reference"):
        assert agreement.worst_absolute == 0
    logits = runnable(images)
    assert logits.dtype == np.float32
    parts = np.concatenate([runnable(images[:1]), runnable(images[1:])])
    np.testing.assert_allclose(parts, logits, rtol=1e-6, atol=1e-6)


def test_threads_are_set_in_the_runtimes(deployed):
    _, images, files = deployed
    session = open_runnable(files["onnxruntime"], runtime="onnxruntime", threads=2).session
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    request = open_runnable(files["openvino"], runtime="openvino", threads=1)._request(len(images))
    compiled = request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()) == "f32"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_wrong_images_are_named(deployed, runtime):
    _, images, files = deployed
    runnable = open_runnable(files[runtime], runtime=runtime)
    with pytest.raises(DataUnavailable, match=r"images are float32 \[3, 3, 8, 8\]; the network takes uint8 \[N, 3, 8, 8\]"):
        runnable(images.astype(np.float32))
    with pytest.raises(DataUnavailable, match=r"images are uint8 \[3, 3, 8, 7\]"):
        runnable(images[..., :7])


class BrokenCore:
    def compile_model(self, *_):
        raise RuntimeError("no kernel")


def test_a_concat_of_mixed_zero_points_opens_in_every_runtime(tmp_path):
    """OpenVINO 2026.4 crashes on the usual form."""
    b = Builder(np.random.default_rng(0), quantized=True)
    x = b.simple("max_pool", [b.conv(b.start(), 4)], {"window": (2, 2), "stride": (2, 2)})
    raw = b.conv(x, 4, relu=False)
    assert (b.types[x].zero_point == 0, b.types[raw].zero_point > 0) == (True, True)
    joined = b.add("concat", [x, raw], replace(b.types[raw], shape=(8, *b.types[raw].shape[1:])))
    graph = finish(b, b.conv(b.batch_norm(joined), 4))
    export_onnx(graph, tmp_path / "a.onnx")
    for runtime in ("onnxruntime", "openvino"):
        assert verify(graph, open_runnable(tmp_path / "a.onnx", runtime=runtime), b.images).top1 == 1.0


def test_what_openvino_cannot_compile_is_named(deployed):
    runnable = open_runnable(deployed[2]["openvino"], runtime="openvino")
    with pytest.raises(CorruptFile, match=r"OpenVINO .* cannot compile '.*a\.onnx' for a batch of 2: no kernel"):
        replace(runnable, core=BrokenCore(), compiled={})(deployed[1][:2])


def test_openvino_keeps_few_batch_sizes(deployed):
    _, images, files = deployed
    runnable = open_runnable(files["openvino"], runtime="openvino")
    for batch in range(1, COMPILED_SIZES + 3):
        assert len(runnable(np.repeat(images[:1], batch, axis=0))) == batch
    assert len(runnable.compiled) == COMPILED_SIZES


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("block", BLOCKS)
def test_convolutions_of_integer_graphs_run_in_int8(tmp_path, block, runtime):
    b = Builder(np.random.default_rng(0), quantized=True)
    b.rng = np.random.default_rng(11)
    graph = finish(b, block(b, b.conv(b.start(), 4)))
    export_onnx(graph, tmp_path / "a.onnx")
    count = sum(node.op == "conv2d" for node in graph.nodes)
    assert integer_share(tmp_path / "a.onnx", runtime) == IntegerReport(count, count, ())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_convolutions_left_in_float_are_named(tmp_path, runtime):
    """A float stem in front of an integer body."""
    floats = Builder(np.random.default_rng(0), quantized=False)
    stem = floats.conv(floats.start(), 16, relu=False)
    floats.quantized = True
    shape = floats.types[stem].shape
    body = floats.add("quantize", [stem], ValueType(shape, "uint8", 0.03125, 128))
    graph = finish(floats, floats.conv(body, 16))
    export_onnx(graph, tmp_path / "a.onnx")
    assert integer_share(tmp_path / "a.onnx", runtime) == IntegerReport(2, 1, (stem,))


def test_executed_names_are_traced_to_the_file():
    executed = [("conv1_token_3", True), ("conv1.1/nchwc", False), ("other", False)]
    assert report_of(executed, ["conv1", "conv1.1"]) == IntegerReport(3, 1, ("conv1.1", "other"))


def test_what_cannot_be_opened_is_named(deployed, tmp_path):
    _, _, files = deployed
    with pytest.raises(
        UnsupportedOperation, match="runtime 'tvm' is unknown; choose one of paretrim, onnxruntime, openvino, reference"
    ):
        open_runnable(files["onnxruntime"], runtime="tvm")
    with pytest.raises(UnsupportedOperation, match="threads is 0"):
        open_runnable(files["onnxruntime"], runtime="onnxruntime", threads=0)
    with pytest.raises(UnsupportedOperation, match="runtime 'reference' does not report"):
        integer_share(files["reference"], "reference")
    with pytest.raises(CorruptFile, match=r"there is no file '.*none\.onnx'; check the path"):
        open_runnable(tmp_path / "none.onnx", runtime="openvino")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an ONNX file")
    with pytest.raises(CorruptFile, match=r"ONNX Runtime .* cannot open '.*broken.onnx'"):
        open_runnable(broken, runtime="onnxruntime")
    with pytest.raises(CorruptFile, match=r"OpenVINO .* cannot read '.*broken.onnx'"):
        open_runnable(broken, runtime="openvino")


@pytest.mark.parametrize(
    ("package", "runtime", "message"),
    [
        ("onnxruntime", "onnxruntime", "pip install onnxruntime"),
        ("openvino", "openvino", r"pip install 'paretrim\[openvino\]'"),
        ("onnx", "onnxruntime", "pip install onnx"),
    ],
)
def test_missing_packages_are_named(deployed, monkeypatch, package, runtime, message):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=message):
        integer_share(deployed[2][runtime], runtime)


class Wrong:
    runtime, version, threads = "wrong", "1", 1

    def __init__(self, logits):
        self.logits = logits

    def outputs(self, images):
        return (self.logits[: len(images)],)


@pytest.mark.parametrize(
    ("shape", "count", "sizes"),
    [((3, 32, 32), 600, [250, 250, 100]), ((3, 224, 224), 12, [5, 5, 2]), ((3, 1024, 1024), 2, [1, 1]), ((3, 4, 4), 0, [])],
)
def test_large_images_come_in_smaller_batches(shape, count, sizes):
    images = np.broadcast_to(np.arange(count).astype(np.uint8)[:, None, None, None], (count, *shape))
    parts = list(in_batches(images))
    assert [len(part) for part in parts] == sizes
    assert [int(image[0, 0, 0]) for part in parts for image in part] == [number % 256 for number in range(count)]


def test_verify_names_what_cannot_be_compared(deployed):
    graph, images, _ = deployed
    with pytest.raises(DataUnavailable, match="no images were given"):
        verify(graph, Wrong(np.zeros((1, 5))), images[:0])
    with pytest.raises(ExportMismatch, match=r"wrong 1 gives logits \(3, 7\), finite: True; the graph gives finite \(3, 5\)"):
        verify(graph, Wrong(np.zeros((3, 7))), images)
    with pytest.raises(ExportMismatch, match="finite: False"):
        verify(graph, Wrong(np.full((3, 5), np.nan)), images)


def test_verify_compares_numbers_where_nothing_can_be_the_largest(monkeypatch):
    expected = np.array([[10.0], [1.0], [0.0]], np.float32)
    monkeypatch.setattr(runnable, "run_outputs", lambda *_: (expected,))
    agreement = verify(None, Wrong(expected + np.array([[0.0], [0.09], [0.11]])), np.zeros(3))
    assert agreement.top1 is None
    assert agreement.close == pytest.approx(2 / 3)


def test_verify_measures_distance(deployed):
    graph, images, _ = deployed
    expected = run(graph, images)
    shifted = expected.copy()
    shifted[0] = -shifted[0]
    agreement = verify(graph, Wrong(shifted), images)
    assert agreement.top1 == agreement.close == pytest.approx(2 / 3)
    assert agreement.worst_absolute == pytest.approx(2 * np.abs(expected[0]).max())
    assert agreement.mean_absolute == pytest.approx(2 * np.abs(expected[0]).sum() / expected.size)


class Failing:
    """A session of another runtime that fails while it runs."""

    def run(self, *_):
        raise KeyError("out of range")

    def infer(self, *_, **__):
        raise KeyError("out of range")


def test_whatever_a_peer_raises_names_file_and_runtime(tmp_path):
    path, images = tmp_path / "network.onnx", np.zeros((1, 3, 4, 4), np.float32)
    broken = OnnxRuntimeRunnable(path, Failing(), (3, 4, 4), False, 1, "1.2")
    with pytest.raises(CorruptFile, match=r"ONNX Runtime 1\.2 cannot run '.*network\.onnx': 'out of range'"):
        broken(images)
    other = OpenVinoRunnable(path, None, None, (3, 4, 4), False, 1, "3.4", compiled={1: Failing()})
    with pytest.raises(CorruptFile, match=r"OpenVINO 3\.4 cannot run '.*network\.onnx': 'out of range'"):
        other(images)
    with pytest.raises(CorruptFile, match=r"OpenVINO 3\.4 cannot compile '.*network\.onnx' for a batch of 2"):
        other(np.zeros((2, 3, 4, 4), np.float32))


def test_memory_and_our_own_errors_pass():
    for error in (MemoryError(), ExportMismatch("ours")):
        with pytest.raises(type(error)), typed("peer"):
            raise error
