"""Contrastive representation distillation, with a memory bank."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.network.places import PENULTIMATE
from paretrim.settings import settings
from paretrim.stages.distill.criterion import require_classes, teacher_of, weightless
from paretrim.stages.distill.features import Path
from paretrim.train.budget import AtLeastOne, NotNegative, Positive
from paretrim.train.losses import LossTerm, Outputs
from paretrim.train.resources import Resources
from paretrim.train.task import Task

HIDDEN = 256
"""Width between the two layers of the embedding ``mlp``."""

MOMENTUM = 0.5
"""Share of the old entry that an update of the bank keeps."""

BATCH = 256
"""Batch size for reading the labels of all training images."""

UNSEEN = -1
"""Label of an image that was in no batch; it is never drawn as a negative."""

METHODS = (
    Method(
        name="crd",
        kind="loss",
        source="Tian et al. 2020 (CRD), arXiv 1910.10699, equations 10 to 19",
        what="distinguish the teacher's embedding of the same image from those of others, with a memory bank",
        formula="-log(s+ / (s+ + c)) - sum log(c / (s- + c)), s = exp(<u, v> / tau) / Z, c = negatives / images",
        recipe="crd",
        settings=("distill.criteria",),
    ),
)


@settings(kw_only=True, idle=(weightless("negatives", "dimensions", "temperature", "draw", "embedding", "at", "teacher_at"),))
class Contrast:
    """CRD: distinguish the teacher's embedding of the same image from those of other images, and the other way round.

    Features of both networks are embedded on the unit sphere in ``dimensions`` dimensions; a bank stores both embeddings of
    every training image. With ``s = exp(<bank entry of the other network, embedding> / temperature) / Z`` and
    ``c = negatives / images``, the loss is ``- log(s+ / (s+ + c)) - sum log(c / (s- + c))``, summed over both networks, mean over
    the batch. Z is the number of images times the mean of the first batch.

    ``draw``: ``image`` draws negatives for each image from other classes, with replacement; ``batch`` draws one set for the whole
    batch, from all classes. ``embedding``: ``linear``, or ``mlp`` with a hidden layer of 256. As published: ``image`` and
    ``linear``. The trade-offs paper's simplification: ``batch``, ``mlp`` and 4096 negatives.

    Source: Tian et al. 2020, "Contrastive representation distillation", equations 10 to 19.
    """

    loss: Literal["crd"] = "crd"
    weight: NotNegative = 0.8
    negatives: AtLeastOne = 16384
    dimensions: AtLeastOne = 128
    temperature: Positive = 0.07
    draw: Literal["image", "batch"] = "image"
    embedding: Literal["linear", "mlp"] = "linear"
    at: Path = PENULTIMATE
    teacher_at: str = ""

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """Both embeddings and the bank."""
        shapes = network.shape_at(self.at), teacher_of(resources).shape_at(self.teacher_at or self.at)
        if self.draw == "image":
            require_classes(resources, f'{self.loss} with draw = "image"')
        labels = _labels(resources)
        others = _OtherClasses(labels) if self.draw == "image" else None
        ours, theirs = (self._embedding(math.prod(shape)) for shape in shapes)
        return nn.ModuleDict({"contrast": Bank(self, ours, theirs, len(labels), others)})

    def _embedding(self, width: int) -> nn.Module:
        if self.embedding == "linear":
            return nn.Linear(width, self.dimensions)
        return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, self.dimensions))

    def term(self, _task: Task, /) -> LossTerm:
        """The loss; every call in training updates the bank."""
        theirs = self.teacher_at or self.at

        def function(outputs: Outputs) -> Tensor:
            assert outputs.indices is not None  # building the bank required them
            found: Tensor = outputs.extra["contrast"](
                outputs.features[self.at], outputs.teacher_features[theirs], outputs.indices, outputs.labels
            )
            return found

        return LossTerm(function, self.weight, features=(self.at,), teacher_features=(theirs,), needs_indices=True)


class Bank(nn.Module):
    """Embeddings of all training images by student and teacher, [N, D] each, and the modules that compute them."""

    student_bank: Tensor
    teacher_bank: Tensor
    scale: Tensor

    def __init__(
        self, settings: Contrast, student: nn.Module, teacher: nn.Module, images: int, others: _OtherClasses | None
    ) -> None:
        super().__init__()
        self.settings, self.student, self.teacher, self.others = settings, student, teacher, others
        bound = math.sqrt(3 / settings.dimensions)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, torch.empty(images, settings.dimensions).uniform_(-bound, bound))
        self.register_buffer("scale", torch.zeros(2))

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor, labels: Tensor) -> Tensor:
        """The loss of features [B, ...] of the images ``indices`` [B] with ``labels`` [B]."""
        count = len(self.student_bank)
        ours = functional.normalize(self.student(student.flatten(1)))
        theirs = functional.normalize(self.teacher(teacher.flatten(1)))
        chosen = torch.cat((indices[:, None], self._negatives(indices, labels)), 1)
        banks, scales, loss = (self.teacher_bank, self.student_bank), [], ours.new_zeros(())
        for bank, embedded, scale in zip(banks, (ours, theirs), self.scale, strict=True):
            likeness = (embedded @ bank.T).gather(1, chosen).div(self.settings.temperature).exp()
            scales.append(torch.where(scale > 0, scale, likeness.detach().mean() * count))
            loss = loss + contrast(likeness / scales[-1], self.settings.negatives / count)
        if self.training:
            self.scale = torch.stack(scales)
            self.student_bank = _updated(self.student_bank, indices, ours)
            self.teacher_bank = _updated(self.teacher_bank, indices, theirs)
        return loss

    def _negatives(self, indices: Tensor, labels: Tensor) -> Tensor:
        """Positions in the bank, [B, K]."""
        images, count = len(indices), self.settings.negatives
        if self.others is not None:
            drawn: Tensor = self.others(labels, count)
            return drawn
        return torch.randint(len(self.student_bank), (1, count), device=indices.device).expand(images, count)


class _OtherClasses(nn.Module):
    """Draws images of other classes."""

    order: Tensor
    starts: Tensor
    counts: Tensor

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        seen = (labels != UNSEEN).nonzero()[:, 0]
        counts = labels[seen].bincount()
        if int(counts.max()) == len(seen):
            raise InvalidRecipe('distill: crd draws images of other classes, but there is only one class; set draw = "batch"')
        found = {"order": seen[labels[seen].argsort(stable=True)], "starts": counts.cumsum(0) - counts, "counts": counts}
        for name, tensor in found.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, labels: Tensor, count: int) -> Tensor:
        """For each label in [B], ``count`` positions of images with other labels, [B, count], uniform with replacement."""
        own, starts = self.counts[labels][:, None], self.starts[labels][:, None]
        others = len(self.order) - own
        drawn = (torch.rand(len(labels), count, device=labels.device, dtype=torch.float64) * others).long().minimum(others - 1)
        return self.order[drawn + own * (drawn >= starts)]


def contrast(likeness: Tensor, noise: Tensor | float) -> Tensor:
    """The loss of one network for likeness [B, 1 + K], the same image first: summed over the other images, mean over B."""
    same, other = likeness[:, 0], likeness[:, 1:]
    return ((1 + noise / same).log() + (1 + other / noise).log().sum(1)).mean()


def _updated(bank: Tensor, indices: Tensor, embedded: Tensor) -> Tensor:
    """A new bank with updated rows of the batch; the old one is still needed for gradients."""
    moved = functional.normalize(MOMENTUM * bank[indices] + (1 - MOMENTUM) * embedded.detach())
    return bank.index_copy(0, indices, moved)


def _labels(resources: Resources) -> Tensor:
    """Labels of all training images, by position; -1 for images that an epoch leaves out.

    Raises:
        InvalidRecipe: batches have no positions.
    """
    found = torch.full((resources.indexed_images(),), UNSEEN, dtype=torch.int64)
    for batch in resources.train(BATCH).epoch(0):
        if batch.indices is not None:
            found[batch.indices.cpu()] = batch.labels.cpu().long()
    return found
