"""Networks with published weights, and images to calibrate and to judge them on; for ``post_training.py``, ``number_formats.py``.

``resnet20`` and ``resnet56`` need a folder of weights for CIFAR-10 images normalised with ImageNet's mean and deviation
(``cifar10_resnet20.safetensors``), the others the packages that ``imagenette.py`` and ``package_networks.py`` name.

- CIFAR-10: ``resnet20``, ``resnet56`` and ``keras-cnn``, on 10,000 test images.
- Imagenette: ``efficientnet-lite0`` to ``lite2`` on 500 images of ImageNet's validation set, among all 1,000 classes.
- Spoken digits: ``crepe-tiny`` and ``crepe-full``, whose pitches are compared with those in float32.
- Windows of Imagenette's images: MTCNN's ``p-net``, ``r-net`` and ``o-net``, whose faces are compared with those in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagenette
import numpy as np
import numpy.typing as npt
import torch
from package_networks import FACE_THRESHOLDS, crepe, face_network, keras_network, likely_faces, sounds
from torch import Tensor, nn

from paretrim.capture.agreement import captured_network
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.user_loader import loader_batches
from paretrim.graph.types import InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network.network import Network
from paretrim.train.execution import Execution, fast_batches
from paretrim.train.resources import Resources
from paretrim.train.task import CLASSIFICATION

EXECUTION = Execution(device="cpu", precision="float32")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIDUAL = ("resnet20", "resnet56")
FACES = {f"{name}-net": name for name in FACE_THRESHOLDS}
NAMES = (*RESIDUAL, "keras-cnn", *imagenette.SIDES, "crepe-tiny", "crepe-full", *FACES)

CLIPS = 30
"""Recordings of each part that are cut into sounds."""

SURE = 0.5
"""Confidence of CREPE in float32 from which a pitch is compared: below it most sounds have none."""

VALIDATION = 5000
"""The last training images of CIFAR-10, on which settings are chosen; the others calibrate."""

Inputs = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judged:
    """Images as deployed files take them, the same as the network takes them, and labels [N], if there are any."""

    inputs: Inputs
    normalised: Tensor
    labels: Numbers | None


@dataclass(frozen=True, eq=False)
class PublicNetwork:
    """A network in float32, the input of its files, and its data.

    ``pool`` holds normalised training images, from which calibration images are drawn; ``judged`` none of them. ``decide`` gives
    the decisions [N] of outputs [N, K], and ``counts`` says which images count, by their outputs in float32.
    """

    name: str
    data: str
    network: Network
    spec: InputSpec
    pool: Tensor
    judged: Judged
    decide: Callable[[Outputs], Numbers]
    counts: Callable[[Outputs], npt.NDArray[np.bool_]]

    def resources(self, images: int, draw: int) -> Resources:
        """What a stage without training needs; every draw is another choice of calibration images."""
        chosen = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(draw))[:images]
        one = [(self.pool[:1], torch.zeros(1, dtype=torch.int64))]  # nothing trains
        device = EXECUTION.torch_device()
        few = loader_batches(one, device=device, labels=CLASSIFICATION.batch_labels)
        return Resources(lambda _: few, few, self.pool[chosen], EXECUTION, draw)

    def outputs(self) -> Outputs:
        """Of the network in float32, [N, K]."""
        with torch.no_grad():
            parts = [self.network.outputs(part)[0] for part in fast_batches(self.network.eval(), self.judged.normalised)]
        return np.asarray(torch.cat(parts).numpy())


def public_network(name: str, *, weights: str, data: str, validation: bool = False) -> PublicNetwork:
    """The network of this name.

    Args:
        name: of :data:`NAMES`.
        weights: the folder of weights, for residual networks.
        data: the folder of CIFAR-10, the archive of images or the recordings.
        validation: judge on training images instead, which do not calibrate: to choose settings.
    """
    if name in imagenette.SIDES:
        return _on_images(name, Path(data), "train" if validation else "test")
    if name in FACES:
        return _on_faces(name, Path(data), "train" if validation else "test")
    return _on_sounds(name, Path(data), validation) if name.startswith("crepe") else _on_cifar(name, weights, data, validation)


def _largest(outputs: Outputs) -> Numbers:
    return np.asarray(outputs.argmax(1))


def _all(outputs: Outputs) -> npt.NDArray[np.bool_]:
    return np.ones(len(outputs), bool)


def _on_cifar(name: str, weights: str, folder: str, validation: bool) -> PublicNetwork:
    mean, deviation = ((0.0,) * 3, (1 / 255,) * 3) if name == "keras-cnn" else (MEAN, DEVIATION)
    data = load(DataSpec("cifar10", folder=folder, mean=mean, std=deviation))
    module = keras_network() if name == "keras-cnn" else _residual(name, Path(weights))
    spec = InputSpec((3, 32, 32), mean, deviation)

    def normalised(images: Tensor) -> Tensor:
        shift, spread = (torch.tensor(numbers).reshape(1, -1, 1, 1) for numbers in (mean, deviation))
        return (images.float() / 255 - shift) / spread

    train = data.train.images[:-VALIDATION]
    tried = data.train.select(torch.arange(len(train), len(data.train))) if validation else data.test
    judged = Judged(tried.images.numpy(), normalised(tried.images), tried.labels.numpy())
    network = captured_network(module, spec.shape, images=judged.normalised[:4])
    return PublicNetwork(name, "CIFAR-10", network, spec, normalised(train), judged, _largest, _all)


def _residual(name: str, folder: Path) -> nn.Module:
    return build(ModelSpec(name, weights=str(folder / f"cifar10_{name}.safetensors")), classes=10, channels=3).eval()


def _on_images(name: str, archive: Path, part: str) -> PublicNetwork:
    edge = imagenette.SIDES[name]
    pool, _ = imagenette.images(archive, "train", slice(imagenette.VALIDATION, None), edge)
    tried, labels = imagenette.images(archive, part, slice(imagenette.VALIDATION), edge)
    network = captured_network(imagenette.network(name, all_classes=True), tuple(tried.shape[1:]), images=tried[:4])
    judged = Judged(tried.numpy(), tried, np.array(imagenette.CLASSES)[labels.numpy()])
    return PublicNetwork(name, "Imagenette", network, InputSpec(tuple(tried.shape[1:])), pool, judged, _largest, _all)


def _on_faces(name: str, archive: Path, part: str) -> PublicNetwork:
    short = FACES[name]
    threshold = FACE_THRESHOLDS[short]
    pool, tried = (
        likely_faces(imagenette.images(archive, of, chosen)[0], short)
        for of, chosen in (("train", slice(imagenette.VALIDATION, None)), (part, slice(imagenette.VALIDATION)))
    )

    def faces(outputs: Outputs) -> Numbers:
        return np.asarray(outputs[:, 1] - outputs[:, 0] >= np.log(threshold / (1 - threshold))).astype(np.int64)

    network = captured_network(face_network(short), tuple(tried.shape[1:]), images=tried[:4])
    spec = InputSpec(tuple(tried.shape[1:]))
    return PublicNetwork(name, "windows of Imagenette", network, spec, pool, Judged(tried.numpy(), tried, None), faces, _all)


def _on_sounds(name: str, recordings: Path, validation: bool) -> PublicNetwork:
    train = sounds(recordings, test=False, clips=2 * CLIPS)
    half = len(train) // 2
    tried = train[half:] if validation else sounds(recordings, test=True, clips=CLIPS)
    network = captured_network(crepe(name.removeprefix("crepe-")), tuple(tried.shape[1:]), images=tried[:4])

    def sure(outputs: Outputs) -> npt.NDArray[np.bool_]:
        return np.asarray(outputs.max(1) >= np.log(SURE / (1 - SURE)))

    judged = Judged(tried.numpy(), tried, None)
    spec = InputSpec(tuple(tried.shape[1:]))
    return PublicNetwork(name, "spoken digits", network, spec, train[:half], judged, _largest, sure)
