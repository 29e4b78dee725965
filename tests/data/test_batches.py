import numpy as np
import pytest
import torch
from torch.nn import functional

from paretrim.data import augment
from paretrim.data.augment import crop_and_flip, cut_out, normalisation_table, normalise, toned
from paretrim.data.batches import EvalBatches, TrainBatches, calibration_set, train_batches, validation_batches
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.split import split
from paretrim.data.types import ImageSet
from paretrim.errors import DataUnavailable, InvalidRecipe

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def images(count=10, channels=3, height=6, width=7):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(count) % 3)


def batches(**settings):
    return TrainBatches(**({"images": images(), "batch_size": 4, "mean": MEAN, "std": STD} | settings))


def joined(source, number):
    """Inputs and labels of an epoch in the order of the images."""
    parts = list(source.epoch(number))
    order = torch.cat([part.indices for part in parts]).argsort()
    return torch.cat([part.inputs for part in parts])[order], torch.cat([part.labels for part in parts])[order]


def test_every_image_comes_once_with_its_label():
    source = batches()
    parts = list(source.epoch(0))
    assert [len(part.labels) for part in parts] == [4, 4, 2]
    assert len(source) == 3
    assert sorted(torch.cat([part.indices for part in parts]).tolist()) == list(range(10))
    for part in parts:
        assert torch.equal(part.labels, source.images.labels[part.indices])
        assert torch.equal(part.inputs, normalise(source.images.images[part.indices], normalisation_table(MEAN, STD)))


def test_last_batch_can_be_dropped():
    source = batches(drop_last=True)
    assert [len(part.labels) for part in source.epoch(0)] == [4, 4]
    assert len(source) == 2


def test_inputs_are_float32_channels_last():
    part = next(batches(crop_padding=1, flip=True, cutout=2).epoch(0))
    assert part.inputs.dtype == torch.float32
    assert part.inputs.is_contiguous(memory_format=torch.channels_last)
    assert part.labels.dtype == part.indices.dtype == torch.int64
    assert batches().sample_shape == tuple(part.inputs.shape[1:]) == (3, 6, 7)


def test_an_epoch_is_a_function_of_seed_and_number():
    settings = {"crop_padding": 2, "flip": True, "cutout": 3}
    first, again = list(batches(seed=5, **settings).epoch(3)), list(batches(seed=5, **settings).epoch(3))
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    for other in (batches(seed=5, **settings).epoch(4), batches(seed=6, **settings).epoch(3)):
        assert not torch.equal(first[0].indices, next(other).indices)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_epoch_is_the_same_on_a_gpu():
    settings = {"crop_padding": 2, "flip": True, "cutout": 3, "seed": 5}
    for here, there in zip(batches(**settings).epoch(3), batches(device="cuda", **settings).epoch(3), strict=True):
        assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


def test_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (it is this global state that must not matter)
    before = torch.get_rng_state()
    first = next(batches(crop_padding=2).epoch(0))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first.inputs, next(batches(crop_padding=2).epoch(0)).inputs)


def test_augmentation_of_an_image_does_not_depend_on_the_batch_size():
    settings = {"crop_padding": 2, "flip": True, "cutout": 3}
    small, large = joined(batches(batch_size=3, **settings), 1), joined(batches(batch_size=10, **settings), 1)
    assert torch.equal(small[0], large[0])


def test_switching_flip_on_leaves_order_and_shifts_as_they_were():
    plain, flipped = joined(batches(crop_padding=2), 0)[0], joined(batches(crop_padding=2, flip=True), 0)[0]
    same = [torch.equal(a, b) for a, b in zip(plain, flipped, strict=True)]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain, flipped, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_alternating_flips_show_an_image_both_ways_in_any_two_epochs_in_a_row():
    training = batches(flip="alternating")

    def mirrored(number):
        drawn = {}
        for batch in training.epoch(number):
            plain = batches().images.images[batch.indices]
            table = normalisation_table(training.mean, training.std)
            for index, found, kept in zip(batch.indices.tolist(), batch.inputs, plain, strict=True):
                ways = [torch.equal(found, normalise(way[None], table)[0]) for way in (kept, kept.flip(2))]
                assert sum(ways) == 1
                drawn[index] = ways[1]
        return [drawn[index] for index in range(len(drawn))]

    first, second, third = (mirrored(number) for number in range(3))
    assert [not one for one in first] == second
    assert first == third
    assert len(set(first)) == 2


def test_crop_is_reflection_padding_and_slicing():
    source = images(25).images
    shift = torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3))
    mirrored = torch.arange(25) % 2 == 0
    padded = functional.pad(source.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    for index, out in enumerate(crop_and_flip(source, shift, mirrored)):
        down, right = (2 + shift[index]).tolist()
        expected = padded[index, :, down : down + 6, right : right + 7]
        assert torch.equal(out, expected.flip(2) if mirrored[index] else expected)


def test_shifts_are_uniform_and_half_is_mirrored():
    ramp = torch.arange(49, dtype=torch.uint8).reshape(1, 1, 7, 7).repeat(4000, 1, 1, 1)
    source = ImageSet(ramp, torch.zeros(4000, dtype=torch.int64))
    inputs = next(
        TrainBatches(images=source, batch_size=4000, mean=(0.0,), std=(1 / 255,), crop_padding=1, flip=True).epoch(0)
    ).inputs
    centre = inputs[:, 0, 3, 3].round().long()
    counts = torch.bincount(centre, minlength=49)
    assert sorted(counts.nonzero().flatten().tolist()) == [16, 17, 18, 23, 24, 25, 30, 31, 32]
    assert all(abs(counts[place] - 4000 / 9) < 5 * (4000 / 9) ** 0.5 for place in (16, 24, 32))
    mirrored = (inputs[:, 0, 3, 2] > inputs[:, 0, 3, 4]).float().mean().item()
    assert abs(mirrored - 0.5) < 0.05


@pytest.mark.parametrize(
    ("hole", "side", "area"), [((3, 3), 3, 9), ((3, 3), 2, 4), ((0, 0), 3, 4), ((5, 6), 4, 9), ((2, 2), 50, 42)]
)
def test_cutout_erases_a_square_clipped_at_the_border(hole, side, area):
    out = cut_out(torch.ones(1, 2, 6, 7), torch.tensor([hole]), side)
    assert (out == 0).sum() == 2 * area
    assert out[0, 0, hole[0], hole[1]] == 0


def test_normalisation_is_one_rounding_of_the_exact_value():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    exact = (np.arange(256, dtype=np.float64) / 255 - np.array(MEAN)[:, None]) / np.array(STD)[:, None]
    assert np.array_equal(normalise(pixels, normalisation_table(MEAN, STD)).reshape(3, 256).numpy(), exact.astype(np.float32))


def test_large_images_are_normalised_in_parts_to_the_same_numbers(monkeypatch):
    pixels = torch.randint(0, 256, (7, 3, 10, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = normalisation_table(MEAN, STD)
    found = normalise(pixels, table)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        assert torch.equal(found[:, channel], table[channel][pixels[:, channel].long()])
    for most in (1, 2 * 3 * 10 * 12, 10**9):
        monkeypatch.setattr(augment, "_LOOKED_UP", most)
        assert torch.equal(normalise(pixels, table), found)
    assert normalise(pixels[:0], table).shape == (0, 3, 10, 12)


def test_evaluation_keeps_order_and_pixels():
    source = EvalBatches(images=images(), batch_size=4, mean=MEAN, std=STD)
    parts = list(source.epoch())
    assert len(source) == len(parts) == 3
    assert torch.cat([part.indices for part in parts]).tolist() == list(range(10))
    assert torch.equal(torch.cat([part.inputs for part in parts]), normalise(images().images, normalisation_table(MEAN, STD)))
    assert torch.equal(next(source.epoch(9)).inputs, parts[0].inputs)
    assert source.sample_shape == (3, 6, 7)


def test_batches_of_a_data_set():
    data = load(DataSpec("digits", cutout=3))
    splits = split(data, DataSpec("digits"))
    training = train_batches(splits, batch_size=32, seed=4, device="cpu", drop_last=True)
    assert (training.crop_padding, training.flip, training.cutout, training.seed) == (1, False, 3, 4)
    assert len(training) == len(splits.train) // 32
    held = validation_batches(splits, batch_size=100, device="cpu")
    assert sum(len(part.labels) for part in held.epoch(0)) == len(splits.validation)


def test_calibration_images_are_plain_balanced_training_images():
    splits = split(load(DataSpec("digits")), DataSpec("digits"))
    chosen, labels = calibration_set(splits, 20, seed=3)
    assert chosen.shape == (20, 1, 8, 8)
    everything = normalise(splits.train.images, normalisation_table(splits.mean, splits.std))
    found = [(everything == image).flatten(1).all(1).nonzero()[0].item() for image in chosen]
    assert torch.equal(splits.train.labels[found], labels)
    assert torch.bincount(labels).tolist() == [2] * 10
    assert torch.equal(chosen, calibration_set(splits, 20, seed=3)[0])
    assert not torch.equal(chosen, calibration_set(splits, 20, seed=4)[0])


def test_more_calibration_images_than_there_are():
    splits = split(load(DataSpec("digits")), DataSpec("digits"))
    with pytest.raises(DataUnavailable, match="5000 images were asked for, allowed are 1 to 12"):
        calibration_set(splits, 5000, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"images": images(0)}, "there are no images to make batches of"),
        ({"mean": (0.5,)}, r"3 channels need as many means and deviations; given \(0\.5,\)"),
        ({"crop_padding": 6}, "crop_padding is 6; images of 6x7 allow 0 to 5"),
        ({"crop_padding": -1}, "crop_padding is -1"),
        ({"cutout": -1}, "cutout is -1"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"batch_size": 11, "drop_last": True}, "batch_size 11 with drop_last leaves no batch of 10 images"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InvalidRecipe, match=message):
        batches(**settings)


def test_jitter_scales_pixels_contrast_and_colour():
    pixels = torch.tensor([[[[10, 90]], [[20, 100]], [[30, 110]]]], dtype=torch.uint8)  # one image of 1x2 pixels
    tone = torch.tensor([[0.5, 0.0, 0.0]])
    assert toned(pixels, tone, 0.4).flatten().tolist() == [12, 108, 24, 120, 36, 132]  # brightness times 1.2
    assert toned(pixels, torch.zeros(1, 3), 0.4).equal(pixels)
    assert toned(pixels, torch.tensor([[0.0, -1.0, 0.0]]), 1.0).unique().tolist() == [60]  # no contrast: the mean of the image
    grey = toned(pixels, torch.tensor([[0.0, 0.0, -1.0]]), 1.0)  # no saturation: 0.299 R + 0.587 G + 0.114 B
    assert grey.flatten().tolist() == [18, 98] * 3
    assert toned(pixels[:, :1], torch.tensor([[1.0, 1.0, 1.0]]), 1.0).flatten().tolist() == [
        0,
        255,
    ]  # clipped; grey has no colour


def test_jitter_changes_nothing_else_and_is_refused_out_of_range():
    plain, varied = (next(iter(batches(jitter=jitter).epoch(3))) for jitter in (0.0, 0.3))
    assert torch.equal(plain.indices, varied.indices)
    assert not torch.equal(plain.inputs, varied.inputs)
    with pytest.raises(InvalidRecipe, match=r"jitter is 1\.5; brightness and contrast vary by a share from 0 to 1"):
        batches(jitter=1.5)
