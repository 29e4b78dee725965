import numpy as np
import torch

from paretrim.data.load import classes_of, load, shape_of
from paretrim.data.spec import DataSpec


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    published = load_digits()
    data = load(DataSpec("digits"))
    theirs = np.rint(published.images * 255 / 16).astype(np.uint8)
    ours = torch.cat([data.train.images, data.test.images])[:, 0].numpy()
    labels = torch.cat([data.train.labels, data.test.labels]).numpy()

    def rows(images, numbers):
        flat = np.concatenate([images.reshape(len(images), -1), numbers[:, None]], axis=1)
        return flat[np.lexsort(flat.T)]

    assert np.array_equal(rows(ours, labels), rows(theirs, published.target))


def test_digits_test_set_is_balanced_and_fixed():
    data = load(DataSpec("digits"))
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert torch.bincount(data.test.labels).tolist() == [36] * 10
    assert data.digest == "32d63f286012cb447c33d73b4c07303e9fdbf894b2da65a420d94bde8406861d"


def test_digits_normalisation_is_that_of_the_training_images():
    data = load(DataSpec("digits"))
    pixels = data.train.images.double() / 255
    assert abs(pixels.mean().item() - data.mean[0]) < 1e-4
    assert abs(pixels.std().item() - data.std[0]) < 1e-4


def test_digits_are_not_mirrored():
    augmentation = load(DataSpec("digits")).augmentation
    assert (augmentation.crop_padding, augmentation.flip, augmentation.cutout) == (1, False, 0)


def test_spec_overrides_the_data_sets_own():
    data = load(DataSpec("digits", crop_padding=0, flip=True, cutout=2, mean=(0.5,), std=(0.25,)))
    assert (data.augmentation.crop_padding, data.augmentation.flip, data.augmentation.cutout) == (0, True, 2)
    assert (data.mean, data.std) == ((0.5,), (0.25,))


def test_what_is_said_of_digits_without_reading_them():
    spec = DataSpec("digits")
    data = load(spec)
    assert (shape_of(spec), classes_of(spec)) == (data.test.sample_shape, data.classes)
