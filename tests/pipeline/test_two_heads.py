"""A network with two heads, class logits and numbers, from training to its files: a task with two outputs."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from paretrim import Budget, Distill, FineTune, Metric, Prune, Quantize, compress
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
from paretrim.train.task import CLASSIFICATION, softened_kl
from paretrim.train.teacher import StoredTeacher

CLASSES, NUMBERS = 3, 2
CPU = Execution(device="cpu", precision="float32")
SCORE = Metric("score")


@dataclass(frozen=True)
class ClassAndPlace:
    """The class of an image and two numbers: labels [N, 3], the class first."""

    name: str = "class and place"
    metric: Metric = SCORE

    def batch_labels(self, labels, images, where, /):
        return labels.float()

    def check_labels(self, labels, shapes, where, /):
        assert tuple(shapes) == ((CLASSES,), (NUMBERS,))

    def loss(self, outputs, labels, /, *, label_smoothing):
        logits, numbers = outputs
        return functional.cross_entropy(logits.float(), labels[:, 0].long()) + functional.mse_loss(numbers.float(), labels[:, 1:])

    def imitation(self, outputs, teacher, /, *, temperature):
        return softened_kl(outputs[0], teacher[0], temperature) + functional.mse_loss(outputs[1].float(), teacher[1])

    def running(self, outputs, labels, /):
        return (outputs[0].argmax(1) == labels[:, 0]).sum()

    def decide(self, outputs, /):
        return np.concatenate([outputs[0].argmax(1)[:, None], outputs[1]], axis=1)

    def agreement(self, ours, theirs, /):
        return np.isclose(ours, theirs, atol=1e-3).all(1)

    def score(self, decisions, labels, /):
        right = decisions[:, 0] == labels[:, 0]
        return right - np.square(decisions[:, 1:] - labels[:, 1:]).mean(1)

    def value(self, scores, /):
        return float(scores.mean())


TASK = ClassAndPlace()


class TwoHeads(nn.Module):
    """Returns its heads in a dictionary."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        layers = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.classes, self.place = nn.Linear(32, CLASSES), nn.Linear(32, NUMBERS)

    def forward(self, x):
        features = self.trunk(x)
        return {"classes": self.classes(features), "place": self.place(features)}


def loader(count, seed):
    """A blot whose strength is the class, somewhere on noise."""
    stream = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (count,), generator=stream)
    places = torch.randint(2, (count, 2), generator=stream)
    images = 0.1 * torch.randn(count, 1, 8, 8, generator=stream)
    for image, label, (row, column) in zip(images, classes, places, strict=True):
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1 + label
    return DataLoader(TensorDataset(images, torch.cat([classes[:, None], places], 1)), batch_size=32)


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
