"""A user's own module and data loaders as the start of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from paretrim.capture.agreement import captured_network
from paretrim.data.batches import Batch, Batches
from paretrim.data.spec import MOST, check_normalisation
from paretrim.data.user_loader import Loader, loader_batches
from paretrim.digest import digest_of
from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.graph.interpreter import is_whole
from paretrim.graph.types import InputSpec
from paretrim.run.start import Start
from paretrim.torch_settings import alone, usual_settings
from paretrim.train.execution import Execution
from paretrim.train.task import CLASSIFICATION, Task
from paretrim.visible import brief

LONGEST_CLASS_NAME = 4096
"""Most bytes of a text in a ``.trim`` file."""


class LoaderOptions(TypedDict, total=False):
    """The keywords of :func:`start_from_loaders`, with the same defaults, for functions that pass them on."""

    seed: int
    execution: Execution | None
    calibration_images: int
    classes: Sequence[str]
    data_name: str
    mean: Sequence[float]
    std: Sequence[float]
    resize: int
    task: Task


@usual_settings()
def start_from_loaders(
    module: nn.Module,
    train_loader: Loader,
    validation_loader: Loader,
    *,
    seed: int = 0,
    execution: Execution | None = None,
    calibration_images: int = 512,
    classes: Sequence[str] = (),
    data_name: str = "",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    resize: int = 0,
    task: Task = CLASSIFICATION,
) -> Start:
    """What stages need, from a module and two loaders of (inputs float [N, C, H, W], labels [N, ...]); none of them changes.

    A training loader may also give the positions int64 [N] of its images, which losses with a memory bank need
    (:class:`paretrim.IndexedDataset`). The batch size is the loader's own: the ``batch_size`` of a budget is ignored. Inputs come
    normalised, so the deployed file takes the same float32 tensors that the module takes. Shuffling and the augmentation that
    draws from torch's random numbers repeat with the seed; draws from other generators in the main process do not.

    Args:
        module: returns logits [N, K], or what the task is learned from.
        train_loader: for training; its first images in the order of epoch 0 calibrate quantizers.
        validation_loader: images that training does not see.
        seed: feeds every random stream.
        execution: device and arithmetic; None chooses them for this machine.
        calibration_images: how many; fewer if the loader has fewer.
        classes: names of the K classes, kept in deployed files.
        data_name: a name for the training data; change it when the data change, so that results of other data are not reused.
            The whole validation set, the first training images and the lengths of both loaders are compared in any case;
            comparing all training images would cost an epoch of loading.
        mean: what the loaders subtract from pixel / 255, one number per channel. It is only written into candidates and files, so
            that ``paretrim eval`` and others can prepare images as the loaders do.
        std: what they then divide by, one number per channel.
        resize: short side in pixels to which the loaders resize an image (bilinear) before they crop its centre.
        task: what the network is for; by default classification: labels are integers [N], one class for each image.

    Raises:
        UnsupportedOperation: the module cannot be captured, or does not return logits [N, K] with K as many as there are names.
        DataUnavailable: a loader is empty or yields something other than described, or the two differ in the size of their
            images.
        InvalidRecipe: a number is out of range, or an option is of another type.
    """
    _require_options(seed, calibration_images, execution, task)
    seed, calibration_images = int(seed), int(calibration_images)  # NumPy's whole numbers are taken, too
    _require_names(classes)
    execution = execution or Execution()
    device = execution.torch_device()
    with alone(), torch.random.fork_rng([]):
        torch.manual_seed(seed)  # a loader without a generator of its own draws from this stream
        train = loader_batches(train_loader, device=device, seed=seed, labels=task.batch_labels)
        validation = loader_batches(validation_loader, device=device, seed=seed, labels=task.batch_labels)
        calibration, labels = _first(train, calibration_images)
        contents = [_content([(calibration, labels)]), _content(validation.epoch(0))]
    if train.sample_shape != validation.sample_shape:
        raise DataUnavailable(
            f"training images are {train.sample_shape} and validation images {validation.sample_shape}; they must be alike"
        )
    means, deviations = _normalisation(mean, std, train.sample_shape[0])
    _require_resize(resize, train.sample_shape)
    network = captured_network(module, train.sample_shape, classes=classes, images=calibration)
    task.check_labels(labels, network.structure.output_shapes, "the training loader has")
    return Start(
        network=network,
        train=lambda _size: train,
        validation=validation,
        calibration=calibration,
        spec=InputSpec(train.sample_shape),
        data_digest=digest_of({"name": data_name, "lengths": [len(train), len(validation)], "contents": contents}),
        images=None,
        positions=train.images,
        seed=seed,
        execution=execution,
        mean=means,
        std=deviations,
        resize=resize,
        calibration_labels=labels,
        task=task,
    )


def _require_options(seed: int, calibration_images: int, execution: Execution | None, task: Task) -> None:
    """Python checks no types, and names, which recipes and the command line take, are no objects."""
    if not is_whole(calibration_images) or calibration_images < 1:
        raise InvalidRecipe(f"calibration_images is {brief(calibration_images)}; quantizers need at least 1, a whole number")
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise InvalidRecipe(f"seed is {brief(seed)}; give a whole number from 0 to {2**32 - 1}")
    if execution is not None and not isinstance(execution, Execution):
        raise InvalidRecipe(f"execution is {brief(execution)}; give paretrim.Execution(device='cpu'), or leave it out")
    if isinstance(task, type) or not isinstance(task, Task):
        raise InvalidRecipe(f"task is {brief(task)}; give an object, such as paretrim.Classification() or paretrim.Regression()")


def _require_names(classes: Sequence[str]) -> None:
    """Names of another type would be refused only where they are read back, after all training."""
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise InvalidRecipe(
            f"classes is {brief(classes)}; give a list of texts, the name of each class in order, or leave it out"
        )
    for name in classes:
        size = len(name.encode(errors="surrogatepass"))
        if size > LONGEST_CLASS_NAME or any("\ud800" <= one <= "\udfff" for one in name):
            raise InvalidRecipe(
                f"the class name {brief(name)} cannot be kept in a file: give at most {LONGEST_CLASS_NAME:,} bytes of UTF-8 "
                "text, without lone surrogates"
            )
    odd = next((name for name in classes if not name.isprintable()), None)
    if odd is not None:
        raise InvalidRecipe(f"class name {brief(odd)} has a character that does not print, such as a line break; rename it")


def _normalisation(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std as plain numbers, both empty if neither is given."""
    try:
        means, deviations = (tuple(float(value) for value in values) for values in (mean, std))
    except (TypeError, ValueError, RuntimeError) as error:  # the last one from tensors
        raise InvalidRecipe(f"mean is {brief(mean)} and std is {brief(std)}; give a list of numbers, one per channel") from error
    if not means and not deviations:
        return (), ()
    check_normalisation(means, deviations)
    if len(means) != channels:
        raise InvalidRecipe(
            f"mean and std have {len(means)} numbers, but the images of the loaders have {channels} channels; give one per "
            "channel"
        )
    return means, deviations


def _require_resize(resize: int, shape: tuple[int, ...]) -> None:
    side = max(shape[1:])
    if resize != 0 and not (isinstance(resize, int) and side <= resize <= MOST):
        raise InvalidRecipe(
            f"resize is {brief(resize)} and the images of the loaders have a side of {side}; give the short side in pixels that "
            f"the loaders resize images to before they cut the centre out of them, a whole number from {side} to {MOST}"
        )


def _first(batches: Batches, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` inputs float32 [M, C, H, W] of epoch 0 and their labels [M, ...], on the CPU."""
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in batches.epoch(0):
        inputs.append(batch.inputs.cpu())
        labels.append(batch.labels.cpu())
        if sum(map(len, inputs)) >= count:
            break
    return torch.cat(inputs)[:count].contiguous(), torch.cat(labels)[:count]


def _content(batches: Iterable[tuple[Tensor, Tensor] | Batch]) -> str:
    """A digest of all images and labels."""
    digest = hashlib.sha256()
    for images, labels, *_ in batches:
        digest.update(repr(tuple(images.shape)).encode())
        digest.update(images.cpu().contiguous().numpy().data)
        digest.update(labels.cpu().contiguous().numpy().data)
    return digest.hexdigest()
