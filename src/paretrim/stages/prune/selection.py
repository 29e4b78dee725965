"""Which weights may be pruned: the settings that ``prune`` shares with every stage that makes masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from pydantic import StrictBool

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups
from paretrim.graph.operations.channel_rules import is_depthwise
from paretrim.graph.operations.table import OPERATIONS
from paretrim.method import OURS, Method
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.layers import is_fixed
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.layer_names import matches, require_match
from paretrim.stages.prune.allocation import allocate
from paretrim.stages.prune.patterns import parse_pattern
from paretrim.stored_fields import LATER

METHODS = (
    Method(
        name="layers",
        kind="option",
        source=OURS,
        what="prune only the layers of these names or patterns, or leave some out; the sparsity is that of the selected layers",
        formula="a layer is pruned if it matches a pattern of layers (or there is none) and no pattern of ignore",
        recipe="layers",
        settings=("prune.layers", "prune.ignore"),
    ),
)


@settings()
class Selection:
    """``pattern`` says which weights are pruned together; the other settings, which layers are pruned.

    Without ``first``, ``last`` and ``depthwise``, the first convolution, the last weighted layer and depthwise convolutions are
    left as they are. ``layers`` restricts pruning to layers with these names, or names of these patterns (``layer3.*``, as in a
    shell); ``ignore`` leaves such layers out. The sparsity is then that of the layers that are left. Channels that layers share
    are only removed if all these layers are selected.

    A setting of this kind is declared only here: stages inherit it, and :func:`paretrim.stages.prune.stage.pruning` passes it on.
    """

    masks_grow: ClassVar[bool] = False
    pattern: str = "unstructured"
    first: StrictBool = False
    last: StrictBool = False
    depthwise: StrictBool = False
    layers: tuple[str, ...] = dataclasses.field(default=(), metadata=LATER)
    ignore: tuple[str, ...] = dataclasses.field(default=(), metadata=LATER)

    def layers_of(self, network: Network) -> dict[str, WeightedLayer]:
        """The layers of a network that are pruned.

        Raises:
            InvalidRecipe: there are none, or ``layers`` or ``ignore`` name a layer that does not exist.
        """
        layers = weighted_layers(network)
        named = self.named(list(layers))
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
        found = {name: layer for name, layer in layers.items() if name in named and name not in left_out}
        if not named:
            raise InvalidRecipe("prune: layers and ignore select no layer; ignore fewer of those that layers names")
        if not found and len(named) < len(layers):
            raise InvalidRecipe(
                f"prune: layers and ignore select only {', '.join(sorted(named)[:3])}, which is not pruned by default; select "
                "others, or set first, last or depthwise to true"
            )
        if not found:
            raise InvalidRecipe(
                f"prune: no layer of this network of {len(layers)} weighted layers may be pruned; set first, last or depthwise"
                " to true"
            )
        return found

    def require_reachable(self, network: Network, sparsity: float) -> None:
        """Refuse a sparsity of zeros that would leave a layer without a block, whatever the scores. It looks at no image.

        Raises:
            InvalidRecipe: it does, or no layer is selected.
        """
        layers = self.layers_of(network)
        sizes = {name: layer.weight.detach().abs() for name, layer in layers.items()}
        alive = {name: layer.mask for name, layer in layers.items() if layer.mask is not None}
        allocate(sizes, sparsity, method="uniform", pattern=parse_pattern(self.pattern), alive=alive)

    def named(self, names: Sequence[str]) -> set[str]:
        """The layers that ``layers`` and ``ignore`` select.

        Raises:
            InvalidRecipe: one of them matches no layer.
        """
        for setting in ("layers", "ignore"):
            for pattern in getattr(self, setting):
                require_match(names, pattern, f"prune: {setting}")
        selected = (name for name in names if not self.layers or any(matches(name, one) for one in self.layers))
        return {name for name in selected if not any(matches(name, one) for one in self.ignore)}

    def sets_of(self, groups: ChannelGroups) -> list[bool]:
        """For every coupled set of channels, whether all layers that compute them are selected by name.

        Raises:
            InvalidRecipe: ``layers`` or ``ignore`` name a layer that does not exist, or leave no set.
        """
        named = self.named(groups.producers)
        together = [groups.producers_of(members) for members in groups.sets]
        found = [named.issuperset(names) for names in together]
        if together and not any(found):
            partly = next((names for names in together if named.intersection(names)), ())
            missing = [name for name in partly if name not in named]
            step = f"select {', '.join(missing)} too, which shares its channels" if partly else "select other layers"
            raise InvalidRecipe(f"prune: layers and ignore leave no channels that can be removed; {step}")
        return found
