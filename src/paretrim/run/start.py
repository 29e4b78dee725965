"""From a recipe to the start of its run, and the test data, which only judging may see."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.capture.agreement import IMAGES, captured_network
from paretrim.data.batches import Batches, EvalBatches, calibration_set, train_batches, validation_batches
from paretrim.data.load import load
from paretrim.data.split import split
from paretrim.data.types import Dataset
from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe
from paretrim.graph.structure import structure_of
from paretrim.graph.types import InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network.network import Network
from paretrim.own_code import sources_in
from paretrim.run.recipe import Recipe
from paretrim.torch_settings import usual_settings
from paretrim.train.checkpoint import content_digest
from paretrim.train.evaluate import predictions, worth
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources, Teacher
from paretrim.train.task import CLASSIFICATION, Task
from paretrim.train.tasks import outputs_for, task_named

VALIDATION_BATCH = 250

NOBODY: Mapping[str, Teacher] = MappingProxyType({})
"""No named teachers."""


@dataclass(frozen=True, eq=False)
class Start:
    """What every run begins with: the captured network and the data that training may see.

    ``train`` makes batches of a given size; ``images`` counts the training images if batches carry positions (teacher logits are
    then stored), else it is None. ``spec`` is what deployed files take; ``data_digest`` identifies the data and their
    preparation. ``mean`` and ``std`` are what the images were normalised with if ``spec`` does not say, ``resize`` is the short
    side they were resized to before their centre was cropped, 0 if that is not known; all three are only recorded. ``positions``
    counts the training images of a user's loader that says which image is which; outputs of a teacher are not stored then, since
    the images of an epoch may differ from run to run. ``early`` returns its network as it was after a number of epochs, None if
    it was not trained here. :func:`paretrim.run.own.start_from_loaders` makes one of a user's loaders.
    """

    network: Network
    train: Callable[[int], Batches]
    validation: Batches
    calibration: Tensor
    spec: InputSpec
    data_digest: str
    images: int | None
    seed: int = 0
    execution: Execution = field(default_factory=Execution)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int = 0
    calibration_labels: Tensor | None = None
    task: Task = CLASSIFICATION
    early: Callable[[int], Network] | None = None
    positions: int | None = None

    @cached_property
    def validated(self) -> tuple[Tensor, Tensor]:
        """The network's decisions and the labels of the validation images, [N, ...] each; computed once."""
        return predictions(self.network, self.validation.epoch(0), self.execution.torch_device(), task=self.task)

    @property
    def value(self) -> float:
        """The task's metric of its network on the validation images."""
        return worth(self.task, *self.validated)

    @property
    def classes(self) -> int:
        """How many numbers its network returns for an image: for a classifier, the logits."""
        return sum(map(math.prod, self.network.structure.output_shapes))

    @property
    def guessed_among(self) -> int | None:
        """Number of classes among which an untrained network would guess; None in other tasks."""
        return self.classes if self.task == CLASSIFICATION else None

    def key(self) -> str:
        """What the outcome depends on before any stage."""
        return digest_of(
            {
                "network": content_of(self.network),
                "data": self.data_digest,
                "calibration": len(self.calibration),
                "seed": self.seed,
                "bfloat16": self.execution.bfloat16(),
            }
            | ({} if self.task == CLASSIFICATION else {"task": self.task.name, **sources_in(self.task)})
        )

    def resources(self, teacher: Teacher | None, teachers: Mapping[str, Teacher] = NOBODY) -> Resources:
        """The resources of its stages."""
        return Resources(
            train=self.train,
            validation=self.validation,
            calibration=self.calibration,
            execution=self.execution,
            seed=self.seed,
            teacher=teacher,
            calibration_labels=self.calibration_labels,
            images=self.positions if self.images is None else self.images,
            task=self.task,
            early=self.early,
            teachers=teachers,
        )


@dataclass(frozen=True, eq=False)
class TestSet:
    """Test images as deployed files take them (uint8 pixels or normalised float32 [N, C, H, W]), with labels [N].

    ``batches`` are the same images normalised, for the training framework.
    """

    __test__ = False  # not a test class, whatever its name says to a test runner

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    batches: EvalBatches


@usual_settings()
def start_from(recipe: Recipe, dataset: Dataset | None = None) -> tuple[Start, TestSet]:
    """Read the data, build and capture the network. A ``dataset`` that was already read is used as it is.

    Raises:
        ParetrimError: the data, network or weights are not what they should be; nothing has been trained yet.
    """
    dataset = dataset or load(recipe.data)
    if recipe.data.mean is not None and len(recipe.data.mean) != dataset.train.sample_shape[0]:
        raise InvalidRecipe(
            f"data.mean has {len(recipe.data.mean)} numbers, but the images have {dataset.train.sample_shape[0]} channels; "
            "give one per channel"
        )
    splits = split(dataset, recipe.data)
    device = recipe.execution.torch_device()
    task = task_named(recipe.task)
    network = captured(recipe.model, dataset, seed=recipe.seed, task=task)
    count = min(recipe.calibration_images, len(splits.train))
    splits = replace(splits, train=splits.train.to(device))  # once, not for every stage
    calibration, labels = calibration_set(splits, count, seed=recipe.seed)
    start = Start(
        network=network,
        train=lambda size: train_batches(splits, batch_size=size, seed=recipe.seed, device=device),
        validation=validation_batches(splits, batch_size=VALIDATION_BATCH, device=device),
        calibration=calibration,
        spec=InputSpec(dataset.train.sample_shape, dataset.mean, dataset.std),
        data_digest=digest_of({"content": dataset.digest, "spec": _preparation(recipe, dataset)}),
        images=len(splits.train),
        seed=recipe.seed,
        execution=recipe.execution,
        resize=dataset.resize,
        calibration_labels=labels,
        task=task,
    )
    test = EvalBatches(images=dataset.test, batch_size=VALIDATION_BATCH, mean=dataset.mean, std=dataset.std, device=device)
    return start, TestSet(dataset.test.images.numpy(), dataset.test.labels.numpy(), test)


def captured(spec: ModelSpec, dataset: Dataset, *, seed: int, task: Task = CLASSIFICATION) -> Network:
    """The network of a recipe, initialised from its seed if it has no weights, ready for this data."""
    torch.manual_seed(seed)
    shape = dataset.train.sample_shape
    module = build(spec, classes=outputs_for(task, len(dataset.classes)), channels=shape[0])
    few = dataset.train.select(torch.arange(min(IMAGES, len(dataset.train))))
    images = next(EvalBatches(images=few, batch_size=IMAGES, mean=dataset.mean, std=dataset.std).epoch(0)).inputs
    return captured_network(module, shape, classes=dataset.classes if task == CLASSIFICATION else (), images=images)


def _preparation(recipe: Recipe, dataset: Dataset) -> dict[str, object]:
    augmentation = dataset.augmentation
    jitter: dict[str, object] = {"jitter": augmentation.jitter} if augmentation.jitter else {}  # added later
    return jitter | {
        "validation": recipe.data.validation,
        "split_seed": recipe.data.split_seed,
        "train_images": recipe.data.train_images,
        "mean": dataset.mean,
        "std": dataset.std,
        "augmentation": [augmentation.crop_padding, augmentation.flip, augmentation.cutout],
    }


def content_of(network: Network) -> str:
    """A digest of structure, weights and constraints; two networks that compute or train differently have different ones.

    Names of outputs affect neither.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return content_digest(tensors, json.dumps(structure_of(replace(network.structure, output_names=())), sort_keys=True))
