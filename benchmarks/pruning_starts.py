"""The networks that pruning methods begin from: trained here on digits, or pretrained for CIFAR-10; and how methods train.

The weights of the ResNet-20 are for images normalised with the mean and deviation of ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from paretrim.models.resnet_cifar import CifarResNet
from paretrim.run.pipeline import train_dense
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import Start, TestSet, start_from
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution

EXECUTION = Execution(device="cpu", precision="float32")
DENSE = Budget(epochs=12, learning_rate=0.1, batch_size=64)


@dataclass(frozen=True)
class Setting:
    """Where the dense networks come from, and what every method gets.

    Attributes:
        recipe: network and data, as in a recipe.
        budget: the training of every method; an even number of epochs.
        dense: the training of the dense networks; None if they have weights.
        execution: device and precision of training.
    """

    recipe: Mapping[str, Any]
    budget: Budget
    dense: Budget | None
    execution: Execution


DIGITS = Setting(
    recipe={"model": {"network": f"{Path(__file__).stem}:small_resnet"}, "data": {"name": "digits"}},
    budget=Budget(epochs=4, learning_rate=0.05, batch_size=32),
    dense=DENSE,
    execution=EXECUTION,
)
CIFAR10 = Setting(
    recipe={
        "model": {"network": "resnet20"},
        "data": {
            "name": "cifar10",
            "validation": 0.1,
            "train_images": 10_000,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    },
    budget=Budget(epochs=2, learning_rate=0.02),
    dense=None,
    execution=Execution(device="cpu"),
)
SETTINGS = {"digits": DIGITS, "cifar10": CIFAR10}


def small_resnet(*, classes: int, channels: int = 3) -> nn.Module:
    """A ResNet of one block a stage: 78 thousand parameters."""
    return CifarResNet(1, classes=classes, channels=channels)


def seeds_of(
    seeds: int, folder: Path, setting: Setting = DIGITS, weights: str | None = None
) -> tuple[list[Start], list[TestSet]]:
    """The dense network of every seed, with these weights or trained unless it is in the folder, and its test images."""
    starts, tests = [], []
    for seed in range(seeds):
        model = setting.recipe["model"] | ({"weights": weights} if weights else {})
        recipe = replace(parse_recipe({**setting.recipe, "model": model}), seed=seed, execution=setting.execution)
        start, test = start_from(recipe)
        starts.append(train_dense(start, setting.dense, folder / str(seed)) if setting.dense else start)
        tests.append(test)
    return starts, tests
