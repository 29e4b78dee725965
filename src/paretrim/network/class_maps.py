"""Grad-CAM: where in an image a network sees a class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from paretrim.errors import InvalidRecipe, UnsupportedOperation
from paretrim.graph.types import Graph
from paretrim.network.network import Network
from paretrim.network.places import value_at


def last_map(graph: Graph) -> str:
    """The name of the last value that is a map [C, H, W] of more than one pixel.

    Raises:
        UnsupportedOperation: there is none after the input.
    """
    found = next((node.name for node in reversed(graph.nodes) if _is_map(node.type.shape)), None)
    if found is not None:
        return found
    raise UnsupportedOperation(
        "Grad-CAM needs a layer that returns a map of height and width, and this network has none; leave Grad-CAM out (--inside)"
    )


def map_at(graph: Graph, at: str) -> str:
    """The name of the value that Grad-CAM looks at: what the module ``at`` returns, or without one the last map.

    Raises:
        UnsupportedOperation: there is no map.
        InvalidRecipe: there is no such module, or it returns none.
    """
    if not at:
        return last_map(graph)
    name = value_at(graph, at)
    shape = next((node.type.shape for node in graph.nodes if node.name == name), graph.input.shape)
    if len(shape) != 3:
        raise InvalidRecipe(
            f"Grad-CAM looks at a map of height and width, but module '{at}' returns values of shape {list(shape)}; name a "
            "convolution or a block of convolutions"
        )
    return name


def has_map(graph: Graph) -> bool:
    """Whether a network has a value that Grad-CAM can look at."""
    return any(_is_map(node.type.shape) for node in graph.nodes)


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[1] * shape[2] > 1


def class_maps(network: Network, images: Tensor, classes: Tensor, *, at: str = "") -> Tensor:
    """``relu(sum_c a_c A_c)`` for each of the normalised images [N, C, H, W], with a_c the mean over the map of ``d y / d A_c``.

    y is the logit of the class int64 [N], A [N, C, h, w] what the module ``at`` returns, or the last map. Returns [N, h, w].

    Raises:
        UnsupportedOperation: the network has no map.
        InvalidRecipe: it has no such module, or the module returns no map.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    graph = network.structure
    name = map_at(graph, at)
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
