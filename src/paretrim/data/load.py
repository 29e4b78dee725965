"""From a :class:`DataSpec` to a :class:`Dataset` in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from paretrim.data.cifar import CIFAR10, CIFAR100, default_places, load_cifar
from paretrim.data.digits import load_digits
from paretrim.data.download import Progress
from paretrim.data.image_folder import load_image_folder
from paretrim.data.spec import DataSpec
from paretrim.data.types import Augmentation, Dataset


def load(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """Read a data set, training and test images; settings that the spec leaves open are the data set's own.

    ``progress`` is told about a download, should one be needed. Hand training :func:`paretrim.data.split.split` of the
    result, which leaves the test images behind.

    Raises:
        DataUnavailable: images or labels are missing, damaged or do not fit the spec.
        MissingDependency: image files are to be read and Pillow is not installed.
    """
    data = _read(spec, progress)
    own = data.augmentation
    chosen = Augmentation(
        crop_padding=own.crop_padding if spec.crop_padding is None else spec.crop_padding,
        flip=own.flip if spec.flip is None else spec.flip,
        cutout=own.cutout if spec.cutout is None else spec.cutout,
    )
    return replace(data, augmentation=chosen, mean=spec.mean or data.mean, std=spec.std or data.std)


def _read(spec: DataSpec, progress: Progress | None) -> Dataset:
    if spec.name == "digits":
        return load_digits()
    if spec.image_folder:
        return load_image_folder(Path(spec.image_folder), size=spec.image_size, resize=spec.resize)
    layout = {"cifar10": CIFAR10, "cifar100": CIFAR100}[spec.name]
    return load_cifar(layout, default_places(spec.folder), progress=progress)
