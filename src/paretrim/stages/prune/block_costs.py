"""The cost of computing one kept block of weights, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.stages.layer_names import require_match

BY_COST = ("cost", "speed")
"""Allocations that weigh the value of a block against its cost."""

READING = 11
"""Time to read a block of weights in the native runtime, in positions; it is read once for all positions of a layer.

Measured on ResNet-18 from 80 to 90 % zeros, ``results/runtime.jsonl``: a block takes 12.9 ns on 1,024 positions, 3.2 on 256, 0.86
on 64 and 0.34 on 16, which is 12.3 ps per position, plus the time of 11 more.
"""


def block_costs(
    network: Network, names: Collection[str], given: Mapping[str, float] | None, *, reading: bool
) -> Mapping[str, float]:
    """The cost of a block of each layer: the given ones, else those of :func:`counted_costs`.

    Raises:
        InvalidRecipe: a cost is given for a layer that does not exist.
    """
    if given is None:
        return counted_costs(network, names, reading=reading)
    for name in given:
        require_match(list(weighted_layers(network)), name, "prune: costs")
    return given


def counted_costs(network: Network, names: Collection[str], *, reading: bool) -> dict[str, float]:
    """Cost of a block of each layer: the positions that it is multiplied at; with ``reading``, plus reading it, in positions."""
    return {name: float(positions(network, name) + (READING if reading else 0)) for name in names}


def positions(network: Network, name: str) -> int:
    """How often a weight of a layer is multiplied for one image: the positions of the layer's output, 1 for a linear layer."""
    return math.prod(network.structure.types[name].shape[1:])


def check_costs(names: Collection[str], costs: Mapping[str, float], method: str) -> None:
    """Reject missing or invalid costs.

    Raises:
        InvalidRecipe: a layer has no cost, or one that is not above 0.
    """
    missing = [name for name in names if name not in costs]
    if missing:
        raise InvalidRecipe(
            f"allocation '{method}' needs the cost of a block of every layer that is pruned; missing are {', '.join(missing)}"
        )
    for name in names:
        if not 0 < costs[name] < math.inf:
            raise InvalidRecipe(f"a block of layer '{name}' costs {costs[name]}; give a number above 0")
