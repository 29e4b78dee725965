"""Grids of values that only comparisons read, such as the difference of two activations in ``a > b``.

Only the side of the bound counts, which clipping keeps, while a value that is rounded to the bound falls to the wrong side. So
such a value gets a short range around its bounds, with steps that are much finer than for its whole range.
"""

from __future__ import annotations

from collections.abc import Mapping

from paretrim.graph.types import Graph
from paretrim.network.grids import Grid, grid_for_range

_REACH = 4
"""Steps of the usual grid on both sides of a bound that the finer grid covers, with 32 times as many steps."""


def compared_of(graph: Graph) -> Mapping[str, tuple[float, float]]:
    """The least and the greatest bound of every value that only comparisons read, directly or multiplied by a number."""
    consumers = graph.consumers()
    found: dict[str, tuple[float, float]] = {}
    for node in reversed(graph.nodes):
        bounds: list[float] | None = []
        for reader in consumers[node.name]:
            function, constant = reader.attributes.get("function"), reader.attributes.get("constant")
            if bounds is None or not isinstance(constant, float):
                bounds = None
            elif function == "step":
                bounds.append(constant)
            elif function == "mul_constant" and reader.name in found and constant:
                bounds += [bound / constant for bound in found[reader.name]]
            else:
                bounds = None
        if bounds and node.name not in graph.outputs:
            found[node.name] = (min(bounds), max(bounds))
    return found


def compared_grids(graph: Graph, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grids of such values among ``grids`` that become finer in this way."""
    finer = {}
    for name, (least, most) in compared_of(graph).items():
        if name in grids:
            reach = _REACH * grids[name].scale
            grid = grid_for_range(least - reach, most + reach)
            if grid.scale < grids[name].scale:  # bounds far from 0 or from each other need a long range
                finer[name] = grid
    return finer
