"""Grad-CAM: where in an image a network sees a class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import Graph
from paretrim.network.network import Network
from paretrim.network.places import value_at


def last_map(graph: Graph) -> str:
    """The name of the last value that is a map [C, H, W] of more than one pixel.

    Raises:
        UnsupportedOperation: there is none after the input.
    """
    for node in reversed(graph.nodes):
        shape = node.type.shape
        if len(shape) == 3 and shape[1] * shape[2] > 1:
            return node.name
    raise UnsupportedOperation(
        "Grad-CAM needs a layer that returns a map of height and width, and this network has none; leave Grad-CAM out (--inside)"
    )


def class_maps(network: Network, images: Tensor, classes: Tensor, *, at: str = "") -> Tensor:
    """``relu(sum_c a_c A_c)`` for each of the normalised images [N, C, H, W], with a_c the mean over the map of ``d y / d A_c``.

    y is the logit of the class int64 [N], A [N, C, h, w] what the module ``at`` returns, or the last map. Returns [N, h, w].

    Raises:
        UnsupportedOperation: the network has no map.
        InvalidRecipe: it has no such module.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    graph = network.structure
    name = value_at(graph, at) if at else last_map(graph)
    with torch.enable_grad():
        found = network.features(images.requires_grad_(), (name,))
        map_ = found[name]
        score = found[graph.outputs[0]].gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, map_)
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * map_).sum(1).relu().detach()


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarity in [0, 1] of maps [N, h, w], the smaller ones enlarged bilinearly: [N]; 1 if both are zero."""
    size = (max(first.shape[1], second.shape[1]), max(first.shape[2], second.shape[2]))
    ours, theirs = (
        functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False).flatten(1) for maps in (first, second)
    )
    both_empty = (ours.abs().sum(1) == 0) & (theirs.abs().sum(1) == 0)
    # Rounding may give a little more than 1.
    return torch.where(both_empty, 1.0, functional.cosine_similarity(ours, theirs).clamp(max=1.0))
