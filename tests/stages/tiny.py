"""Four tiny networks, 120 learnable images in 4 classes, and every stage: the tables of the contract suite."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from paretrim.capture import capture
from paretrim.data.batches import EvalBatches, TrainBatches
from paretrim.data.types import ImageSet
from paretrim.graph.types import InputSpec
from paretrim.network.constraints import layer_bits
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.start import Start
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.acdc import AcDc
from paretrim.stages.prune.gsm import Gsm
from paretrim.stages.prune.lottery import Lottery
from paretrim.stages.prune.movement import Movement
from paretrim.stages.prune.rigl import RigL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.straight_through import StraightThrough
from paretrim.stages.prune.thinet import ThiNet
from paretrim.stages.quantize.clipq import ClipQ
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources
from paretrim.train.teacher import StoredTeacher

CLASSES = 4
SHAPE = (3, 8, 8)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FLOAT32 = Execution(device="cpu", precision="float32")
SHORT = Budget(epochs=2, batch_size=48, learning_rate=0.05)
NONE = replace(SHORT, epochs=0)


def block(inputs, outputs, *, groups=1, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.left = block(3, 8), nn.Sequential(block(8, 8), nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.down, self.head = block(8, 12, stride=2), nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = self.down(torch.relu(x + self.left(x)))
        return self.head(x.mean((2, 3)))


def plain():
    return nn.Sequential(block(3, 8), block(8, 16, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))


def depthwise():
    parts = block(3, 8), block(8, 8, groups=8), block(8, 16, stride=2), nn.AvgPool2d(2), nn.Flatten()
    return nn.Sequential(*parts, nn.Dropout(0.2), nn.Linear(64, CLASSES))


def without_norm():
    parts = nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, CLASSES))


NETWORKS = {"plain": plain, "residual": Residual, "depthwise": depthwise, "without_norm": without_norm}


@functools.cache
def _graph(name):
    torch.manual_seed(7)
    return capture(NETWORKS[name](), SHAPE)


def network(name):
    return Network(_graph(name))


@functools.cache
def image_set(count=120):
    """Noise with a bright corner that identifies the class."""
    random = np.random.default_rng(5)
    images = random.integers(0, 128, (count, *SHAPE), dtype=np.uint8)
    labels = np.arange(count) % CLASSES
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 4 * row : 4 * row + 3, 4 * column : 4 * column + 3] += 120
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels))


def start(name, *, seed=0, images=None, execution=FLOAT32):
    """A run's start on the tiny images."""
    images = images or image_set()
    ready = EvalBatches(images=images, batch_size=60, mean=MEAN, std=STD)
    calibration = next(iter(ready.epoch(0)))
    return Start(
        network=network(name),
        train=lambda size: TrainBatches(
            images=images, batch_size=size, mean=MEAN, std=STD, crop_padding=1, flip=False, seed=seed
        ),
        validation=ready,
        calibration=calibration.inputs,
        calibration_labels=calibration.labels,
        spec=InputSpec(SHAPE, MEAN, STD),
        data_digest="tiny",
        images=len(images),
        seed=seed,
        execution=execution,
    )


def resources(name, *, seed=0, images=None, execution=FLOAT32) -> Resources:
    """Resources of a stage, with the network itself as teacher."""
    begin = start(name, seed=seed, images=images, execution=execution)
    given = begin.resources(StoredTeacher(begin.network, execution, images=0, classes=CLASSES, folder=None))
    return replace(given, early=lambda _epoch: network(name))


def prune(**settings):
    return Prune(**{"budget": SHORT, "sparsity": 0.5, **settings})


def prune_in_blocks():
    """A part for simultaneous stages: it has no budget of its own."""
    return Prune(sparsity=0.5, pattern="1x4", schedule="cubic", allocation="uniform")


STAGES = {
    "finetune": FineTune(budget=SHORT),
    "finetune adamw": FineTune(budget=replace(SHORT, optimizer="adamw", learning_rate=0.01, clip_norm=1.0)),
    "finetune muon": FineTune(budget=replace(SHORT, optimizer="muon", muon_rate=0.1, clip_norm=1.0)),
    "prune": prune(),
    "prune cubic": prune(schedule="cubic"),
    "prune 1x4": prune(pattern="1x4", allocation="uniform"),
    "prune 1x4 cubic": prune(pattern="1x4", schedule="cubic", allocation="erk"),
    "prune 1x4 regrouped": prune(pattern="1x4", schedule="cubic", regroup=True),
    "prune 1x4 by second order": prune(pattern="1x4", schedule="cubic", score="obs"),
    "prune 1x4 by cost": prune(pattern="1x4", allocation="cost"),
    "prune 1x4 by sensitivity": prune(pattern="1x4", allocation="sensitivity"),
    "prune 2:4": prune(pattern="2:4"),
    "prune channel": prune(pattern="channel", sparsity=0.25),
    "prune channel cubic": prune(pattern="channel", sparsity=0.25, schedule="cubic", allocation="uniform"),
    "rigl": RigL(sparsity=0.5, every=2, budget=SHORT),
    "acdc": AcDc(sparsity=0.5, warmup=0.2, phase=0.2, budget=SHORT),
    "thinet": ThiNet(sparsity=0.25, budget=SHORT),
    "gsm": Gsm(sparsity=0.5, budget=SHORT),
    "straight through": StraightThrough(sparsity=0.5, every=2, budget=SHORT),
    "straight through 2:4": StraightThrough(sparsity=0.5, pattern="2:4", every=2, decay=2e-4, budget=SHORT),
    "movement": Movement(sparsity=0.5, budget=SHORT),
    "movement soft": Movement(selection="soft", pattern="1x4", threshold=0.49, score_rate=0.05, budget=SHORT),
    "lottery": Lottery(share=0.5, budget=SHORT),
    "lottery learning rate": Lottery(share=0.5, pattern="1x4", rewind="learning_rate", budget=replace(SHORT, skip=0.25)),
    "quantize": Quantize(budget=SHORT),
    "quantize observed": Quantize(budget=SHORT, scales="observed", calibrator="percentile"),
    "quantize as lsq": Quantize(budget=SHORT, weight_bits=4, calibrator="lsq"),
    "quantize to 4 bits": Quantize(budget=SHORT, weight_bits=4, activation_bits=4),
    "quantize by tanh": Quantize(budget=SHORT, formats={"*": Format(grid="dorefa", bits=3)}),
    "quantize by codebook": Quantize(budget=SHORT, formats={"*": Format(grid="codebook", bits=4)}),
    "quantize by powers": Quantize(budget=SHORT, formats={"*": Format(grid="powers")}),
    "quantize by two values": Quantize(budget=SHORT, formats={"*": Format(grid="trained-ternary")}),
    "quantize as lsq+": Quantize(budget=SHORT, weight_bits=4, calibrator="lsq+", activations="offset"),
    "together powers": Together(
        parts=(Quantize(formats={"*": Format(grid="powers")}), Prune(sparsity=0.25, pattern="channel", schedule="cubic")),
        budget=SHORT,
    ),
    "quantize mixed": Quantize(budget=SHORT, mixed=Mixture(bits=5.0, samples=2)),
    "quantize by rate": Quantize(budget=SHORT, rate=0.02),
    "quantize by rate observed": Quantize(budget=SHORT, rate=0.02, scales="observed"),
    "quantize adjusted": Quantize(
        budget=SHORT, weight_bits=4, adjust=("equalize", "batchnorm", "adaround", "bias"), rounding_steps=50
    ),
    "clipq": ClipQ(share=0.5, budget=SHORT),
    "distill": Distill(budget=SHORT),
    "distill dkd": Distill(budget=SHORT, criteria=({"loss": "dkd", "standardise": True},)),
    "together": Together(
        parts=(Prune(sparsity=0.5, schedule="cubic"), Quantize(), Distill()), budget=replace(SHORT, label_smoothing=0.1)
    ),
    "together by rate": Together(parts=(prune_in_blocks(), Quantize(rate=0.02), Distill()), budget=SHORT),
    "together channel": Together(parts=(Quantize(), Prune(sparsity=0.25, pattern="channel", schedule="cubic")), budget=SHORT),
}


@functools.cache
def dense(name) -> Candidate:
    """The network after a short training; shared by many tests, so nobody may change it."""
    return run_stage(Candidate(network(name)), FineTune(budget=replace(SHORT, epochs=8, batch_size=24)), resources(name))


def state(candidate_or_network):
    """All tensors by name, copied."""
    module = candidate_or_network.network if isinstance(candidate_or_network, Candidate) else candidate_or_network
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def same(left, right):
    """Whether two states are equal to the last bit."""
    return left.keys() == right.keys() and all(
        torch.equal(left[key], right[key]) and left[key].dtype == right[key].dtype for key in left
    )


def layer_bits_of(stage, name="residual"):
    """Bits of the weights of every layer once the stage has begun."""
    return layer_bits(stage.begin(dense(name).network, resources(name)).network)


class Interrupted(BaseException):
    """Simulates a kill: nothing in the package catches it."""


def interrupting_in(epoch):
    """A report that stops the training at its first tick of an epoch."""

    def report(tick):
        if tick.epoch == epoch:
            raise Interrupted

    return report


def assert_killed_goes_on_to_the_same_bits(stage, folder, *, epoch):
    """A run that is stopped in an epoch and resumed ends with the same bits as an uninterrupted one."""
    with pytest.raises(Interrupted):
        run_stage(dense("residual"), stage, resources("residual"), folder=folder, report=interrupting_in(epoch))
    again = run_stage(dense("residual"), stage, resources("residual"), folder=folder)
    assert same(state(again), state(run_stage(dense("residual"), stage, resources("residual"))))
