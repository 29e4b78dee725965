"""The inputs of a peer as files: the trained network as ONNX and as safetensors, and calibration images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from paretrim.data.types import ImageSet

CALIBRATION_IMAGES = 512
MODEL, WEIGHTS, CALIBRATION = "model.onnx", "model.safetensors", "calibration.npz"


def hand_over(network: nn.Module, images: Tensor, labels: Tensor, folder: Path) -> None:
    """Write the network and its calibration images, float32 [N, C, H, W] and normalised, for a peer to read."""
    folder.mkdir(parents=True, exist_ok=True)
    network = network.eval()
    np.savez(folder / CALIBRATION, images=images.numpy(), labels=labels.numpy())
    safetensors.torch.save_file(network.state_dict(), folder / WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs another package
        torch.onnx.export(
            network,
            (images[:1],),
            str(folder / MODEL),
            input_names=["input"],
            output_names=["logits"],
            dynamo=False,
            opset_version=17,
        )


def normalized(images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Float32 [N, C, H, W] as the network takes them."""
    shape = (1, -1, 1, 1)
    return (images.images.float() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


def drawn(count: int, seed: int) -> Tensor:
    """Indices of the calibration images among ``count`` training images: int64 [:data:`CALIBRATION_IMAGES`], by the seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:CALIBRATION_IMAGES]
