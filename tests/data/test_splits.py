import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.split import balanced, shuffled, split, stratified
from paretrim.data.types import Augmentation, Dataset, ImageSet, Splits
from paretrim.errors import DataUnavailable


@pytest.fixture(scope="module")
def digits():
    return load(DataSpec("digits"))


def keys(images):
    return {(bytes(image.numpy().tobytes()), int(label)) for image, label in zip(images.images, images.labels, strict=True)}


def test_splits_cannot_reach_test_images(digits):
    assert not any("test" in field.name for field in dataclasses.fields(Splits))
    splits = split(digits, DataSpec("digits"))
    held_out = keys(digits.test)
    assert not held_out & keys(splits.train)
    assert not held_out & keys(splits.validation)
    tensors = (splits.train.images, splits.validation.images)
    assert digits.test.images.untyped_storage().data_ptr() not in {tensor.untyped_storage().data_ptr() for tensor in tensors}


def test_train_and_validation_are_the_training_images(digits):
    splits = split(digits, DataSpec("digits", validation=0.25))
    assert len(splits.train) + len(splits.validation) == len(digits.train)
    assert keys(splits.train) | keys(splits.validation) == keys(digits.train)
    everywhere, held = torch.bincount(digits.train.labels), torch.bincount(splits.validation.labels)
    assert held.tolist() == [round(0.25 * count) for count in everywhere.tolist()]


def test_the_seed_decides_the_split(digits):
    first, again, other = (split(digits, DataSpec("digits", split_seed=seed)).validation for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_order_is_pinned_for_ever():
    assert shuffled(8, seed=0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_stratified_leaves_every_class_on_both_sides(labels, fraction, seed):
    labels = np.array(labels)
    chosen = stratified(labels, fraction, seed=seed)
    assert len(set(chosen)) == len(chosen)
    for label in np.unique(labels):
        size, taken = int((labels == label).sum()), int((labels[chosen] == label).sum())
        assert taken < size
        assert taken >= min(1, size - 1)
        assert abs(taken - fraction * size) <= 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_balanced_takes_classes_in_turn(labels, data):
    labels = np.array(labels)
    count = data.draw(st.integers(1, len(labels)))
    chosen = balanced(labels, count, seed=1)
    assert len(set(chosen)) == count
    taken = np.bincount(labels[chosen], minlength=5)
    exhausted = taken == np.bincount(labels, minlength=5)
    assert all(taken[label] >= taken.max() - 1 for label in range(5) if not exhausted[label])


@pytest.mark.parametrize("count", [0, 4])
def test_balanced_refuses_more_than_there_are(count):
    with pytest.raises(DataUnavailable, match=f"{count} images were asked for, allowed are 1 to 3"):
        balanced(np.array([0, 1, 1]), count, seed=0)


def test_single_images_cannot_be_divided():
    single = ImageSet(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    data = Dataset("own", ("a", "b"), single, single, (0.0,), (1.0,), Augmentation(), "")
    with pytest.raises(DataUnavailable, match="own: no class has two training images"):
        split(data, DataSpec("digits"))
