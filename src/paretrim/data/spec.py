"""Which data a recipe uses and how they are prepared."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Literal

from pydantic import StrictBool, StrictFloat, StrictInt

from paretrim.errors import InvalidRecipe
from paretrim.settings import settings
from paretrim.stored_fields import LATER
from paretrim.visible import brief

DATA_SETS = ("digits", "cifar10", "cifar100")
"""Data sets known by name; any other images come as ``imagefolder:DIR``."""

FOLDER = "imagefolder:"

MOST = 10**9
"""Above any sensible count or size."""

LARGEST_MEAN, LEAST_STD = 1e6, 1e-6
"""Normalised pixels within these bounds are finite in float32, and so are their squares."""


@settings()
class DataSpec:
    """Data and their preparation. A setting that is None takes the data set's default.

    Attributes:
        name: ``digits``, ``cifar10``, ``cifar100`` or ``imagefolder:DIR``.
        folder: where the CIFAR files are, or are downloaded to; None looks in $PARETRIM_DATA and then in the user's cache.
        validation: fraction of every class of the training images that is kept for validation.
        split_seed: which images those are.
        train_images: how many of the remaining images are trained on, every class in equal parts; None for all. For quick trials.
        image_size: side in pixels of the images of an ``imagefolder`` (default: their own if they all
            are squares of one size up to 224, else 224).
        crop_padding: training images are shifted by up to this many pixels (CIFAR 4, digits 1, folders 1/8 of the side).
        flip: training images are mirrored at random (CIFAR and folders yes, digits no). ``"alternating"`` mirrors each of them in
            every second epoch instead, which trains a little faster (Jordan 2024, arXiv 2404.00498, section 3.6).
        cutout: side of the square erased from each training image; 0 erases nothing (the default everywhere).
        mean: per-channel mean in units of pixel / 255 for normalisation; a pretrained network may want its own.
        std: per-channel deviation, in the same units.
        jitter: by how much brightness, contrast and saturation of training images vary, from 0 (nothing, the default everywhere)
            to 1.
        resize: short side in pixels that the images of an ``imagefolder`` are resized to before the central square of
            ``image_size`` is cropped (default: ``image_size``); training scripts for ImageNet often resize to 256 and crop 224.

    Raises:
        InvalidRecipe: a value is out of range or does not apply to this data set.
    """

    name: str
    folder: str | None = None
    validation: StrictFloat = 0.1
    split_seed: StrictInt = 0
    train_images: StrictInt | None = None
    image_size: StrictInt | None = None
    crop_padding: StrictInt | None = None
    flip: StrictBool | Literal["alternating"] | None = None
    cutout: StrictInt | None = None
    mean: tuple[StrictFloat, ...] | None = None
    std: tuple[StrictFloat, ...] | None = None
    resize: StrictInt | None = dataclasses.field(default=None, metadata=LATER)
    jitter: StrictFloat | None = dataclasses.field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        self._check_name()
        if self.folder is not None and self.name not in ("cifar10", "cifar100"):
            raise InvalidRecipe(
                f"folder {brief(self.folder)} does not apply to {brief(self.name)}; only CIFAR is looked for in a folder, so "
                "leave it out"
            )
        if self.image_size is not None and not self.image_folder:
            raise InvalidRecipe(
                f"image_size {self.image_size} does not apply to {brief(self.name)}; only an imagefolder is resized, so "
                "leave it out"
            )
        self._check_resize()
        if not 0 < self.validation < 1:
            raise InvalidRecipe(f"validation is {self.validation}; it must lie between 0 and 1, without the ends")
        for key, value, least in (
            ("split_seed", self.split_seed, 0),
            ("train_images", self.train_images, 1),
            ("image_size", self.image_size, 1),
            ("crop_padding", self.crop_padding, 0),
            ("cutout", self.cutout, 0),
        ):
            if value is not None and not least <= value <= MOST:
                raise InvalidRecipe(f"{key} is {value}; it must be {least} or more, and at most {MOST}")
        if self.jitter is not None and not 0 <= self.jitter <= 1:
            raise InvalidRecipe(f"jitter is {self.jitter}; brightness and contrast vary by a share from 0 to 1")
        if (self.mean is None) != (self.std is None):
            raise InvalidRecipe(f"mean is {self.mean} and std is {self.std}; give both or neither")
        if self.mean is not None and self.std is not None:
            check_normalisation(self.mean, self.std)

    @property
    def image_folder(self) -> str:
        """The folder of an ``imagefolder:DIR``, or an empty string."""
        return self.name.removeprefix(FOLDER) if self.name.startswith(FOLDER) else ""

    def _check_resize(self) -> None:
        if self.resize is None:
            return
        if self.image_size is None:
            raise InvalidRecipe(f"resize is {self.resize} without image_size, the side that is cut out; give both, or image_size")
        if not self.image_size <= self.resize <= MOST:
            raise InvalidRecipe(
                f"resize is {self.resize}; the short side must be image_size, {self.image_size}, or more, and at most {MOST}"
            )

    def _check_name(self) -> None:
        if self.name in DATA_SETS or self.image_folder:
            return
        near = difflib.get_close_matches(self.name, DATA_SETS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(DATA_SETS)}."
        raise InvalidRecipe(f"there is no data set {brief(self.name)}; {hint} For your own images write 'imagefolder:DIR'")


def check_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Check that images can be normalised with these numbers, one per channel in units of pixel / 255.

    Raises:
        InvalidRecipe: they differ in number, or one is out of range.
    """
    if len(mean) != len(std):
        raise InvalidRecipe(f"mean has {len(mean)} numbers and std {len(std)}; both need one per channel")
    if not all(abs(value) <= LARGEST_MEAN for value in mean):
        raise InvalidRecipe(f"mean is {mean}; every number must be finite, and at most {LARGEST_MEAN:g} in size")
    if not all(LEAST_STD <= value <= 1 / LEAST_STD for value in std):
        raise InvalidRecipe(f"std is {std}; every deviation must be above 0 and finite, from {LEAST_STD:g} to {1 / LEAST_STD:g}")
    if min(mean) > 1 and min(std) > 1:  # every normalised pixel would be below 0
        raise InvalidRecipe(
            f"mean {mean} and std {std} seem to be in units of pixels from 0 to 255; "
            "they are in units of pixel / 255, so divide them by 255"
        )
