"""Looking into two networks: class maps, distributions of weights and of what layers read, and what zeros cost."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.network.class_maps import class_maps, likeness
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.results.inside import Example, Inside, Map, Pixels, SweepPoint, histograms

SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of zeros of a sweep."""

IMAGES, SHOWN, BATCH = 256, 6, 64
"""Images that are looked at, those that are shown, and those at once."""


def look_inside(
    networks: tuple[Network, Network],
    inputs: tuple[Tensor, Tensor],
    labels: Tensor,
    pixels: Pixels,
    *,
    first_shown: Sequence[int] = (),
    at: str = "",
) -> Inside:
    """Look into two networks at the same images, as each takes them: normalised float32 [N, C, H, W].

    ``pixels`` [N, H, W] or [N, H, W, 3] are for people. Shown are ``first_shown``, then the images whose maps differ most.
    """
    maps = [_maps(network, given, labels, at) for network, given in zip(networks, inputs, strict=True)]
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
    weights = [{name: layer.masked_weight().detach().numpy() for name, layer in weighted_layers(one).items()} for one in networks]
    read = [_read(network, given[:BATCH]) for network, given in zip(networks, inputs, strict=True)]
    accuracies = [sweep(network, given, labels) for network, given in zip(networks, inputs, strict=True)]
    swept = tuple(SweepPoint(share, (first, second)) for share, first, second in zip(SHARES, *accuracies, strict=True))
    return Inside(tuple(map(float, similarity)), tuple(examples), histograms(*weights), histograms(*read), swept)


def sweep(network: Network, inputs: Tensor, labels: Tensor) -> list[float]:
    """Accuracy with the smallest weights set to zero over all layers, at every share of :data:`SHARES`, without training."""
    found = []
    for share in SHARES:
        private = copy.deepcopy(network)
        layers = list(weighted_layers(private).values())
        sizes = torch.cat([layer.masked_weight().detach().abs().flatten() for layer in layers])
        kept = torch.ones(len(sizes), dtype=torch.bool)
        kept[sizes.argsort(stable=True)[: round(share * len(sizes))]] = False
        for layer, part in zip(layers, torch.split(kept, [layer.weight.numel() for layer in layers]), strict=True):
            set_mask_(layer, part.view_as(layer.weight) & (layer.masked_weight() != 0))
        found.append(float((_decided(private, inputs) == labels).float().mean()))
    return found


def _decided(network: Network, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network.outputs(part)[0].argmax(1) for part in torch.split(inputs, BATCH)])


def _maps(network: Network, inputs: Tensor, labels: Tensor, at: str) -> Tensor:
    parts = zip(torch.split(inputs, BATCH), torch.split(labels, BATCH), strict=True)
    return torch.cat([class_maps(network, part.clone(), classes, at=at) for part, classes in parts])


def _read(network: Network, inputs: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """What every layer reads, by its name."""
    with torch.no_grad():
        return {node.name: x.numpy().copy() for node, x in network.walk(inputs)}


def _scaled(map_: Tensor) -> Map:
    """A map with 1 as its greatest value."""
    found: Map = (map_ / map_.max().clamp(min=1e-12)).numpy()
    return found
