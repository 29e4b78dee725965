"""A look inside two networks: class maps, distributions of weights and of layer inputs, and what zeros cost."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.data.augment import normalisation_table, normalise
from paretrim.graph.windows import Values
from paretrim.network.class_maps import class_maps, has_map, likeness
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.network.thaw import network_from_file
from paretrim.results.inside import Example, InsideComparison, Map, Pixels, SweepPoint, histograms
from paretrim.train.task import CLASSIFICATION

SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Sparsities of a sweep."""

IMAGES, SHOWN, SHOWN_FIRST, BATCH = 256, 6, 4, 64
"""Images that are looked at, those that are shown, how many of them were asked for, and those at once: the most of each."""

WORK = 4 * 10**12
"""Multiply-adds of all passes together, about a minute on one core: of a large network fewer images are looked at."""

PASSES = len(SHARES) + 3
"""How often an image passes a network: in the sweep, and for its class map, where forward and backward count three."""

VALUES = 2**27
"""Numbers of all values of the images that are computed at once, half a GiB."""


LAST = ("", "")
"""Grad-CAM of both networks is computed at their last map."""


def look_into_files(
    files: tuple[Path, Path],
    images: tuple[Values, Values],
    labels: npt.NDArray[np.int64],
    *,
    first_shown: Sequence[int] = (),
    at: tuple[str, str] = LAST,
) -> InsideComparison:
    """Look into the networks of two ``.trim`` files, at the first of images [N, C, H, W] as each file takes them.

    They are at most :data:`IMAGES`, and of large networks fewer (:func:`affordable`).
    Of the images ``first_shown`` at most :data:`SHOWN_FIRST` are shown. ``at`` names the module of each network whose output
    Grad-CAM looks at.
    """
    networks, inputs = _opened(files, images)
    few = len(inputs[0])
    return look_inside(
        networks,
        inputs,
        torch.from_numpy(labels[:few]),
        _for_people(images[0][:few]),
        first_shown=first_shown[:SHOWN_FIRST],
        at=at,
    )


def map_similarity_of_files(
    files: tuple[Path, Path], images: tuple[Values, Values], labels: npt.NDArray[np.int64], *, at: tuple[str, str] = LAST
) -> tuple[float, ...]:
    """Similarity of the class maps alone, for the same images as :func:`look_into_files`: of each of them, in [0, 1]."""
    networks, inputs = _opened(files, images)
    maps = _maps_of_both(networks, inputs, torch.from_numpy(labels[: len(inputs[0])]), at)
    return tuple(map(float, likeness(*maps)))


def _opened(files: tuple[Path, Path], images: tuple[Values, Values]) -> tuple[tuple[Network, Network], tuple[Tensor, Tensor]]:
    """Both networks, and as many images as they allow, normalised for each of them."""
    (first, spec), (second, other) = (network_from_file(file) for file in files)
    few, inputs = affordable((first, second)), []
    for takes, all_images in zip((spec, other), images, strict=True):
        given = torch.from_numpy(all_images[:few])
        inputs.append(normalise(given, normalisation_table(takes.mean, takes.std)) if takes.takes_pixels else given)
    return (first, second), (inputs[0], inputs[1])


def affordable(networks: Sequence[Network]) -> int:
    """How many images :data:`WORK` allows, at least as many as are shown and at most :data:`IMAGES`."""
    work = PASSES * sum(network.graph(weights=False).multiply_adds for network in networks)
    return max(SHOWN, min(IMAGES, WORK // max(work, 1)))


def look_inside(
    networks: tuple[Network, Network],
    inputs: tuple[Tensor, Tensor],
    labels: Tensor,
    pixels: Pixels,
    *,
    first_shown: Sequence[int] = (),
    at: tuple[str, str] = LAST,
) -> InsideComparison:
    """Compare two networks on the same images, as each takes them: normalised float32 [N, C, H, W].

    ``pixels`` [N, H, W] or [N, H, W, 3] are for display: first the images ``first_shown``, then those whose maps differ most.
    Without class maps if neither module is named and a network has no map of height and width.
    """
    similarity: tuple[float, ...] = ()
    examples: tuple[Example, ...] = ()
    if at != LAST or all(has_map(network.structure) for network in networks):
        similarity, examples = _seen(_maps_of_both(networks, inputs, labels, at), labels, pixels, first_shown)
    weights = [{name: layer.masked_weight().detach().numpy() for name, layer in weighted_layers(one).items()} for one in networks]
    few = min(map(_at_once, networks))
    read = [_read(network, given[:few]) for network, given in zip(networks, inputs, strict=True)]
    accuracies = [sweep(network, given, labels) for network, given in zip(networks, inputs, strict=True)]
    swept = tuple(SweepPoint(share, (first, second)) for share, first, second in zip(SHARES, *accuracies, strict=True))
    return InsideComparison(len(labels), similarity, examples, histograms(*weights), histograms(*read), swept)


def _seen(
    maps: tuple[Tensor, Tensor], labels: Tensor, pixels: Pixels, first_shown: Sequence[int]
) -> tuple[tuple[float, ...], tuple[Example, ...]]:
    """How similar the class maps of each image are, and the images to show."""
    similarity = likeness(*maps).numpy()
    order = [position for position in first_shown if position < len(labels)]
    order += [int(position) for position in similarity.argsort() if position not in order]
    examples = [
        Example(
            position,
            int(labels[position]),
            pixels[position],
            (_scaled(maps[0][position]), _scaled(maps[1][position])),
            float(similarity[position]),
        )
        for position in order[:SHOWN]
    ]
    return tuple(map(float, similarity)), tuple(examples)


def sweep(network: Network, inputs: Tensor, labels: Tensor) -> list[float]:
    """Accuracy with the smallest weights set to zero over all layers, at every share of :data:`SHARES`, without training."""
    private = copy.deepcopy(network)
    layers = list(weighted_layers(private).values())
    sizes = torch.cat([layer.masked_weight().detach().abs().flatten() for layer in layers])
    order, kept, found = sizes.argsort(stable=True), torch.ones(len(sizes), dtype=torch.bool), []
    for share in SHARES:  # ascending, so masks only shrink
        kept[order[: round(share * len(sizes))]] = False
        for layer, part in zip(layers, torch.split(kept, [layer.weight.numel() for layer in layers]), strict=True):
            set_mask_(layer, part.view_as(layer.weight) & (layer.masked_weight() != 0))
        found.append(_right(private, inputs, labels) / len(labels))
    return found


def _for_people(images: Values) -> Pixels:
    """Pixels [N, H, W] or [N, H, W, 3] of images [N, C, H, W]; normalised ones are scaled to the full range."""
    shown = np.asarray(images, np.float64)
    if images.dtype != np.uint8:
        shown = 255 * (shown - shown.min()) / max(shown.max() - shown.min(), 1e-12)
    return np.asarray(shown.transpose(0, 2, 3, 1) if shown.shape[1] == 3 else shown[:, 0], np.uint8)


def _at_once(network: Network) -> int:
    """Images whose values fit into :data:`VALUES`, at most :data:`BATCH`."""
    return max(1, min(BATCH, VALUES // sum(kind.size for kind in network.structure.types.values())))


def _right(network: Network, inputs: Tensor, labels: Tensor) -> int:
    """How many images are classified right."""
    size = _at_once(network)
    parts = zip(torch.split(inputs, size), torch.split(labels, size), strict=True)
    with torch.no_grad():
        return sum(int(CLASSIFICATION.running(network.outputs(part), classes)) for part, classes in parts)


def _maps_of_both(
    networks: tuple[Network, Network], inputs: tuple[Tensor, Tensor], labels: Tensor, at: tuple[str, str]
) -> tuple[Tensor, Tensor]:
    first, second = (_maps(network, given, labels, one) for network, given, one in zip(networks, inputs, at, strict=True))
    return first, second


def _maps(network: Network, inputs: Tensor, labels: Tensor, at: str) -> Tensor:
    size = _at_once(network)
    parts = zip(torch.split(inputs, size), torch.split(labels, size), strict=True)
    return torch.cat([class_maps(network, part.clone(), classes, at=at) for part, classes in parts])


def _read(network: Network, inputs: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """The input of every layer, by its name."""
    with torch.no_grad():
        return {node.name: x.numpy().copy() for node, x in network.walk(inputs)}


def _scaled(map_: Tensor) -> Map:
    """A map scaled to a maximum of 1."""
    found: Map = (map_ / map_.max().clamp(min=1e-12)).numpy()
    return found
