"""From a recipe to what its run begins with; and the test data, which only judging may see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from paretrim.agreement import IMAGES, captured_network
from paretrim.data.batches import EvalBatches, calibration_images, train_batches, validation_batches
from paretrim.data.load import load
from paretrim.data.split import split
from paretrim.data.types import Dataset
from paretrim.errors import InvalidRecipe
from paretrim.graph.types import InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network import Network
from paretrim.pipeline import Start
from paretrim.recipe import Recipe, digest_of

VALIDATION_BATCH = 250


@dataclass(frozen=True, eq=False)
class TestSet:
    """Images nobody trains on, as deployed files take them (uint8 pixels or normalised float32 [N, C, H, W]), with labels [N].

    ``batches`` are the same images normalised, for the training framework.
    """

    __test__ = False  # not a test class, whatever its name says to a test runner

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    batches: EvalBatches


def start_from(recipe: Recipe, dataset: Dataset | None = None) -> tuple[Start, TestSet]:
    """Read the data, build and capture the network. ``dataset`` spares reading it again.

    Raises:
        ParetrimError: the data, network or weights are not what they should be; nothing has been trained yet.
    """
    dataset = dataset or load(recipe.data)
    if recipe.data.mean is not None and len(recipe.data.mean) != dataset.train.sample_shape[0]:
        raise InvalidRecipe(
            f"data.mean has {len(recipe.data.mean)} numbers and the images have {dataset.train.sample_shape[0]} channels"
        )
    splits = split(dataset, recipe.data)
    device = recipe.execution.torch_device()
    network = captured(recipe.model, dataset, seed=recipe.seed)
    count = min(recipe.calibration_images, len(splits.train))
    splits = replace(splits, train=splits.train.to(device))  # once, not for every stage
    start = Start(
        network=network,
        train=lambda size: train_batches(splits, batch_size=size, seed=recipe.seed, device=device),
        validation=validation_batches(splits, batch_size=VALIDATION_BATCH, device=device),
        calibration=calibration_images(splits, count, seed=recipe.seed),
        spec=InputSpec(dataset.train.sample_shape, dataset.mean, dataset.std),
        data_digest=digest_of({"content": dataset.digest, "spec": _preparation(recipe, dataset)}),
        images=len(splits.train),
        seed=recipe.seed,
        execution=recipe.execution,
    )
    test = EvalBatches(images=dataset.test, batch_size=VALIDATION_BATCH, mean=dataset.mean, std=dataset.std, device=device)
    return start, TestSet(dataset.test.images.numpy(), dataset.test.labels.numpy(), test)


def captured(spec: ModelSpec, dataset: Dataset, *, seed: int) -> Network:
    """The network of a recipe, initialised from its seed where it has no weights, ready for this data."""
    torch.manual_seed(seed)
    shape = dataset.train.sample_shape
    module = build(spec, classes=len(dataset.classes), channels=shape[0])
    few = dataset.train.select(torch.arange(min(IMAGES, len(dataset.train))))
    images = next(EvalBatches(images=few, batch_size=IMAGES, mean=dataset.mean, std=dataset.std).epoch(0)).inputs
    return captured_network(module, shape, classes=dataset.classes, images=images)


def _preparation(recipe: Recipe, dataset: Dataset) -> dict[str, object]:
    augmentation = dataset.augmentation
    return {
        "validation": recipe.data.validation,
        "split_seed": recipe.data.split_seed,
        "train_images": recipe.data.train_images,
        "mean": dataset.mean,
        "std": dataset.std,
        "augmentation": [augmentation.crop_padding, augmentation.flip, augmentation.cutout],
    }
