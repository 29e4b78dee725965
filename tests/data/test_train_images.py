"""Training on a part of the images."""

import pytest
import torch

from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.split import split
from paretrim.errors import DataUnavailable


def test_train_images_limits_training_alone_and_keeps_classes_equal() -> None:
    dataset = load(DataSpec("digits"))
    whole = split(dataset, DataSpec("digits"))
    few = split(dataset, DataSpec("digits", train_images=100))
    assert torch.bincount(few.train.labels).tolist() == [10] * 10
    assert torch.equal(few.validation.images, whole.validation.images)


def test_more_training_images_than_there_are() -> None:
    with pytest.raises(DataUnavailable, match="5000 images were asked for"):
        split(load(DataSpec("digits")), DataSpec("digits", train_images=5000))
