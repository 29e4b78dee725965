"""Accuracy of a network on batches it does not learn from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from paretrim.data.batches import Batch
from paretrim.errors import DataUnavailable


def predictions(network: nn.Module, batches: Iterable[Batch], device: torch.device) -> tuple[Tensor, Tensor]:
    """Top-1 classes and labels, int64 [N] each, on the CPU. Float32 throughout; the mode of the network is restored.

    Raises:
        DataUnavailable: there are no batches.
    """
    training = network.training
    network.eval().to(device)
    found, labels = [], []
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for batch in batches:
            found.append(network(batch.inputs.to(device)).argmax(1).cpu())
            labels.append(batch.labels.cpu())
    network.train(training)
    if not found:
        raise DataUnavailable("there are no images to evaluate on; give validation data with at least one batch")
    return torch.cat(found), torch.cat(labels)


def accuracy(network: nn.Module, batches: Iterable[Batch], device: torch.device) -> float:
    """Share of right top-1 classes in [0, 1].

    Raises:
        DataUnavailable: there are no batches.
    """
    found, labels = predictions(network, batches, device)
    return float((found == labels).double().mean())
