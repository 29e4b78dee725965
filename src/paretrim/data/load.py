"""From a :class:`DataSpec` to a :class:`Dataset` in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from paretrim.data.cifar import CIFAR10, CIFAR100, SIDE, BinaryLayout, default_places, load_cifar
from paretrim.data.digits import CLASSES, SHAPE, load_digits
from paretrim.data.download import Progress
from paretrim.data.image_folder import load_image_folder
from paretrim.data.spec import DataSpec
from paretrim.data.types import Augmentation, Dataset


def shape_of(spec: DataSpec) -> tuple[int, int, int] | None:
    """Channels, height, width of the images, without reading or downloading any; None if only reading them tells."""
    if spec.image_folder:
        return None if spec.image_size is None else (3, spec.image_size, spec.image_size)
    return SHAPE if spec.name == "digits" else (3, SIDE, SIDE)


def classes_of(spec: DataSpec) -> tuple[str, ...] | None:
    """Names of the classes, without reading or downloading anything; None for an ``imagefolder``."""
    if spec.image_folder:
        return None
    return CLASSES if spec.name == "digits" else _layout(spec).classes


def load(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """Read a data set, training and test images; settings that the spec leaves open take the data set's defaults.

    ``progress`` is called during a download, if one is needed. Give training the :func:`paretrim.data.split.split` of the
    result, which does not contain the test images.

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
        jitter=own.jitter if spec.jitter is None else spec.jitter,
    )
    return replace(data, augmentation=chosen, mean=spec.mean or data.mean, std=spec.std or data.std)


def _read(spec: DataSpec, progress: Progress | None) -> Dataset:
    if spec.name == "digits":
        return load_digits()
    if spec.image_folder:
        return load_image_folder(Path(spec.image_folder), size=spec.image_size, resize=spec.resize)
    return load_cifar(_layout(spec), default_places(spec.folder), progress=progress)


def _layout(spec: DataSpec) -> BinaryLayout:
    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[spec.name]
