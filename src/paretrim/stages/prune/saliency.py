"""Scores of weights by their effect on the loss or on the flow through the network.

If a saliency is additive over weights (diagonal Fisher, GraSP, SynFlow), the score is its square root: the squares of scores are
summed over a block, so a block gets the sum of its weights' saliencies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paretrim.graph.types import INPUT
from paretrim.method import Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.stages.gradients import calibration_gradients, calibration_losses, weight_gradients
from paretrim.stages.prune.absolute import absolute
from paretrim.train.resources import Resources
from paretrim.train.task import CLASSIFICATION

GRASP_TEMPERATURE = 200.0
"""GraSP divides logits by this, so that an untrained network has no confident classes."""

METHODS = (
    Method(
        name="snip",
        kind="score",
        source="Lee et al. 2019 (SNIP), arXiv 1810.02340, equations 4 to 6",
        what="the first-order effect of a weight on the mean loss; made for untrained networks",
        formula="score(w) = |w dL/dw|, L the mean loss on calibration images",
        recipe="snip",
    ),
    Method(
        name="grasp",
        kind="score",
        source="Wang et al. 2020 (GraSP), arXiv 2002.07376, equation 8",
        what="keeps weights whose removal would reduce the gradient flow; made for untrained networks",
        formula="saliency(w) = w (H g), with logits divided by 200; score = sqrt(saliency - smallest saliency)",
        recipe="grasp",
    ),
    Method(
        name="synflow",
        kind="score",
        source="Tanaka et al. 2020 (SynFlow), arXiv 2006.05467, equation 2 and algorithm 1",
        what="the share of a weight in the flow through the absolute network; no data, 100 rounds",
        formula="score(w) = sqrt(|w| dR/d|w|), R the sum of the outputs of the absolute network for an input of ones",
        recipe="synflow",
        settings=("prune.rounds",),
    ),
    Method(
        name="fisher",
        kind="score",
        source="Theis et al. 2018, arXiv 1801.05787, equation 8",
        what="the second-order increase of the loss, from the diagonal empirical Fisher information",
        formula="score(w) = sqrt(w^2 F / 2), F the mean squared gradient of single images",
        recipe="fisher",
    ),
)


def by_connection(network: Network, resources: Resources) -> dict[str, Tensor]:
    """``|w dL/dw|`` of the mean loss on calibration images: the first-order effect of the connection on the loss.

    The paper also divides by the sum over all weights, which does not change the order.

    Source: SNIP, Lee et al. 2019, arXiv 1810.02340, equations 4 to 6.
    """
    layers = weighted_layers(network)
    gradients = _mean_gradients(network, resources)
    return {name: (layer.weight.detach().double() * gradients[name]).abs() for name, layer in layers.items()}


def by_gradient_flow(network: Network, resources: Resources) -> dict[str, Tensor]:
    """Square root of ``w * (H g)``, shifted so that the smallest is 0: weights whose removal would reduce gradients are kept.

    ``g`` is the gradient of the mean loss on calibration images and ``H`` the Hessian, both with logits divided by 200.

    Source: GraSP, Wang et al. 2020, arXiv 2002.07376, equation 8; the temperature is that of the authors' code.
    """
    layers = weighted_layers(network)
    temperature = GRASP_TEMPERATURE if resources.task == CLASSIFICATION else 1.0
    gradients = _mean_gradients(network, resources, temperature)
    curved = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    for share, loss in calibration_losses(network, resources, temperature=temperature):
        with torch.enable_grad():
            found = weight_gradients(loss, layers, differentiable=True)
            product = torch.stack([(found[name] * gradients[name].float()).sum() for name in layers]).sum()
            for name, gradient in weight_gradients(product, layers).items():
                curved[name] += share * gradient.double()
    saliency = {name: layer.weight.detach().double() * curved[name] for name, layer in layers.items()}
    least = min(values.min() for values in saliency.values())
    return {name: (values - least).sqrt() for name, values in saliency.items()}


def by_synaptic_flow(network: Network, _resources: Resources) -> dict[str, Tensor]:
    """Square root of ``|w| dR/d|w|``, where R is the sum of the outputs of the absolute network for an input of ones. No data.

    R is the sum over all paths of the products of their absolute weights; in a chain of layers the saliencies of every layer sum
    to R. The score needs many rounds; :data:`paretrim.stages.prune.score_table.ROUNDS` sets 100 for it.

    Source: SynFlow, Tanaka et al. 2020, arXiv 2006.05467, equation 2 and algorithm 1.
    """
    linear = absolute(network)
    layers = weighted_layers(linear)
    ones = next(linear.parameters()).new_ones((1, *network.structure.types[INPUT].shape))
    with torch.enable_grad():
        flow = weight_gradients(linear(ones).sum(), layers)
    return {name: (layer.weight.detach() * flow[name]).sqrt() for name, layer in layers.items()}


def by_fisher(network: Network, resources: Resources) -> dict[str, Tensor]:
    """Square root of ``w^2 F / 2``: the second-order increase of the loss, with the mean squared gradient of single images as F.

    One backward pass for each calibration image.

    Source: Theis et al. 2018, arXiv 1801.05787, equation 8 (diagonal empirical Fisher information).
    """
    layers = weighted_layers(network)
    squares = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
    images = 0
    for gradients in calibration_gradients(network, resources, batch=1):
        images += 1
        for name, gradient in gradients.items():
            squares[name] += gradient.double().square()
    return {name: layer.weight.detach().double().abs() * (squares[name] / (2 * images)).sqrt() for name, layer in layers.items()}


def _mean_gradients(network: Network, resources: Resources, temperature: float = 1.0) -> dict[str, Tensor]:
    """Gradients of the mean loss over all calibration images, float64."""
    layers = weighted_layers(network)
    total = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
    for share, loss in calibration_losses(network, resources, temperature=temperature):
        for name, gradient in weight_gradients(loss, layers).items():
            total[name] += share * gradient.double()
    return total
