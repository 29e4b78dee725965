"""A task of your own: ``python examples/own_task.py``.

A task defines the loss of a network, its decisions, and their metric. This one is regression: one number for each image, with the
mean squared error as the metric (lower is better). The network learns how bright an image is.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from paretrim import Budget, DataUnavailable, FineTune, Metric, Quantize, Task, compress

Array = npt.NDArray[Any]

ERROR = Metric("mean squared error", higher_is_better=False)


@dataclass(frozen=True)
class Regression:
    """K numbers for each image: outputs and labels [N, K]."""

    name: str = "regression"
    metric: Metric = ERROR

    def batch_labels(self, labels: Tensor, images: int, where: str, /) -> Tensor:
        """Numbers of any type, as float32."""
        return labels.float()

    def check_labels(self, labels: Tensor, shapes: Sequence[tuple[int, ...]], where: str, /) -> None:
        """Require labels with the shape of the output."""
        if tuple(labels.shape[1:]) != shapes[0]:
            raise DataUnavailable(f"{where} has labels {list(labels.shape[1:])}, but the network returns {list(shapes[0])}")

    def loss(self, outputs: tuple[Tensor, ...], labels: Tensor, /, *, label_smoothing: float) -> Tensor:
        """The mean squared error; label smoothing does not apply."""
        return functional.mse_loss(outputs[0].float(), labels)

    def imitation(self, outputs: tuple[Tensor, ...], teacher: tuple[Tensor, ...], /, *, temperature: float) -> Tensor:
        """The mean squared distance to the teacher (Ba and Caruana 2014); the temperature does not apply."""
        return functional.mse_loss(outputs[0].float(), teacher[0].float())

    def running(self, outputs: tuple[Tensor, ...], labels: Tensor, /) -> Tensor:
        """The sum of the squared errors of the images."""
        return (outputs[0].float() - labels).square().flatten(1).mean(1).sum()

    def decide(self, outputs: tuple[Array, ...], /) -> Array:
        """The numbers themselves."""
        return outputs[0]

    def agreement(self, ours: Array, theirs: Array, /) -> Array:
        """Whether all numbers of an image are equal up to rounding."""
        return np.isclose(ours, theirs, rtol=1e-3, atol=1e-5).reshape(len(ours), -1).all(1)

    def score(self, decisions: Array, labels: Array, /) -> Array:
        """The squared error of each image."""
        return np.square(decisions.astype(np.float64) - labels).reshape(len(labels), -1).mean(1)

    def value(self, scores: Array, /) -> float:
        """The mean squared error."""
        return float(scores.mean())


def loader(images: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """Noise images with different brightness, which is the label."""
    stream = torch.Generator().manual_seed(seed)
    brightness = torch.randn(images, 1, generator=stream)
    noise = torch.randn(images, 1, 8, 8, generator=stream)
    return DataLoader(TensorDataset(noise + brightness[:, :, None, None], brightness), batch_size=32)


def network() -> nn.Module:
    """A small regressor."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))


def main(*, epochs: int, folder: Path) -> None:
    """Train the network, quantize it, and print the metric after both."""
    task: Task = Regression()
    budget = Budget(epochs=epochs, learning_rate=0.05)
    stages = [FineTune(budget=budget), Quantize(budget=budget)]
    done = compress(network(), loader(512, 1), loader(256, 2), stages=stages, folder=folder, task=task)
    for stage in done.history:
        before, after = task.metric.text(stage.value_before), task.metric.text(stage.value_after)
        print(f"{stage.name}: validation {task.metric.name} {before} -> {after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("own-task"))
    given = parser.parse_args()
    main(epochs=given.epochs, folder=given.folder)
