"""A network with two heads, class logits and numbers, from training to its files: a task with two outputs."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from two_heads import CLASSES, NUMBERS, TASK, ClassAndPlace, TwoHeads, loader

from paretrim import Budget, Distill, FineTune, Prune, Quantize, compress
from paretrim.deploy.runnable import open_runnable
from paretrim.errors import DataUnavailable, TrainingFailed
from paretrim.graph.interpreter import run_outputs
from paretrim.network.network import Network
from paretrim.network.thaw import network_from_file
from paretrim.run.own import start_from_loaders
from paretrim.run.pipeline import run_stages
from paretrim.runtime import load
from paretrim.train.execution import Execution
from paretrim.train.losses import Outputs, task_loss
from paretrim.train.task import CLASSIFICATION
from paretrim.train.teacher import StoredTeacher

CPU = Execution(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    budget = Budget(epochs=6, learning_rate=0.02)
    stages = (
        FineTune(budget=budget),
        Prune(sparsity=0.5, budget=Budget(epochs=2, learning_rate=0.01)),
        Quantize(budget=Budget(epochs=2, learning_rate=0.01)),
        Distill(budget=Budget(epochs=1, learning_rate=0.01)),
    )
    folder = tmp_path_factory.mktemp("two heads")
    return compress(
        TwoHeads(), loader(256, 1), loader(64, 2), stages=stages, folder=folder, task=TASK, execution=CPU, report=lambda _: None
    )


IMAGES = next(iter(loader(32, 3)))[0]


def test_training_learns_both_outputs(done):
    guess = 1 / CLASSES - 1 / 4  # of classes that are equally common, and of numbers 0 and 1 halfway between
    assert done.history[0].value_before < guess
    assert done.history[-1].value_after > guess + 0.3


def test_the_trim_file_has_the_bits_of_the_interpreter(done):
    expected = run_outputs(done.graph, IMAGES.numpy())
    assert done.deployed.trim.read_bytes()[8] == 3
    found = load(done.deployed.trim, remember=False).outputs(IMAGES.numpy())
    with torch.no_grad():
        torch_ones = done.network(IMAGES)
    for output, native, integers in zip(expected, found, torch_ones, strict=True):
        np.testing.assert_array_equal(native.view(np.uint32), output.view(np.uint32))
        np.testing.assert_array_equal(integers.numpy().view(np.uint32), output.view(np.uint32))


def test_the_onnx_file_is_delivered_and_agrees(done):
    onnx = done.deployed.delivered_onnx()
    for runtime in ("onnxruntime", "openvino"):
        found = open_runnable(onnx, runtime=runtime).outputs(IMAGES.numpy())
        for output, other in zip(found, run_outputs(done.graph, IMAGES.numpy()), strict=True):
            np.testing.assert_allclose(output, other, atol=0.1 * np.abs(other).max())


def test_the_file_trains_on(done):
    network, _ = network_from_file(done.deployed.trim)
    with torch.no_grad():
        found = network(IMAGES)
    for output, other in zip(found, run_outputs(done.graph, IMAGES.numpy()), strict=True):
        np.testing.assert_allclose(output.numpy(), other, atol=0.05 * np.abs(other).max())


def start(module, task=TASK):
    return start_from_loaders(module, loader(32, 1), loader(32, 2), execution=CPU, task=task)


def test_classification_refuses_several_outputs():
    with pytest.raises(DataUnavailable, match="the network returns 2 outputs, and classification learns from one; return the"):
        CLASSIFICATION.check_labels(torch.zeros(4), ((3,), (2,)), "a batch has")


def test_a_teacher_returns_what_the_network_returns(tmp_path):
    begin = start(TwoHeads())
    batch = next(iter(begin.train(32).epoch(0)))
    teacher = StoredTeacher(begin.network, CPU, images=0, classes=begin.classes, folder=None)
    with torch.no_grad():
        expected = begin.network.eval()(batch.inputs)
    assert begin.classes == CLASSES + NUMBERS
    for output, other in zip(teacher.outputs(batch, 0), expected, strict=True):
        torch.testing.assert_close(output, other)

    class Turned(TwoHeads):
        def forward(self, x):
            return tuple(super().forward(x).values())[::-1]

    other = start_from_loaders(Turned(), loader(32, 1), loader(32, 2), execution=CPU, task=AnyOrder())
    stages = [Distill(budget=Budget(epochs=1))]
    with pytest.raises(TrainingFailed, match=r"the teacher returns \[2\], \[3\] and the network \[3\], \[2\]; they must"):
        run_stages(begin, stages, tmp_path, teacher=other.network)


class AnyOrder(ClassAndPlace):
    """The same for outputs in any order."""

    def check_labels(self, labels, shapes, where, /):
        pass


def test_the_loss_sees_every_output():
    logits, numbers = torch.randn(4, CLASSES), torch.randn(4, NUMBERS)
    labels = torch.tensor([[0, 1, 0], [1, 0, 1], [2, 1, 1], [0, 0, 0]]).float()
    found = Outputs(logits, labels, teacher_logits=logits, others=(numbers,), teacher_others=(numbers,))
    expected = functional.cross_entropy(logits, labels[:, 0].long()) + functional.mse_loss(numbers, labels[:, 1:])
    torch.testing.assert_close(task_loss(TASK).function(found), expected)
    assert [output is other for output, other in zip(found.outputs, found.teacher_outputs, strict=True)] == [True, True]
    assert Outputs(logits, labels).teacher_outputs == ()
    assert isinstance(start(TwoHeads()).network, Network)
