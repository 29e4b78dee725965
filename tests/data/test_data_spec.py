import pytest
import torch
from pydantic import TypeAdapter

from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.types import Augmentation, Dataset, ImageSet
from paretrim.errors import DataUnavailable, InvalidRecipe, InvalidSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cifar-10"}, "no data set 'cifar-10'; did you mean 'cifar10'"),
        ({"name": "mnist"}, "no data set 'mnist'; .*'imagefolder:DIR'"),
        ({"name": "imagefolder:"}, "no data set 'imagefolder:'"),
        ({"name": "digits", "folder": "x"}, "folder 'x' does not apply to 'digits'"),
        ({"name": "cifar10", "image_size": 64}, "image_size 64 does not apply to 'cifar10'"),
        ({"name": "digits", "validation": 0.0}, r"validation is 0\.0; it must lie between 0 and 1"),
        ({"name": "digits", "validation": 1.0}, r"validation is 1\.0"),
        ({"name": "digits", "validation": float("nan")}, "validation is nan"),
        ({"name": "digits", "split_seed": -1}, "split_seed is -1; it must be 0 or more"),
        ({"name": "imagefolder:x", "image_size": 0}, "image_size is 0; it must be 1 or more"),
        ({"name": "imagefolder:x", "resize": 256}, "resize is 256 without image_size, the side that is cut out; give both"),
        ({"name": "imagefolder:x", "image_size": 8, "resize": 7}, "resize is 7; the short side must be image_size, 8, or more"),
        ({"name": "digits", "crop_padding": -1}, "crop_padding is -1"),
        ({"name": "digits", "jitter": 1.5}, "jitter is 1.5; brightness and contrast vary by a share from 0 to 1"),
        ({"name": "digits", "cutout": -2}, "cutout is -2"),
        ({"name": "digits", "mean": (0.5,)}, r"mean is \(0\.5,\) and std is None; give both or neither"),
        ({"name": "digits", "mean": (0.5,), "std": (0.5, 0.5)}, "mean has 1 numbers and std 2"),
        ({"name": "digits", "mean": (0.5,), "std": (0.0,)}, r"std is \(0\.0,\); every deviation must be above 0"),
        (
            {"name": "digits", "mean": (1e7,), "std": (1.0,)},
            r"mean is \(10000000\.0,\); every number must be finite, and at most",
        ),
        (
            {"name": "digits", "mean": (float("inf"),), "std": (1.0,)},
            r"DataSpec\.mean\.0 is inf: input should be a finite number",
        ),
    ],
)
def test_settings_that_break_a_rule_are_refused(settings, message):
    with pytest.raises(InvalidRecipe, match=message):
        DataSpec(**settings)


def test_unknown_settings_are_refused():
    with pytest.raises(InvalidSettings, match="there is no such key; did you mean 'validation'"):
        DataSpec("digits", vaildation=0.2)


@pytest.mark.parametrize(
    "settings", [{"flip": "yes"}, {"crop_padding": "4"}, {"cutout": True}, {"validation": "0.1"}, {"split_seed": 1.5}]
)
def test_values_of_another_type_are_refused_not_converted(settings):
    with pytest.raises(InvalidSettings, match="input should be a valid"):
        DataSpec("digits", **settings)


def test_lists_as_toml_gives_them_are_taken():
    assert DataSpec("digits", mean=[0], std=[1]) == DataSpec("digits", mean=(0.0,), std=(1.0,))


def test_spec_survives_json():
    adapter = TypeAdapter(DataSpec)
    spec = DataSpec("cifar10", folder="x", cutout=8, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert adapter.validate_json(adapter.dump_json(spec)) == spec


def test_normalisation_must_fit_the_channels():
    with pytest.raises(
        DataUnavailable, match=r"digits: 1 channels need as many means and deviations; given \(0\.5, 0\.5, 0\.5\)"
    ):
        load(DataSpec("digits", mean=(0.5,) * 3, std=(0.5,) * 3))


def images(count=2, *, label=0, side=4):
    return ImageSet(torch.zeros(count, 1, side, side, dtype=torch.uint8), torch.full((count,), label))


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (
            torch.zeros(2, 1, 4, 4),
            torch.zeros(2, dtype=torch.int64),
            r"images must be uint8 \[N, C, H, W\]; given are torch.float32",
        ),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"given are torch.uint8 \[2, 4, 4\]"),
        (
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
            torch.zeros(2),
            r"labels must be int64 \[2\].*given are torch.float32 \[2\]",
        ),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"given are torch.int64 \[3\]"),
    ],
)
def test_image_sets_are_checked(pixels, labels, message):
    with pytest.raises(DataUnavailable, match=message):
        ImageSet(pixels, labels)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (images(0), images(), "own: there are no training images"),
        (images(), images(0), "own: there are no test images"),
        (images(label=2), images(), r"own: training labels span 2\.\.2, but classes are numbered 0\.\.1"),
        (images(), images(label=-1), r"own: test labels span -1\.\.-1"),
        (images(), images(side=5), r"own: training images are \(1, 4, 4\), test images \(1, 5, 5\)"),
    ],
)
def test_data_sets_are_checked(train, test, message):
    with pytest.raises(DataUnavailable, match=message):
        Dataset("own", ("a", "b"), train, test, (0.0,), (1.0,), Augmentation(), "")
