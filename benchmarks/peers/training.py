"""The user's own training: augmented images, and the loop that trained the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Training(Dataset[tuple[Tensor, int]]):
    """Training images of CIFAR-10, cropped out of a border of four reflected pixels and mirrored at random."""

    def __init__(self) -> None:
        data = np.load("training.npz")
        images = torch.from_numpy(data["images"]).float() / 255
        images = (images - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
        self.images, self.labels = functional.pad(images, (4, 4, 4, 4), mode="reflect"), data["labels"].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        top, left, mirrored = *torch.randint(9, (2,)).tolist(), torch.rand(()) < 0.5
        image = self.images[index, :, top : top + 32, left : left + 32]
        return image.flip(2) if mirrored else image, self.labels[index]


def batches() -> DataLoader[tuple[Tensor, Tensor]]:
    """Shuffled batches of 128 images, drawn anew in every epoch."""
    return DataLoader(Training(), batch_size=128, shuffle=True)


def train(network: nn.Module, epochs: int, teacher: nn.Module | None = None) -> None:
    """Minimise the cross-entropy; with a teacher half of it, and half of the divergence at temperature 4 (Hinton et al. 2015)."""
    loader = batches()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for _ in range(epochs):
        for images, labels in loader:
            logits = network(images)
            loss = functional.cross_entropy(logits, labels)
            if teacher is not None:
                with torch.no_grad():
                    wanted = functional.log_softmax(teacher(images) / 4, dim=1)
                found = functional.log_softmax(logits / 4, dim=1)
                loss = 0.5 * loss + 8 * functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
