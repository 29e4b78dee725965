"""Layers that pruning has nearly emptied, while others keep many weights."""

from __future__ import annotations

from paretrim.graph.taps import weights_on_padding
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network

FEW = 0.1
"""A layer is nearly empty that keeps less than this part of the share that all pruned layers keep together."""

NAMED = 5
"""Layers that the warning names."""


def emptied(network: Network) -> dict[str, float]:
    """The share of weights that nearly empty layers keep, by their name.

    Only layers with a mask count, and of those only weights that can matter: not those that only ever multiply padding.
    """
    idle = weights_on_padding(network.graph(shared=True))
    layers = weighted_layers(network)
    masks = {name: layer.mask for name, layer in layers.items() if layer.mask is not None}
    useful = {name: mask.numel() - idle.get(name, 0) for name, mask in masks.items()}
    kept = {name: int((layers[name].weight * mask).count_nonzero()) for name, mask in masks.items()}
    if not sum(useful.values()):
        return {}
    least = FEW * sum(kept.values()) / sum(useful.values())
    return {name: kept[name] / useful[name] for name in masks if kept[name] < least * useful[name]}


def said_of_emptied(network: Network) -> str:
    """A warning that names nearly empty layers; "" if there are none."""
    if not (found := emptied(network)):
        return ""
    shares = ", ".join(f"{name} ({100 * share:.2g} %)" for name, share in list(found.items())[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        f"warning: pruning leaves hardly any weights in {shares}{more}; BatchNorm hides that layers differ in scale, so one "
        "ranking over all layers can empty some of them: choose another allocation ('lamp', 'erk', 'uniform'), if the stage has "
        "one, or prune less"
    )
