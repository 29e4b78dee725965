"""A network with two heads, class logits and numbers, and the task that they are for."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from paretrim import Metric
from paretrim.train.task import softened_kl

CLASSES, NUMBERS = 3, 2
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
