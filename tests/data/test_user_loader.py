import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from paretrim.data.user_loader import IndexedDataset, loader_batches
from paretrim.errors import DataUnavailable

DATA = TensorDataset(torch.rand(10, 3, 4, 5), torch.arange(10))


def test_loader_is_passed_on():
    source = loader_batches(DataLoader(DATA, batch_size=4))
    parts = list(source.epoch(0))
    assert (len(source), source.sample_shape) == (3, (3, 4, 5))
    assert torch.equal(torch.cat([part.inputs for part in parts]), DATA.tensors[0])
    assert torch.cat([part.labels for part in parts]).tolist() == list(range(10))
    assert all(part.indices is None for part in parts)
    assert parts[0].inputs.is_contiguous(memory_format=torch.channels_last)


def test_loader_with_a_generator_is_repeatable():
    def order(number, seed=1):
        source = loader_batches(DataLoader(DATA, batch_size=10, shuffle=True, generator=torch.Generator()), seed=seed)
        return next(source.epoch(number)).labels.tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=2)


def test_distributed_sampler_learns_the_epoch():
    sampler = DistributedSampler(DATA, num_replicas=2, rank=0)
    source = loader_batches(DataLoader(DATA, batch_size=5, sampler=sampler))
    next(source.epoch(7))
    assert sampler.epoch == 7


def test_half_precision_inputs_and_small_labels_are_widened():
    loader = DataLoader(TensorDataset(DATA.tensors[0].half(), DATA.tensors[1].to(torch.int32)), batch_size=4)
    part = next(loader_batches(loader).epoch(0))
    assert (part.inputs.dtype, part.labels.dtype) == (torch.float32, torch.int64)


def test_an_indexed_data_set_says_which_image_is_which():
    loader = DataLoader(IndexedDataset(DATA), batch_size=4, shuffle=True, generator=torch.Generator())
    source = loader_batches(loader)
    parts = list(source.epoch(0))
    assert source.images == len(IndexedDataset(DATA)) == 10
    for part in parts:
        assert part.indices.dtype == torch.int64
        assert torch.equal(part.indices, part.labels), "label and position are the same here"
    assert sorted(torch.cat([part.indices for part in parts]).tolist()) == list(range(10))
    assert loader_batches(DataLoader(DATA, batch_size=4)).images is None


class Triples(list):
    """A data set whose samples are no pairs."""


class Endless(IterableDataset):
    """A data set of a length that is not read by position."""

    def __iter__(self):
        yield DATA[0]

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    ("sample", "said"),
    [((1, 2, 3), "of type tuple of 3 parts"), ({"image": 1, "label": 2}, "of type dict; it must be a pair"), (7, "of type int;")],
)
def test_a_sample_that_is_no_pair_is_refused_by_name(sample, said):
    with pytest.raises(DataUnavailable, match=f"sample 1 of the data set in IndexedDataset is {said}"):
        IndexedDataset(Triples([(0, 0), sample]))[1]


@pytest.mark.parametrize("dataset", [Endless(), IndexedDataset(DATA), iter([1])])
def test_what_is_not_read_by_position_is_refused(dataset):
    with pytest.raises(
        DataUnavailable, match=r"IndexedDataset was given an object of type \w+; it needs a data set of a length whose"
    ):
        IndexedDataset(dataset)


def test_positions_are_those_of_a_data_set_and_in_every_batch():
    class Listed(list):
        """Batches without a data set."""

    batch = (torch.rand(2, 3, 4, 5), torch.arange(2), torch.arange(2))
    with pytest.raises(DataUnavailable, match="the loader gives positions of its images and has no data set of a length"):
        loader_batches(Listed([batch]))
    mixed = Listed([batch, batch[:2]])
    mixed.dataset = DATA
    with pytest.raises(
        DataUnavailable, match=r"batch 1 .* like the first batch, a triple of tensors \(inputs, labels, positions\)"
    ):
        list(loader_batches(mixed).epoch(0))


X, Y = DATA.tensors


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((X,), r"batch 0 of the loader is of type list; it must be a pair of tensors \(inputs, labels\)"),
        ((X, Y, Y, Y), "batch 0 of the loader is of type list"),
        (
            (X, Y, Y.float()),
            r"has positions torch.float32 \[4\]; they must be integers \[4\], the places of the images in the data",
        ),
        ((X, Y, Y > 3), r"has positions torch.bool \[4\]; they must be integers"),
        ((X, Y, Y[:, None]), r"has positions torch.int64 \[4, 1\]; they must be integers"),
        ((X, Y, Y - 1), r"has positions torch.int64 \[4\], from -1 to 2; they must be integers \[4\], the places .*, 0 to 9"),
        (((X * 255).to(torch.uint8), Y), r"batch 0 of the loader has inputs torch.uint8 \[4, 3, 4, 5\]"),
        ((X[:, 0], Y), r"has inputs torch.float32 \[4, 4, 5\]"),
        ((X, Y.float()), r"has labels torch.float32 \[4\]; they must be integers \[4\]"),
        ((X, Y > 3), "has labels torch.bool"),
        ((X, Y[:, None]), r"has labels torch.int64 \[4, 1\]"),
    ],
)
def test_other_batches_are_explained(tensors, message):
    with pytest.raises(DataUnavailable, match=message):
        loader_batches(DataLoader(TensorDataset(*tensors), batch_size=4))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            torch.zeros(len(Y), 4, 5, dtype=torch.long),
            r"labels torch.int64 \[4, 4, 5\]; .*as for segmentation or another task with a target",
        ),
        (torch.zeros(len(Y), 1, 4, 5), r"labels torch.float32 \[4, 1, 4, 5\]; .*as for segmentation"),
        (torch.zeros(len(Y)), "these are as for regression or binary classification with one output"),
        (torch.zeros(len(Y), 1), "these are as for regression"),
        (
            torch.zeros(len(Y), 6, dtype=torch.long),
            "several numbers for each image are as for multi-label classification, soft labels",
        ),
        (torch.zeros(len(Y), 6), "as for multi-label classification, soft labels or boxes"),
    ],
)
def test_other_tasks_are_told_what_is_supported(labels, message):
    with pytest.raises(DataUnavailable, match=message) as failed:
        loader_batches(DataLoader(TensorDataset(X, labels), batch_size=4))
    assert "one class for each image; give another task in task=: paretrim.Regression(), or your own" in str(failed.value)


@pytest.mark.parametrize(
    "target", [{"boxes": torch.zeros(2, 4), "labels": torch.zeros(2)}, [{"boxes": torch.zeros(2, 4)}], [torch.zeros(2, 5)]]
)
def test_detectors_are_told_too(target):
    loader = DataLoader([(X[0], target)] * 4, batch_size=2, collate_fn=lambda items: tuple(zip(*items, strict=True)))
    with pytest.raises(
        DataUnavailable, match=r"\(inputs, labels\), and holds tuple, tuple, as for object detection\. Without a task of your own"
    ):
        loader_batches(loader)


def test_loader_of_dictionaries_is_explained():
    with pytest.raises(DataUnavailable, match="batch 0 of the loader is of type dict"):
        loader_batches(DataLoader([{"x": 1}], batch_size=1))


def test_empty_loader_is_refused():
    with pytest.raises(DataUnavailable, match="the loader has no batches"):
        loader_batches(DataLoader(DATA, batch_size=11, drop_last=True))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(DATA)


def test_loader_without_length_is_refused():
    with pytest.raises(DataUnavailable, match="the loader has no length"):
        loader_batches(DataLoader(Stream(), batch_size=2))


class Claimed(Stream):
    def __len__(self):
        return 4


def test_loader_with_more_batches_than_its_length_is_refused():
    source = loader_batches(DataLoader(Claimed(), batch_size=1))
    with (
        pytest.warns(UserWarning, match="Length of IterableDataset"),
        pytest.raises(DataUnavailable, match="the loader gives more batches than its length, which is 4"),
    ):
        list(source.epoch(0))


class Once(Claimed):
    def __init__(self):
        self.rest = iter(list(DATA)[:4])

    def __iter__(self):
        return self.rest


def test_loader_that_is_used_up_is_refused():
    source = loader_batches(DataLoader(Once(), batch_size=1))
    list(source.epoch(0))
    with pytest.raises(DataUnavailable, match=r"no batches in epoch 2 and says it has 4; it must be possible to go through"):
        list(source.epoch(1))


def test_images_that_change_size_are_refused():
    mixed = [(torch.rand(3, 4, 5), 0), (torch.rand(3, 6, 6), 1)]
    source = loader_batches(DataLoader(mixed, batch_size=1))
    with pytest.raises(DataUnavailable, match=r"batch 1 of the loader has inputs \(3, 6, 6\), the first had \(3, 4, 5\)"):
        list(source.epoch(0))


def test_any_loader_that_begins_anew_will_do():
    batches = [(X[:6], Y[:6]), (X[6:], Y[6:])]
    source = loader_batches(batches)
    for epoch in range(2):
        assert torch.equal(torch.cat([part.labels for part in source.epoch(epoch)]), Y)


class Spent(list):
    """An iterator with a length, as some fast loaders are."""

    def __iter__(self):
        return self

    def __next__(self):
        return self.pop(0)


def test_loader_that_ends_for_good_is_refused():
    with pytest.raises(DataUnavailable, match=r"the loader is an iterator \(Spent\), which ends after one epoch"):
        loader_batches(Spent([(X, Y)]))
