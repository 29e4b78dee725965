"""Scores of output channels that are not norms of their weights' scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paretrim.errors import InvalidRecipe
from paretrim.graph.fusion import fuse, norms_behind_moves
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import INPUT
from paretrim.method import Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.layers import BatchNorm, is_fixed
from paretrim.network.network import Network
from paretrim.stages.gradients import calibration_losses
from paretrim.stages.prune.absolute import absolute
from paretrim.train.resources import Resources

VARIATION = 0.5
"""Weight of variation in the importance of features; dissimilarity has the rest."""

REACH = 0.9
"""Weight of longer paths between features, as a share of the value at which their sum diverges."""

METHODS = (
    Method(
        name="l1",
        kind="channel score",
        source="Li et al. 2017, arXiv 1608.08710",
        what="the sum of the absolute weights of an output channel",
        formula="score(channel o of layer l) = sum of |W_l[o, :, :, :]|",
        recipe="l1",
    ),
    Method(
        name="batchnorm",
        kind="channel score",
        source="Liu et al. 2017 (network slimming), arXiv 1708.06519, without its penalty",
        what="the scale of the BatchNorm behind the channel",
        formula="score(channel o) = |gamma_o|, or 1 if no BatchNorm follows",
        recipe="batchnorm-scale",
    ),
    Method(
        name="taylor_gate",
        kind="channel score",
        source="Molchanov et al. 2019, arXiv 1906.10771, equation 8 with gates (Taylor-FO-BN)",
        what="the first-order change of the loss if the channel becomes 0",
        formula="score(channel o) = sqrt(mean over batches of (gamma dL/dgamma + beta dL/dbeta)^2)",
        recipe="taylor-gate",
    ),
    Method(
        name="nisp",
        kind="channel score",
        source="Yu et al. 2018 (NISP), arXiv 1711.05908",
        what="the importance of the last features, propagated back through the absolute weights",
        formula="s_FRL by Inf-FS of the features before the last layer; s_k = |W_{k+1}|^T s_{k+1}, layer by layer",
        recipe="nisp",
    ),
)


def channels_by_l1(network: Network, _resources: Resources) -> dict[str, Tensor]:
    """Sum of the absolute effective weights. Source: Li et al. 2017, arXiv 1608.08710."""
    layers = weighted_layers(network)
    return {name: layer.effective_weight().detach().double().abs().flatten(1).sum(1) for name, layer in layers.items()}


def channels_by_batchnorm(network: Network, _resources: Resources) -> dict[str, Tensor]:
    """``|gamma|`` of the BatchNorm after the layer, 1 if there is none.

    After a transposed convolution every channel of the BatchNorm has the pixels of several channels of the captured layer.

    Raises:
        InvalidRecipe: the network has no BatchNorm after any layer.

    Source: network slimming, Liu et al. 2017, arXiv 1708.06519, without its penalty.
    """
    scales: dict[str, Tensor] = {name: norm.gamma for name, norm in norms_behind(network).items()}
    norms = network.batch_norms()
    for found in norms_behind_moves(network.graph(weights=False)):
        scales[found.head.name] = norms[found.batch_norm.name].gamma.repeat_interleave(found.places)
    if not scales:
        raise InvalidRecipe(
            "score 'batchnorm' ranks channels by the scale of the BatchNorm behind them, and this network has none; "
            "choose magnitude, l1 or taylor"
        )
    return {
        name: scales[name].detach().double().abs()
        if name in scales
        else torch.ones(len(layer.weight), dtype=torch.float64, device=layer.weight.device)
        for name, layer in weighted_layers(network).items()
    }


def channels_by_gate(network: Network, resources: Resources) -> dict[str, Tensor]:
    """First-order change of the loss if the channel becomes 0: root mean square over batches of calibration images.

    For a gate of 1 after the BatchNorm the change is ``gamma dL/dgamma + beta dL/dbeta``; without BatchNorm it is the sum of
    ``w dL/dw`` over the channel's weights and bias.

    Source: Molchanov et al. 2019, arXiv 1906.10771, equation 8 with gates (Taylor-FO-BN).
    """
    norms, parts = norms_behind(network), dict[str, list[nn.Parameter]]()
    fixed = {node.name for node in network.structure.nodes if is_fixed(node)}
    layers = weighted_layers(network)
    for name, layer in layers.items():
        if name not in fixed:
            bias = [] if layer.bias is None else [layer.bias]
            parts[name] = [norms[name].gamma, norms[name].beta] if name in norms else [layer.weight, *bias]
    total = {
        name: torch.zeros(len(layer.weight), dtype=torch.float64, device=layer.weight.device) for name, layer in layers.items()
    }
    batches = 0
    for _, loss in calibration_losses(network, resources):
        batches += 1
        wanted = [parameter for group in parts.values() for parameter in group]
        gradients = iter(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))
        for name, group in parts.items():
            change = torch.zeros_like(total[name])
            for parameter in group:
                change += (parameter.detach().double() * next(gradients)).reshape(len(parameter), -1).sum(1)
            total[name] += change.square()
    return {name: (summed / batches).sqrt() for name, summed in total.items()}


def channels_by_propagation(network: Network, resources: Resources) -> dict[str, Tensor]:
    """Importance of the features before the last layer, propagated back through absolute weights, summed over positions.

    ``s_k = |W_(k+1)|^T s_(k+1)``; BatchNorm counts with its absolute scale, functions of single values as the identity; pools
    split importance equally, and sums pass it to both inputs. The importance of the features themselves is
    :func:`feature_importance` on calibration images. Layers that lead to no such feature score 1. All channels propagate,
    including those that will be removed.

    Source: NISP, Yu et al. 2018, arXiv 1711.05908, equations 13 and 14.
    """
    layers = weighted_layers(network)
    place = next(node.inputs[0] for node in network.structure.nodes if node.name == list(layers)[-1])
    images = resources.calibration.to(next(network.parameters()).device)
    with evaluating(network):
        features = network.features(images, (place,))[place].double()
    importance = feature_importance(features.reshape(*features.shape[:2], -1).mean(2))
    linear = absolute(network, spread=True)
    ones = next(linear.parameters()).new_ones((1, *network.structure.types[INPUT].shape))
    with torch.enable_grad():
        values = linear.features(ones, (*layers, place))
        end = values[place]
        flow = (end * importance.reshape(1, -1, *[1] * (end.dim() - 2))).sum()
        read = [values[name] for name in layers]
        # No layer is in front of the only one, and torch has no gradient of what depends on none.
        found = torch.autograd.grad(flow, read, allow_unused=True) if flow.requires_grad else (None,) * len(read)
    return {
        name: torch.ones(len(layers[name].weight), dtype=torch.float64, device=images.device)
        if gradient is None
        else gradient[0].reshape(len(gradient[0]), -1).sum(1)
        for name, gradient in zip(layers, found, strict=True)
    }


def feature_importance(features: Tensor) -> Tensor:
    """Importance of each feature among all: features float64 [N, d] -> [d], 0 or more.

    ``A_ij = a max(std_i, std_j) + (1 - a) (1 - |rank correlation|)`` with a = 0.5 and standard deviations divided by the largest;
    the importance is the row sum of ``(I - r A)^-1 - I``, the sum of ``(r A)^k`` over k, with r = 0.9 / (largest eigenvalue).

    Source: Roffo et al. 2015, "Infinite feature selection".
    """
    spread = features.std(0, correction=0)
    spread = spread / spread.max().clamp(min=torch.finfo(torch.float64).tiny)
    ranks = _ranks(features)
    ranks = ranks - ranks.mean(0)
    length = ranks.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    alike = ((ranks / length).T @ (ranks / length)).abs().clamp(max=1)
    links = VARIATION * torch.maximum(spread[:, None], spread[None]) + (1 - VARIATION) * (1 - alike)
    radius = torch.linalg.eigvalsh(links).abs().max()
    if radius == 0:
        return torch.ones_like(spread)
    eye = torch.eye(len(links), dtype=links.dtype, device=links.device)
    every: Tensor = torch.linalg.solve(eye - REACH / radius * links, torch.ones_like(spread)) - 1
    return every.clamp(min=0)


def _ranks(features: Tensor) -> Tensor:
    """Rank of every value in its column; ties share the mean of their ranks."""
    columns = features.T.contiguous()
    ordered = columns.sort(dim=1).values
    first, last = torch.searchsorted(ordered, columns), torch.searchsorted(ordered, columns, right=True)
    return ((first + last).double() / 2).T


def norms_behind(network: Network) -> dict[str, BatchNorm]:
    """The BatchNorm that directly follows a weighted layer, by the layer's name."""
    norms = network.batch_norms()
    runs = fuse(network.graph(weights=False))
    return {run.head.name: norms[run.batch_norm.name] for run in runs if run.head.op in WEIGHTED and run.batch_norm}
