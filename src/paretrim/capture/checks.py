"""What a captured graph must hold, and what it need not."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from paretrim.errors import UnsupportedOperation
from paretrim.graph.dtypes import all_finite
from paretrim.graph.types import Graph

_NAMES_IN_TORCH = MappingProxyType({"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"})


def check_classes(shape: tuple[int, ...], classes: int) -> None:
    """Require one output channel per class: logits [N, classes], or maps of logits [N, classes, H, W]."""
    if shape[0] != classes:
        what = "logits" if len(shape) == 1 else f"channels (a map {list(shape)})"
        raise UnsupportedOperation(
            f"the network returns {shape[0]} {what}, but the data has {classes} classes; build the network with {classes} outputs"
        )


def check_weights(graph: Graph) -> None:
    """Refuse weights that are no numbers, and variances below 0."""
    for node in graph.nodes:
        for name, value in node.tensors.items():
            place = f"'{node.name}.{_NAMES_IN_TORCH.get(name, name)}' of the model"
            if not all_finite(value):
                raise UnsupportedOperation(f"{place} contains NaN or infinity; its training has failed, so load other weights")
            if name == "variance" and (lowest := float(value.min())) < 0:
                raise UnsupportedOperation(
                    f"{place} is {lowest:g} in a channel, but a variance is at least 0; it is damaged, so load other weights"
                )


def without_dead(graph: Graph) -> Graph:
    """The graph without nodes that no output is computed from."""
    alive = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.name in alive))
