"""The test images of ``eval`` and ``bench``, prepared for a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paretrim.cli.output import at_work
from paretrim.cli.reading import FileDescription
from paretrim.data.spec import FOLDER
from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.results.inside import Pixels
from paretrim.visible import brief, visible

FEW = 5
"""Classes that an error lists."""

NormalisedImages = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

FILE, KEPT, GIVEN, DEFAULT = "the file itself", "kept in the file", "from the command line", "the default of the data"
"""Where a normalisation comes from."""


@dataclass(frozen=True)
class Preparation:
    """How images were prepared; ``source`` is one of the texts above. Empty tuples: unknown.

    ``resize`` is the length that the short side was resized to before the centre crop, 0 if it was not resized.
    """

    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int = 0

    def in_words(self, data: str) -> str:
        """One sentence for people."""
        numbers = f" with {_numbers(self.mean, self.std)}" if self.std else ""
        sides = f"short sides were resized to {self.resize}; " if self.resize else ""
        return sides + self._normalised_in_words(data, numbers)

    def _normalised_in_words(self, data: str, numbers: str) -> str:
        if self.source == FILE:
            said = numbers or "; it does not store with which mean and std"
            return f"the file takes pixels and normalises them itself{said}"
        hint = "; the file does not store its own, so give --mean and --std if it was trained with others"
        which = f"{self.source} '{data}'{hint}" if self.source == DEFAULT else self.source
        return f"images were normalised{numbers}, {which}"


@dataclass(frozen=True, eq=False)
class TestImages:
    """Images in the form that a file takes, labels int64 [N], and how the images were prepared."""

    __test__ = False  # the name would make pytest collect it as a test class

    images: Pixels | NormalisedImages
    labels: Labels
    preparation: Preparation


def images_for(parsed: argparse.Namespace, file: Path, known: FileDescription, *, labelled: bool) -> TestImages:
    """The test images that the options name, prepared for a file; if ``labelled``, their classes must be the file's.

    Known mismatches are rejected before anything is downloaded or read.

    Raises:
        InvalidRecipe: --mean, --std, --image-size or --resize differ from the file's own.
        DataUnavailable: the data cannot be read, or have a different size or different classes from the file's.
    """
    from paretrim.data.load import classes_of, load, shape_of
    from paretrim.data.spec import DataSpec

    _require_no_contradiction(parsed, file, known)
    kept = not known.pixels and bool(known.std)
    mean, std = (known.mean, known.std) if kept else (parsed.mean, parsed.std)
    size, resize = parsed.image_size, parsed.resize
    if known.resize and parsed.data.startswith(FOLDER):
        size, resize = known.shape[-1], known.resize
    spec = DataSpec(parsed.data, folder=parsed.data_folder, image_size=size, mean=mean, std=std, resize=resize)
    _require_fit(file, known, parsed.data, shape_of(spec), classes_of(spec) if labelled else None)
    with at_work() as watcher:
        dataset = load(spec, progress=watcher.fetched)
        if dataset.broken:
            shown = ", ".join(map(visible, dataset.broken[:5]))
            several = len(dataset.broken) > 1
            left = f"image file{'s' * several} cannot be read and {'were' if several else 'was'} left out"
            watcher.note(f"note: {len(dataset.broken)} {left}: {shown}")
    _require_fit(file, known, parsed.data, dataset.test.sample_shape, dataset.classes if labelled else None)
    images: Pixels = dataset.test.images.numpy()
    labels: Labels = dataset.test.labels.numpy()
    if known.pixels:
        return TestImages(images, labels, Preparation(FILE, known.mean, known.std, dataset.resize))
    source = KEPT if kept else DEFAULT if parsed.mean is None else GIVEN
    return TestImages(
        _normalised(images, dataset.mean, dataset.std),
        labels,
        Preparation(source, dataset.mean, dataset.std, dataset.resize),
    )


def _normalised(pixels: Pixels, means: Sequence[float], deviations: Sequence[float]) -> NormalisedImages:
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (means, deviations))
    return ((pixels.astype(np.float32) / 255 - mean) / std).astype(np.float32)


def _require_no_contradiction(parsed: argparse.Namespace, file: Path, known: FileDescription) -> None:
    size = known.shape[-1]
    if known.resize and (parsed.image_size not in (None, size) or parsed.resize not in (None, known.resize)):
        raise InvalidRecipe(
            f"'{file}' was made for images resized to {known.resize} pixels on the short side and cropped to {size}; "
            "--image-size and --resize differ, so leave them out to use its own"
        )
    if (parsed.mean is None and parsed.std is None) or (known.std and (parsed.mean, parsed.std) == (known.mean, known.std)):
        return
    own = f" with {_numbers(known.mean, known.std)}" if known.std else ""
    if known.pixels:
        raise InvalidRecipe(f"'{file}' takes pixels and normalises them itself{own}; leave out --mean and --std")
    if known.std:
        raise InvalidRecipe(
            f"'{file}' was made for images normalised{own}; --mean and --std differ, so leave them out to use its own"
        )


def _numbers(mean: Sequence[float], std: Sequence[float]) -> str:
    means, deviations = (", ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return f"mean {means} and std {deviations}"


def _require_fit(
    file: Path, known: FileDescription, data: str, shape: tuple[int, ...] | None, classes: tuple[str, ...] | None
) -> None:
    """Reject data whose size or classes differ from those that the file was made for; None means unknown."""
    if shape is not None and not _fits(shape, known.shape):
        raise DataUnavailable(
            f"'{file}' takes images {known.shape}, but those of '{data}' are {shape}; name the data that it was made for"
            + (f", or resize its images with --image-size {known.shape[1]}" if data.startswith(FOLDER) else "")
        )
    if classes is not None and known.classes and known.classes != classes:
        raise DataUnavailable(
            f"'{file}' has {_few(known.classes)}, but '{data}' has {_few(classes)}{_first_difference(known.classes, classes)}; "
            "name data with the same classes in the same order: labels are positions in these lists"
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether every dimension is as expected; 0 matches any, as in ONNX files of other programs."""
    return len(shape) == len(wanted) and all(needed in (0, side) for side, needed in zip(shape, wanted, strict=True))


def _few(classes: Sequence[str]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:FEW])}{', ...' if len(classes) > FEW else ''})"


def _first_difference(own: Sequence[str], others: Sequence[str]) -> str:
    """The first class that differs, where both lists begin alike."""
    place = next((place for place, (one, other) in enumerate(zip(own, others, strict=False)) if one != other), 0)
    return f", and class {place} is {brief(own[place])} in one and {brief(others[place])} in the other" if place >= FEW else ""
