"""Scores channels by their similarity to the teacher's channels."""

from __future__ import annotations

import torch
from torch import Tensor

from paretrim.data.batches import Batch
from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.layers import is_fixed
from paretrim.network.network import Network
from paretrim.stages.prune.scores import channel_l2
from paretrim.train.resources import Resources

BALANCE = 0.5
"""Weight of the norm of a channel's weights, relative to its correlation with the teacher."""

METHODS = (
    Method(
        name="hkdp",
        kind="channel score",
        source="HKDP, Che et al. 2021, as a survey of joint methods describes it; formula ours",
        what="the norm of a channel's weights, and its largest correlation with a channel of the teacher's same layer",
        formula="score(c) = 1/2 |W_c| / max |W| + 1/2 max over j of |corr(a_c, t_j)|, a and t means over positions",
        recipe="hkdp-survey",
    ),
)


def channels_by_teacher(network: Network, resources: Resources) -> dict[str, Tensor]:
    """``1/2 |W_c| / max |W| + 1/2 max_j |corr(a_c, t_j)|`` with responses a and t to calibration images, means over positions.

    If the network is its own teacher, all correlations are 1 and the norm decides.

    Raises:
        InvalidRecipe: there is no teacher, or it has no module with a layer's name.

    Source: a survey's description of HKDP (Che et al. 2021); its abstract describes another method (stage ``gsm``).
    """
    if resources.teacher is None:
        raise InvalidRecipe("score 'hkdp' compares channels with a teacher's, but there is none; name one, or choose magnitude")
    layers = weighted_layers(network)
    paths = {node.name: node.layer for node in network.structure.nodes if node.name in layers and not is_fixed(node)}
    images = resources.calibration.to(next(network.parameters()).device)
    with evaluating(network):
        own = network.features(images, tuple(paths))
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    theirs = resources.teacher.values(Batch(images, labels, None), 0, sorted(set(paths.values())))
    found = {}
    for name, layer in layers.items():
        norms = channel_l2(layer.effective_weight())
        scores = BALANCE * norms / norms.max().clamp(min=torch.finfo(torch.float64).tiny)
        if name in paths:
            alike = likeness(_responses(own[name]), _responses(theirs[paths[name]].to(images.device)))
            scores = scores + (1 - BALANCE) * alike
        found[name] = scores
    return found


def _responses(values: Tensor) -> Tensor:
    """Mean of [N, C, ...] over positions, float64 [N, C]."""
    return values.detach().double().reshape(*values.shape[:2], -1).mean(2)


def likeness(own: Tensor, theirs: Tensor) -> Tensor:
    """For every column of [N, C] the largest absolute correlation with any column of [N, D]; 0 for constant columns; [C]."""

    def normalised(values: Tensor) -> Tensor:
        centred = values - values.mean(0)
        length = centred.norm(dim=0)
        # The rounding noise of a constant column is not a direction.
        constant = length <= 1e-9 * values.norm(dim=0)
        unit: Tensor = (centred / length.where(~constant, torch.ones_like(length))).where(~constant, torch.zeros_like(centred))
        return unit

    best: Tensor = (normalised(own).T @ normalised(theirs)).abs().amax(1).clamp(max=1)
    return best
