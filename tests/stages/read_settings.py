"""A small network, and what a stage does to it: the measure of whether anything reads a setting."""

import functools
from dataclasses import replace

import torch
from torch import nn

from paretrim.capture import capture
from paretrim.data.batches import EvalBatches, TrainBatches
from paretrim.graph.types import InputSpec
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.start import Start
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.teacher import StoredTeacher
from tests.stages.tiny import CLASSES, FLOAT32, MEAN, SHAPE, STD, block, image_set, state

IMAGES = 48
BUDGET = Budget(epochs=1, batch_size=12, learning_rate=0.05)
MANY = Budget(epochs=1, batch_size=4, learning_rate=0.05)
FASTER = Budget(epochs=1, batch_size=12, learning_rate=0.1)
NONE = Budget(epochs=0)
OTHER_TEACHER = "other"


class Small(nn.Module):
    """A residual block, a depthwise convolution, and 6 input channels that no group of four divides."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.down = block(3, 8), block(8, 8), block(8, 6, stride=2)
        self.alone, self.wide, self.head = block(6, 6, groups=6), block(6, 12), nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = self.down(x + self.left(x))
        return self.head(self.wide(self.alone(x)).mean((2, 3)))


@functools.cache
def _graph(seed):
    torch.manual_seed(seed)
    return capture(Small(), SHAPE)


@functools.cache
def start():
    images = image_set(IMAGES)
    ready = EvalBatches(images=images, batch_size=24, mean=MEAN, std=STD)
    calibration = next(iter(ready.epoch(0)))
    return Start(
        network=Network(_graph(1)),
        train=lambda size: TrainBatches(images=images, batch_size=size, mean=MEAN, std=STD, crop_padding=1, flip=False, seed=0),
        validation=ready,
        calibration=calibration.inputs,
        calibration_labels=calibration.labels,
        spec=InputSpec(SHAPE, MEAN, STD),
        data_digest="small",
        images=IMAGES,
        seed=0,
        execution=FLOAT32,
    )


@functools.cache
def resources():
    """One teacher by default, and another that can be named; every early epoch is another network."""
    teachers = [StoredTeacher(Network(_graph(seed)), FLOAT32, images=0, classes=CLASSES, folder=None) for seed in (2, 3)]
    given = start().resources(teachers[0])
    return replace(given, teachers={OTHER_TEACHER: teachers[1]}, early=lambda epoch: Network(_graph(10 + epoch)))


@functools.cache
def dense():
    """The network after a short training."""
    return run_stage(Candidate(start().network), FineTune(budget=replace(BUDGET, epochs=4)), resources())


@functools.cache
def quantized():
    """The same on grids, for what only quantized networks read."""
    return run_stage(dense(), Quantize(budget=NONE), resources())


def outcome(stage, before=dense):
    """All that a stage leaves behind."""
    return state(run_stage(before(), stage, resources()))
