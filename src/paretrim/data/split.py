"""Chooses the images for training, validation and calibration. Pure functions of labels and a seed.

The order comes from the raw output of NumPy's PCG64, which NumPy guarantees never to change, so that a split stays the same
in every future version.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from paretrim.data.spec import DataSpec
from paretrim.data.types import Dataset, Splits
from paretrim.errors import DataUnavailable

Indices = npt.NDArray[np.int64]


def split(dataset: Dataset, spec: DataSpec) -> Splits:
    """Take the validation images out of the training images: the same fraction of every class, drawn with ``split_seed``.

    A class keeps at least one training image, and gives at least one validation image if it has two.

    Raises:
        DataUnavailable: no class has two images to divide.
    """
    labels = dataset.train.labels.cpu().numpy()
    validation = validation_indices(dataset, spec)
    if not len(validation):
        raise DataUnavailable(
            f"{dataset.name}: no class has two training images, so no validation images can be taken out; add images"
        )
    rest = np.setdiff1d(np.arange(len(labels)), validation)
    if spec.train_images is not None:
        rest = np.sort(rest[balanced(labels[rest], spec.train_images, seed=spec.split_seed)])
    return Splits(
        name=dataset.name,
        classes=dataset.classes,
        train=dataset.train.select(torch.from_numpy(rest)),
        validation=dataset.train.select(torch.from_numpy(validation)),
        mean=dataset.mean,
        std=dataset.std,
        augmentation=dataset.augmentation,
        digest=dataset.digest,
    )


def validation_indices(dataset: Dataset, spec: DataSpec) -> Indices:
    """Sorted indices of the validation images among the training images."""
    return stratified(dataset.train.labels.cpu().numpy(), spec.validation, seed=spec.split_seed)


def stratified(labels: Indices, fraction: float, *, seed: int) -> Indices:
    """Sorted indices of ``round(fraction * n)`` images of each class of n images, at least 1 and at most n - 1."""
    order = shuffled(len(labels), seed=seed)
    chosen = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def balanced(labels: Indices, count: int, *, seed: int) -> Indices:
    """Indices of ``count`` images, one of each class in turn, so that classes have equal shares as long as they last.

    Raises:
        DataUnavailable: there are fewer images, or ``count`` is below 1.
    """
    if not 1 <= count <= len(labels):
        raise DataUnavailable(
            f"{count} images were asked for, allowed are 1 to {len(labels)}, the size of the training set; ask for fewer"
        )
    order = shuffled(len(labels), seed=seed)
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels[order] == label
        turn[members] = np.arange(int(members.sum()))
    return order[np.argsort(turn, kind="stable")[:count]]


def shuffled(count: int, *, seed: int) -> Indices:
    """A permutation of 0..count-1 that is the same everywhere and always."""
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable").astype(np.int64)
