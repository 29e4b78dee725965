"""CPUs that add pairs of 8-bit products in 16 bits: which runtimes are exact there, and the warning."""

from dataclasses import replace

import numpy as np
import pytest
from random_graphs import Builder, finish

from paretrim.bench.machine import describe
from paretrim.bench.types import Machine
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import open_runnable
from paretrim.deploy.saturation import LARGEST_SAFE_WEIGHT, SATURATES, may_saturate
from paretrim.graph.interpreter import run
from paretrim.run import delivery
from paretrim.run.judge import DeployedFiles
from paretrim.run.progress import silent

PLAIN = Machine("a CPU", 2, ("avx2", "fma"), 1, "Linux", "3.11")
OTHERS = {"VNNI": ("avx2", "avx512_vnni"), "AVX-VNNI": ("avx2", "avx_vnni"), "Arm": ("asimd", "asimddp")}


def with_weights(largest):
    """A quantized network whose weights are all this large, on bright images: the worst case for sums of pairs."""
    b = Builder(np.random.default_rng(0), quantized=True)
    graph = finish(b, b.conv(b.conv(b.start(), 16), 16))

    def at_the_end(node):
        weight = node.tensors.get("weight")
        if weight is None or weight.dtype != np.int8:
            return node
        return replace(node, tensors={**node.tensors, "weight": np.where(weight < 0, -largest, largest).astype(np.int8)})

    return replace(graph, nodes=tuple(map(at_the_end, graph.nodes))), b.images


def test_two_products_of_the_largest_safe_weight_fit_in_16_bits():
    assert 2 * 255 * LARGEST_SAFE_WEIGHT <= 32767 < 2 * 255 * (LARGEST_SAFE_WEIGHT + 1)


@pytest.mark.parametrize(("largest", "unsafe"), [(63, False), (LARGEST_SAFE_WEIGHT, False), (LARGEST_SAFE_WEIGHT + 1, True)])
def test_large_weights_may_saturate_without_a_dot_product(largest, unsafe):
    graph, _ = with_weights(largest)
    assert may_saturate(graph, PLAIN) == unsafe
    assert not any(may_saturate(graph, replace(PLAIN, isa=isa)) for isa in OTHERS.values())


def test_a_weight_of_minus_128_is_large():
    graph, _ = with_weights(128)  # int8 turns 128 into -128
    assert may_saturate(graph, PLAIN)


def test_float_networks_do_not_saturate():
    b = Builder(np.random.default_rng(0), quantized=False)
    assert not may_saturate(finish(b, b.conv(b.start(), 4)), PLAIN)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("largest", [63, 127])
def test_sums_are_exact_where_they_are_said_to_be(tmp_path, largest, runtime):
    graph, images = with_weights(largest)
    export_onnx(graph, tmp_path / "a.onnx")
    found, expected = open_runnable(tmp_path / "a.onnx", runtime=runtime)(images), run(graph, images)
    exact = np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
    assert exact == (runtime == "onnxruntime" or not may_saturate(graph, describe()))


def test_our_sessions_ask_onnx_runtime_for_exact_sums(tmp_path):
    graph, _ = with_weights(127)
    export_onnx(graph, tmp_path / "a.onnx")
    options = open_runnable(tmp_path / "a.onnx", runtime="onnxruntime").session.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize("saturates", [True, False])
def test_a_run_says_so_once_and_names_the_files(tmp_path, monkeypatch, saturates):
    monkeypatch.setattr(delivery, "describe", lambda: replace(PLAIN, isa=() if saturates else OTHERS["VNNI"]))
    trim, onnx = tmp_path / "model.trim", tmp_path / "model.onnx"
    deployed = {
        "large": DeployedFiles(with_weights(127)[0], onnx, trim),
        "seven bits": DeployedFiles(with_weights(63)[0], onnx, trim),
        "without ONNX": DeployedFiles(with_weights(127)[0], None, trim, onnx_problem="it differs"),
        "larger": DeployedFiles(with_weights(128)[0], onnx, trim),
    }
    monkeypatch.setattr(delivery, "ship", lambda entry, *_: deployed[entry.label])
    entries = [delivery.Entry(label, (), None) for label in deployed]
    notes = []
    watcher = replace(silent(), note=notes.append)
    delivery.deliver(entries, delivery.Experiment(None), tmp_path, records=None, measuring=None, watcher=watcher)
    missing = "without ONNX: its .trim file is delivered and no ONNX file: it differs"
    assert notes == [*([f"large, larger: {SATURATES}"] if saturates else []), missing]
