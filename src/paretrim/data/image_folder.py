"""Your own images: ``DIR/train/CLASS/*.jpg`` and ``DIR/test/CLASS/*.jpg`` (or ``val`` if there is no ``test``).

Everything is decoded once into memory, as RGB, the short side resized to the wanted size (bilinear, antialiased) and the
centre cropped.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import psutil
import torch

from paretrim.data.types import Augmentation, Dataset, ImageSet, images_digest
from paretrim.errors import DataUnavailable, MissingDependency
from paretrim.visible import brief

SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of pictures that are read, whatever a file's name ends in. Pillow knows others that start a program, such as EPS."""

DEFAULT_SIZE = 224
"""Side to which images without a common size are brought."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Those of ImageNet, which pretrained networks for large images expect."""

TOLERATED = 0.01
"""Fraction of unreadable images above which a data set is refused."""

MOST_PIXELS = 2**26
"""Pixels of an image whose short side was resized, before its centre is cropped: a narrow strip may become gigabytes."""

DecodedImage = npt.NDArray[np.uint8]


_Sides = tuple[int, int]
"""Side of the square that is cropped, and the short side of the image that it is cropped from."""


@dataclass(frozen=True)
class _Listing:
    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def load_image_folder(folder: Path, *, size: int | None = None, resize: int | None = None) -> Dataset:
    """Read all images as uint8 [N, 3, size, size]. Classes are the sorted folder names of ``train``; other files are ignored.

    ``resize`` is the short side, ``size`` or more, from which the centre is cropped; by default it is ``size``.

    Without ``size``, images that are all squares of one size up to :data:`DEFAULT_SIZE` keep it; others get that size.

    If both ``test`` and ``val`` exist, ``test`` is the test set and ``val`` is not read: the validation images are taken
    from ``train`` as for any other data set.

    Raises:
        DataUnavailable: a folder is missing or empty, classes differ, more than 1 % of the images cannot be read, or they do
            not fit into memory.
        MissingDependency: Pillow is not installed.
    """
    pillow = _pillow()
    try:
        with warnings.catch_warnings():  # Pillow warns of images above a size, and refuses those of twice that size
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            return _loaded(pillow, folder, size, resize)
    except OSError as error:
        place = f"'{error.filename}': " if error.filename else ""
        raise DataUnavailable(f"'{folder}' cannot be read: {place}{error.strerror}; check its permissions") from error


def _loaded(pillow: ModuleType, folder: Path, size: int | None, resize: int | None) -> Dataset:
    if not folder.is_dir():
        raise DataUnavailable(f"there is no folder '{folder}'; give one that holds train/CLASS/ and test/CLASS/ (or val/CLASS/)")
    held_out = folder / "test" if (folder / "test").is_dir() else folder / "val"
    for needed, named in ((folder / "train", "'train'"), (held_out, "'test' or 'val'")):
        if not needed.is_dir():
            raise DataUnavailable(f"'{folder}' has no folder {named}; it needs train/CLASS/ and test/CLASS/ (or val/CLASS/)")
    classes = _classes(folder / "train")
    others = _classes(held_out)
    if others != classes:
        differing = ", ".join(sorted(set(classes) ^ set(others)))
        raise DataUnavailable(
            f"'{folder}': train and {held_out.name} have different classes: {differing}; every class needs both folders"
        )
    train, test = _listed(folder / "train", classes), _listed(held_out, classes)
    size = size or _own_size(pillow, (*train.paths, *test.paths))
    sides = size, resize or size
    _require_memory(folder, len(train.paths) + len(test.paths), size)
    train_images, broken_train = _read(pillow, folder, train, sides)
    test_images, broken_test = _read(pillow, folder, test, sides)
    digest = images_digest(classes, train_images, test_images)
    augmentation = Augmentation(crop_padding=size // 8, flip=True)
    broken = (*broken_train, *broken_test)
    name = f"imagefolder:{folder}"
    return Dataset(name, classes, train_images, test_images, MEAN, STD, augmentation, digest, broken, resize=sides[1])


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("reading image files needs Pillow; install it with: pip install 'paretrim[images]'") from error
    return Image


def _formats(pillow: ModuleType) -> tuple[str, ...]:
    """Those of :data:`FORMATS` that this Pillow was built with."""
    pillow.init()
    return tuple(name for name in FORMATS if name in pillow.OPEN)


def _classes(folder: Path) -> tuple[str, ...]:
    found = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    odd = next((name for name in found if not name.isprintable()), None)
    if odd is not None:
        raise DataUnavailable(
            f"class folder {brief(odd)} in '{folder}' has a name that is not UTF-8 or does not print; rename it, "
            "deployed files carry the names of the classes"
        )
    return found


def _listed(folder: Path, classes: tuple[str, ...]) -> _Listing:
    if len(classes) < 2:
        raise DataUnavailable(f"'{folder}' has {len(classes)} class folders; classification needs at least 2")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if _is_image(path, folder / name))
        if not found:
            raise DataUnavailable(
                f"class folder '{folder / name}' has no images ({', '.join(sorted(SUFFIXES))}); add some or remove it"
            )
        paths += found
        labels += [label] * len(found)
    return _Listing(tuple(paths), tuple(labels))


def _is_image(path: Path, folder: Path) -> bool:
    """Whether a file of a class folder counts as one of its images.

    Hidden files do not: macOS leaves one beside every image that it copies. A link to nothing does, and cannot be read: an image
    has been lost.
    """
    if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def _own_size(pillow: ModuleType, paths: Sequence[Path]) -> int:
    """The side that all images have in common, or the default; reading ends with the first image that differs."""
    common: int | None = None
    for path in paths:
        try:
            with pillow.open(path, formats=_formats(pillow)) as opened:
                width, height = opened.size
        except Exception:  # what Pillow raises for damaged files differs from format to format
            continue  # decoding it later reports what is wrong
        if width != height or width > DEFAULT_SIZE or common not in (None, width):
            return DEFAULT_SIZE
        common = width
    return common or DEFAULT_SIZE


def _require_memory(folder: Path, count: int, size: int) -> None:
    # Training copies its part of the whole, so for a moment the images exist twice.
    needed, available = 2 * count * 3 * size * size, psutil.virtual_memory().available
    if needed > available:
        raise DataUnavailable(
            f"'{folder}': {count:,} images of {size}x{size} need {needed / 1e9:.1f} GB of memory, "
            f"{available / 1e9:.1f} GB are available; "
            "choose a smaller image_size or fewer images"
        )


def _read(pillow: ModuleType, folder: Path, listing: _Listing, sides: _Sides) -> tuple[ImageSet, tuple[str, ...]]:
    """Decode every file; return the readable images and what was wrong with the others."""
    images = np.empty((len(listing.paths), 3, sides[0], sides[0]), np.uint8)

    def decode(index: int) -> str:
        path = listing.paths[index]
        try:
            images[index] = _decoded(pillow, path, sides)
        except Exception as error:  # what Pillow raises for damaged files differs from format to format
            return f"{path.relative_to(folder)}: {_reason(pillow, path, error)}"
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = list(pool.map(decode, range(len(listing.paths))))
    broken = tuple(failure for failure in failures if failure)
    if len(broken) > TOLERATED * len(failures):
        shown = "; ".join(broken[:5]) + (f"; and {len(broken) - 5} more" if len(broken) > 5 else "")
        raise DataUnavailable(
            f"'{folder}': {len(broken)} of {len(failures)} images cannot be read, at most 1 % may: {shown}; fix or remove them"
        )
    good = np.array([not failure for failure in failures])
    labels = np.array(listing.labels, np.int64)[good]
    return ImageSet(torch.from_numpy(images[good] if broken else images), torch.from_numpy(labels)), broken


def _reason(pillow: ModuleType, path: Path, error: Exception) -> str:
    """Why a file cannot be decoded, without its path once more."""
    if path.is_symlink() and not path.exists():
        return f"it is a link to nothing ('{path.readlink()}')"
    if isinstance(error, pillow.UnidentifiedImageError):
        return "it is empty" if path.stat().st_size == 0 else "it is no picture of a known format"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _decoded(pillow: ModuleType, path: Path, sides: _Sides) -> DecodedImage:
    from PIL import ImageOps

    with pillow.open(path, formats=_formats(pillow)) as opened:
        # A palette with transparency needs the detour through RGBA; Pillow warns about the direct way.
        upright = ImageOps.exif_transpose(opened)
        if upright.mode in ("I", "F"):
            raise ValueError(
                f"its pixels have Pillow's mode {upright.mode}, which does not say how bright white is; save it with 8 bits"
            )
        if upright.mode.startswith("I;16"):  # Pillow would clip everything above 255, which leaves a white picture
            upright = pillow.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        image = upright.convert("RGBA").convert("RGB") if "transparency" in upright.info else upright.convert("RGB")
        size, resize = sides
        if size == resize:
            image = ImageOps.fit(image, (size, size), pillow.Resampling.BILINEAR)
        else:  # whole numbers as torchvision's Resize and CenterCrop round them
            short = min(image.size)
            width, height = (resize * side // short for side in image.size)
            if width * height > MOST_PIXELS:
                raise ValueError(
                    f"it is {image.width}x{image.height}, and {width}x{height} with the short side resized to {resize}: more "
                    f"than {MOST_PIXELS:,} pixels"
                )
            left, top = round((width - size) / 2), round((height - size) / 2)
            image = image.resize((width, height), pillow.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(image, np.uint8).transpose(2, 0, 1)
