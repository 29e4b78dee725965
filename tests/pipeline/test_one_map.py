"""A network whose only output is a map, from training on digits to its files: it segments the ink of a noisy digit."""

import json

import numpy as np
import pytest
import torch
from script_files import script
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paretrim import Budget, Distill, FineTune, Prune, Quantize, compress
from paretrim.capture import capture
from paretrim.cli.main import main
from paretrim.data.digits import load_digits
from paretrim.deploy.runnable import ELSEWHERE, NATIVE, REFERENCE, open_outputs, open_runnable, verify
from paretrim.errors import DataUnavailable, UnsupportedOperation
from paretrim.graph.interpreter import run_outputs
from paretrim.graph.storage import from_bytes, to_bytes
from paretrim.network.thaw import network_from_file
from paretrim.runtime import load
from paretrim.train.execution import Execution
from paretrim.train.task import CLASSIFICATION

CPU = Execution(device="cpu", precision="float32")
CLASSES = 2


@pytest.fixture(scope="module")
def example():
    return script("examples/own_pixel_task.py")


def loader(first, count):
    """Digits behind noise; a pixel of the digit is ink where it is at least half as dark as can be."""
    images = load_digits().train.images[first : first + count].float() / 255
    noise = 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(first))
    return DataLoader(TensorDataset(images + noise, (images[:, 0] >= 0.5).to(torch.uint8)), batch_size=64)


IMAGES = next(iter(loader(1000, 64)))[0]


@pytest.fixture(scope="module")
def done(example, tmp_path_factory):
    stages = (
        FineTune(budget=Budget(epochs=8, learning_rate=0.05)),
        Prune(sparsity=0.3, budget=Budget(epochs=2, learning_rate=0.02)),
        Quantize(budget=Budget(epochs=2, learning_rate=0.01)),
        Distill(budget=Budget(epochs=1, learning_rate=0.01)),
    )
    folder = tmp_path_factory.mktemp("map")
    task, network = example.PixelClasses(), example.network(CLASSES)
    return compress(
        network, loader(0, 512), loader(600, 128), stages=stages, folder=folder, task=task, execution=CPU, report=lambda _: None
    )


def test_training_learns_the_pixels(done):
    nothing = (1 - 0.3) / 2  # all ground: about a third of the pixels are ink
    assert done.history[0].value_before < nothing + 0.2
    assert done.history[-1].value_after > 0.75


def test_the_trim_file_has_the_bits_of_the_interpreter(done):
    (expected,) = run_outputs(done.graph, IMAGES.numpy())
    session = load(done.deployed.trim, remember=False)
    assert expected.shape == (64, CLASSES, 8, 8)
    assert (session.output_shapes, session.output_names) == (((CLASSES, 8, 8),), ("logits",))
    with torch.no_grad():
        framework = done.network(IMAGES).numpy()
    for found in (session(IMAGES.numpy()), session.outputs(IMAGES.numpy())[0], framework):
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert sum(layer.time_ns for layer in session.profile(IMAGES[0].numpy())) > 0


def test_the_files_are_of_a_version_that_earlier_readers_refuse(done):
    assert done.deployed.trim.read_bytes()[8] == 3
    content = to_bytes(done.graph)
    assert b'"format":"2"' in content
    assert to_bytes(from_bytes(content)) == content


@pytest.mark.parametrize("runtime", [NATIVE, REFERENCE, ELSEWHERE, "openvino"])
def test_every_runtime_agrees(done, runtime):
    path = done.deployed.trim if runtime in (NATIVE, REFERENCE) else done.deployed.delivered_onnx()
    agreement = verify(done.graph, open_runnable(path, runtime=runtime), IMAGES.numpy())
    assert agreement.top1 is None
    assert agreement.close > 0.8
    assert runtime not in (NATIVE, REFERENCE) or agreement.worst_absolute == 0
    (timed,) = open_outputs(path, runtime=runtime, threads=1)(IMAGES.numpy())
    assert timed.shape == (64, CLASSES, 8, 8)


def test_the_command_line_shows_the_map(done, capsys):
    file = str(done.deployed.trim)
    assert main(["inspect", file]) == 0
    assert "outputs: logits [N, 2, 8, 8]" in capsys.readouterr().out
    assert main(["inspect", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"logits": [CLASSES, 8, 8]}


def test_the_file_trains_on(done):
    network, _ = network_from_file(done.deployed.trim)
    (expected,) = run_outputs(done.graph, IMAGES.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(network(IMAGES).numpy(), expected, atol=0.05 * np.abs(expected).max())


def test_the_metric_is_the_mean_overlap_of_the_classes(example):
    task = example.PixelClasses()
    logits = torch.tensor([[2.0, 0.0, 0.0, 2.0], [0.0, 1.0, 1.0, 0.0]]).reshape(1, 2, 2, 2)
    labels = torch.tensor([[[0, 1], [0, 0]]])
    decisions = task.decide((logits.numpy(),))
    scores = task.score(decisions, labels.numpy())
    assert scores.tolist() == [[[2, 3], [1, 2]]]
    assert task.value(scores) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert float(task.running((logits,), labels)) == 0.75
    assert float(task.imitation((logits,), (logits,), temperature=2.0)) == pytest.approx(0, abs=1e-7)
    assert task.agreement(decisions, decisions).tolist() == [1.0]


def test_class_names_are_those_of_the_channels(example):
    graph = capture(example.network(CLASSES), (1, 8, 8), classes=("ground", "ink"))
    assert (graph.classes, graph.output_shapes) == (("ground", "ink"), ((CLASSES, 8, 8),))
    with pytest.raises(
        UnsupportedOperation, match=r"returns 2 channels \(a map \[2, 8, 8\]\), but the data has 3 classes; build"
    ):
        capture(example.network(CLASSES), (1, 8, 8), classes=("a", "b", "c"))


def test_classification_refuses_a_map():
    with pytest.raises(
        DataUnavailable, match=r"a map \[2, 8, 8\] for each image, and classification learns from logits \[N, K\]"
    ):
        CLASSIFICATION.check_labels(torch.zeros(4), ((2, 8, 8),), "a batch has")


def test_a_softmax_over_the_channels_of_a_map_at_the_end_is_left_out(example):
    network, images = example.network(3).eval(), torch.rand(2, 1, 8, 8)
    with pytest.warns(UserWarning, match="the network ends in softmax, which is left out"):
        found = capture(nn.Sequential(network, nn.Softmax(1)), (1, 8, 8))
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(run_outputs(found, images.numpy())[0], expected, rtol=1e-4, atol=1e-5)
