"""Semantic segmentation as a task of your own: ``python examples/own_pixel_task.py``.

The network returns logits [N, K, H, W], the labels are classes [N, H, W], and the metric is the mean intersection over union.
All of that is defined by the task; training, deployed files and their checks need no change.
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

OVERLAP = Metric("mIoU", "%")


@dataclass(frozen=True)
class PixelClasses:
    """One output, logits [N, K, H, W]; labels int64 [N, H, W]."""

    name: str = "pixel classes"
    metric: Metric = OVERLAP

    def batch_labels(self, labels: Tensor, images: int, where: str, /) -> Tensor:
        """Integer labels of any type, as int64."""
        return labels.long()

    def check_labels(self, labels: Tensor, shapes: Sequence[tuple[int, ...]], where: str, /) -> None:
        """Require a label from 0 to K - 1 for each pixel of a single map."""
        classes = shapes[0][0]
        if len(shapes) != 1 or tuple(labels.shape[1:]) != shapes[0][1:]:
            raise DataUnavailable(f"{where} has labels {list(labels.shape[1:])} per image, but the network returns {shapes}")
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise DataUnavailable(
                f"{where} has labels {int(labels.min())}..{int(labels.max())}; the network has {classes} classes"
            )

    def loss(self, outputs: tuple[Tensor, ...], labels: Tensor, /, *, label_smoothing: float) -> Tensor:
        """Cross-entropy, mean over all pixels."""
        return functional.cross_entropy(outputs[0].float(), labels, label_smoothing=label_smoothing)

    def imitation(self, outputs: tuple[Tensor, ...], teacher: tuple[Tensor, ...], /, *, temperature: float) -> Tensor:
        """The divergence of softened logits, mean over all pixels."""
        ours, theirs = ((found[0].float() / temperature).log_softmax(1) for found in (outputs, teacher))
        return (theirs.exp() * (theirs - ours)).sum(1).mean() * temperature**2

    def running(self, outputs: tuple[Tensor, ...], labels: Tensor, /) -> Tensor:
        """The share of correct pixels, summed over images."""
        return (outputs[0].argmax(1) == labels).float().mean((1, 2)).sum()

    def decide(self, outputs: tuple[Array, ...], /) -> Array:
        """One-hot classes uint8 [N, H, W, K]; :meth:`score` needs the number of classes."""
        classes = outputs[0].shape[1]
        return np.eye(classes, dtype=np.uint8)[outputs[0].argmax(1)]

    def agreement(self, ours: Array, theirs: Array, /) -> Array:
        """The share of pixels with equal classes."""
        return np.asarray((ours.argmax(-1) == theirs.argmax(-1)).mean((1, 2)))

    def score(self, decisions: Array, labels: Array, /) -> Array:
        """Pixels in the intersection and in the union, for each image and class, [N, K, 2]."""
        wanted = np.eye(decisions.shape[-1], dtype=np.uint8)[labels]
        both, either = (decisions & wanted).sum((1, 2)), (decisions | wanted).sum((1, 2))
        return np.stack([both, either], axis=-1)

    def value(self, scores: Array, /) -> float:
        """Intersection over union, summed over all images, mean over the classes that occur."""
        both, either = scores.sum(0).T
        return float((both / np.maximum(either, 1))[either > 0].mean())


def loader(count: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """A bright or a dark square on noise; the classes are 0 for background, 1 for bright, 2 for dark."""
    stream = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.randn(count, 1, 12, 12, generator=stream)
    labels = torch.zeros(count, 12, 12, dtype=torch.int64)
    for image, label in zip(images, labels, strict=True):
        row, column, kind = (int(number) for number in torch.randint(0, 7, (3,), generator=stream))
        image[0, row : row + 5, column : column + 5] += 1 if kind % 2 else -1
        label[row : row + 5, column : column + 5] = 1 if kind % 2 else 2
    return DataLoader(TensorDataset(images, labels), batch_size=32)


def network(classes: int = 3) -> nn.Module:
    """Three untrained convolutions that keep the size of the image."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 8), (8, 8)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, classes, 3, padding=1))


def main(*, epochs: int, folder: Path) -> None:
    """Train the network, quantize it, and print the metric after both."""
    task: Task = PixelClasses()
    budget = Budget(epochs=epochs, learning_rate=0.05)
    stages = [FineTune(budget=budget), Quantize(budget=budget)]
    done = compress(network(), loader(512, 1), loader(128, 2), stages=stages, folder=folder, task=task)
    for stage in done.history:
        before, after = task.metric.text(stage.value_before), task.metric.text(stage.value_after)
        print(f"{stage.name}: validation {task.metric.name} {before} -> {after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("own-pixel-task"))
    given = parser.parse_args()
    main(epochs=given.epochs, folder=given.folder)
