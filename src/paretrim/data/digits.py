"""The handwritten digits that come with the package: 1,797 images of 8x8 pixels, ten classes, nothing to download.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(https://doi.org/10.24432/C50P49, CC BY 4.0): its test part, as in scikit-learn's ``load_digits``.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch

from paretrim.data.split import balanced
from paretrim.data.types import Augmentation, Dataset, ImageSet, images_digest

CLASSES = tuple("0123456789")
SHAPE = (1, 8, 8)
MEAN, STD = (0.3053,), (0.3758,)
TEST_IMAGES = 360
AUGMENTATION = Augmentation(crop_padding=1)
"""A digit shifted by a pixel is the same digit; a mirrored one is not."""


def load_digits() -> Dataset:
    """All digits as uint8 [N, 1, 8, 8], the published values 0..16 spread over 0..255.

    The test set is 36 fixed images of each class.
    """
    with resources.files("paretrim.data").joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        images = torch.from_numpy(np.rint(stored["images"].astype(np.float64) * (255 / 16)).astype(np.uint8))
        labels = stored["labels"].astype(np.int64)
    chosen = np.sort(balanced(labels, TEST_IMAGES, seed=0))
    everything = ImageSet(images, torch.from_numpy(labels))
    train = everything.select(torch.from_numpy(np.setdiff1d(np.arange(len(labels)), chosen)))
    test = everything.select(torch.from_numpy(chosen))
    digest = images_digest(CLASSES, train, test)
    return Dataset("digits", CLASSES, train, test, MEAN, STD, AUGMENTATION, digest)
