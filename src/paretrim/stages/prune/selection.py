"""Which weights may be pruned: the settings that ``prune`` shares with every stage that makes masks."""

from __future__ import annotations

from pydantic import StrictBool
from pydantic.dataclasses import dataclass

from paretrim.errors import InvalidRecipe
from paretrim.graph.operations.channel_rules import is_depthwise
from paretrim.graph.operations.table import OPERATIONS
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.layers import is_fixed
from paretrim.network.network import Network
from paretrim.train.budget import STRICT


@dataclass(frozen=True, config=STRICT)
class Selection:
    """``pattern`` says which weights are pruned together; ``first``, ``last`` and ``depthwise`` which layers are pruned.

    A setting of this kind is declared only here: stages inherit it, and :func:`paretrim.stages.prune.stage.pruning` passes it on.
    """

    pattern: str = "unstructured"
    first: StrictBool = False
    last: StrictBool = False
    depthwise: StrictBool = False

    def layers_of(self, network: Network) -> dict[str, WeightedLayer]:
        """The layers of a network that are pruned.

        Raises:
            InvalidRecipe: there are none.
        """
        layers = weighted_layers(network)
        left_out = {node.name for node in network.structure.nodes if is_fixed(node)}
        convolutions = (node for node in network.structure.nodes if OPERATIONS[node.op].multiplies == "windows")
        first = next((node for node in convolutions if node.name not in left_out), None)
        if first is not None and not self.first:
            left_out.add(first.name)
        if not self.last:
            left_out.add(list(layers)[-1])
        if not self.depthwise:
            weighted = (node for node in network.structure.nodes if node.name in layers)
            left_out.update(node.name for node in weighted if is_depthwise(node, tuple(layers[node.name].weight.shape)))
        found = {name: layer for name, layer in layers.items() if name not in left_out}
        if not found:
            raise InvalidRecipe(
                f"prune: no layer of this network of {len(layers)} weighted layers may be pruned; set first, last or depthwise"
                " to true"
            )
        return found
