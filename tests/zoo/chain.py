"""From a module to a deployed file, and the checks at every step."""

import numpy as np
import torch

from paretrim.bench.machine import describe
from paretrim.capture import capture
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import integer_share, open_runnable
from paretrim.deploy.saturation import may_saturate
from paretrim.graph.checks import validate
from paretrim.graph.fusion import fuse
from paretrim.graph.interpreter import compute, run
from paretrim.graph.types import INPUT
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.settle import settle_
from paretrim.runtime import instruction_sets, plan
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

IMAGES = 4


def resources(images):
    """Calibration images and nothing to train on."""
    return Resources(None, None, images, Execution(device="cpu", precision="float32"), 0)


def captured(module, shape):
    """The network, images for it, and its logits, which must be the module's."""
    torch.manual_seed(1)
    images = torch.randn(IMAGES, *shape)
    network = Network(capture(module, shape)).eval()
    with torch.no_grad():
        expected, found = module(images.clone()), network(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    return network, images, expected


def assert_frozen_float_is_the_network(network, images, expected):
    graph = freeze(network)
    validate(graph)
    scale = float(expected.abs().max())
    np.testing.assert_allclose(run(graph, images.numpy()), expected.numpy(), rtol=1e-3, atol=2e-4 * scale)


def assert_every_operation_is_what_was_trained(graph, fake, images):
    """Each integer node, given the very integers the fake-quantized network has there, is within a step of that network.

    The two compute in other orders, which turns ties to the next step: rarely, but for a whole channel that happens to be
    constant all at once.
    """
    ends = {run.head.name: run.end.name for run in fuse(fake.structure)} | {"quantized_images": INPUT}
    with torch.no_grad():
        reals = fake.features(images, tuple(ends.values()))
    types, known = graph.types, {INPUT: images.numpy()}
    for node in graph.nodes:
        inputs = tuple(known[name] for name in node.inputs)
        found = compute(node, inputs, tuple(types[name] for name in node.inputs), graph.input)
        if node.name not in ends:  # half of a clamp, or the last dequantize: has no counterpart
            known[node.name] = found
            continue
        real = reals[ends[node.name]].double().numpy()
        if not node.type.quantized:
            np.testing.assert_allclose(found, real, rtol=1e-4, atol=1e-4 * np.abs(real).max(), err_msg=node.name)
            known[node.name] = found
            continue
        trained = np.rint(real / node.type.scale) + node.type.zero_point
        apart = np.abs(found - trained)
        assert apart.max() <= 1, node.name
        assert apart.mean() <= 0.05, node.name
        known[node.name] = trained.astype(np.uint8)


def assert_integers_are_the_fake_quantized_network(network, images):
    """Quantize without training, settle, freeze, and compare; returns the integer graph, whose bits the native runtime gives."""
    fake = Quantize(budget=Budget(epochs=0), calibrator="minmax").begin(network, resources(images)).network.eval()
    settle_(fake)
    graph = freeze(fake)
    validate(graph)
    assert_every_operation_is_what_was_trained(graph, fake, images)
    expected = run(graph, images.numpy())
    for instruction_set in instruction_sets():
        found = plan(graph, instruction_set=instruction_set, measure=False)(images.numpy())
        np.testing.assert_array_equal(found, expected, err_msg=instruction_set)
    return graph


def assert_the_file_runs_in_int8(graph, images, folder):
    """Top-1 as the reference, every convolution on integers, in both runtimes."""
    path = folder / "a.onnx"
    export_onnx(graph, path)
    expected = run(graph, images.numpy())
    clear = _clear(expected)
    convolutions = sum(node.op == "conv2d" for node in graph.nodes)
    for runtime in ("onnxruntime", "openvino"):
        if runtime == "onnxruntime" or not may_saturate(graph, describe()):
            found = open_runnable(path, runtime=runtime)(images.numpy())
            assert (found.argmax(1) == expected.argmax(1))[clear].all(), runtime
            assert np.abs(found - expected).max() <= 0.15 * np.abs(expected).max(), runtime
        report = integer_share(path, runtime)
        assert report.in_int8 == report.convolutions, (runtime, report)
        assert report.convolutions >= convolutions, (runtime, report)


def _clear(logits):
    """Images whose best class leads by more than a few steps: random networks leave classes nearly tied."""
    ordered = np.sort(logits, axis=1)
    return ordered[:, -1] - ordered[:, -2] > 0.1 * np.abs(logits).max()
