"""Importance scores of weights and channels, by name. To add one: write a function here and add its name to a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from paretrim.errors import InvalidRecipe, ParetrimError, TrainingFailed, reason_of
from paretrim.method import OURS, Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.own_code import described, failing_call, imported, require_takes, split_name
from paretrim.stages.gradients import calibration_gradients
from paretrim.stages.prune.channel_scores import (
    channels_by_batchnorm,
    channels_by_gate,
    channels_by_l1,
    channels_by_propagation,
)
from paretrim.stages.prune.saliency import by_connection, by_fisher, by_gradient_flow, by_synaptic_flow
from paretrim.stages.prune.scores import channel_l2
from paretrim.stages.prune.teacher_score import channels_by_teacher
from paretrim.train.resources import Resources
from paretrim.visible import brief

Score = Callable[[Network, Resources], Mapping[str, Tensor]]
"""Non-negative scores by layer, larger means keep: a tensor of the weight's shape for every weighted layer.

In a block of several weights the squares of scores are summed, as for magnitudes. A score changes neither the network nor its
gradients.
"""

ChannelScore = Callable[[Network, Resources], Mapping[str, Tensor]]
"""The same for output channels: float64 [Co] for every weighted layer."""


def by_magnitude(network: Network, _resources: Resources) -> dict[str, Tensor]:
    """Absolute value of the weight. Source: Han et al. 2015, arXiv 1506.02626."""
    return {name: layer.weight.detach().abs() for name, layer in weighted_layers(network).items()}


def by_taylor(network: Network, resources: Resources) -> dict[str, Tensor]:
    """First-order change of the loss if the weight becomes 0: the root mean square of ``w dL/dw`` over batches.

    Source: Molchanov et al. 2019, "Importance estimation for neural network pruning", arXiv 1906.10771, equation 8.
    """
    layers = weighted_layers(network)
    total = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
    batches = 0
    for gradients in calibration_gradients(network, resources):
        batches += 1
        for name, layer in layers.items():
            total[name] += (layer.weight.detach().double() * gradients[name]).square()
    return {name: (summed / batches).sqrt() for name, summed in total.items()}


def at_random(network: Network, resources: Resources) -> dict[str, Tensor]:
    """Uniform in [0, 1), from the seed: the control that every other score must beat."""
    random = torch.Generator().manual_seed(resources.seed)
    return {
        name: torch.rand(layer.weight.shape, generator=random).to(layer.weight.device)
        for name, layer in weighted_layers(network).items()
    }


def channels_by_magnitude(network: Network, _resources: Resources) -> dict[str, Tensor]:
    """Euclidean norm of every output channel of the effective weights: masked, and on their grid.

    Source: Li et al. 2017 (arXiv 1608.08710), with the L2 norm.
    """
    return {name: channel_l2(layer.effective_weight()) for name, layer in weighted_layers(network).items()}


SCORES: Mapping[str, Score] = {
    "magnitude": by_magnitude,
    "taylor": by_taylor,
    "random": at_random,
    "snip": by_connection,
    "grasp": by_gradient_flow,
    "synflow": by_synaptic_flow,
    "fisher": by_fisher,
}
"""Scores of weights by the name that a recipe gives them."""

ROUNDS: Mapping[str, int] = {"synflow": 100}
"""Rounds in which one-shot pruning removes the weights, if more than one."""

BY_TEACHER = "hkdp"
"""The score that asks for a teacher."""

CHANNEL_SCORES: Mapping[str, ChannelScore] = {
    "magnitude": channels_by_magnitude,
    "l1": channels_by_l1,
    "batchnorm": channels_by_batchnorm,
    "taylor_gate": channels_by_gate,
    "nisp": channels_by_propagation,
    BY_TEACHER: channels_by_teacher,
}
"""Scores of channels; any other score of weights scores a channel by the Euclidean norm of its weights' scores."""

SECOND_ORDER = "obs"
"""The score that depends on the pattern: :func:`paretrim.stages.prune.second_order.second_order_scores`."""

METHODS = (
    Method(
        name="magnitude",
        kind="score",
        source="Han et al. 2015, arXiv 1506.02626",
        what="the absolute value of the weight",
        formula="score(w) = |w|",
        recipe="magnitude",
        settings=("prune.first", "prune.last", "prune.depthwise"),
    ),
    Method(
        name="taylor",
        kind="score",
        source="Molchanov et al. 2019, arXiv 1906.10771, equation 8",
        what="the first-order change of the loss if the weight becomes 0, on calibration images with labels",
        formula="score(w) = sqrt(mean over batches of (w dL/dw)^2)",
        recipe="taylor",
    ),
    Method(
        name="random",
        kind="score",
        source=OURS,
        what="random, from the seed: the control that every other score must beat",
        formula="score(w) ~ U[0, 1)",
        recipe="random",
    ),
    Method(
        name="magnitude",
        kind="channel score",
        source="Li et al. 2017, arXiv 1608.08710, with the L2 norm",
        what="the Euclidean norm of the weights of an output channel",
        formula="score(channel o of layer l) = sqrt(sum of W_l[o, :, :, :]^2)\nchannels that are added share one score",
        recipe="channels",
        settings=("prune.multiple_of",),
    ),
)

OWN = "for your own write 'package.module:function', a function of network and resources (paretrim.Score)"


def check_score(name: str, *, channels: bool = False) -> None:
    """Reject an unknown score before training; ``channels`` says that whole channels are scored.

    Raises:
        InvalidRecipe: it is neither a name in the tables nor a function that can be imported, or it scores channels where
            weights are to be scored, or the other way round.
    """
    known = (*SCORES, *CHANNEL_SCORES) if channels else (*SCORES, SECOND_ORDER)
    if name in known:
        return
    if name == SECOND_ORDER:
        raise InvalidRecipe("prune: score obs ranks weights and blocks, not channels; choose magnitude or taylor")
    if name in CHANNEL_SCORES:
        raise InvalidRecipe(
            f"prune: score '{name}' is for whole channels; set pattern to channel, or choose one of {', '.join(SCORES)}"
        )
    if ":" not in name or not all(split_name(name)):
        raise InvalidRecipe(f"prune: score {brief(name)} is unknown; choose one of {', '.join(known)}; {OWN}")
    require_takes(imported(name, "score"), ("network", "resources"), f"prune: score {brief(name)}")


def scores_of(name: str, network: Network, resources: Resources) -> dict[str, Tensor]:
    """The scores of every weight of every weighted layer.

    Raises:
        InvalidRecipe: the user's function returns something else.
        TrainingFailed: a score is NaN or infinite.
    """
    score = SCORES[name] if name in SCORES else cast(Score, imported(name, "score"))
    found = _computed(score, name, network, resources)
    shapes = {layer: tuple(one.weight.shape) for layer, one in weighted_layers(network).items()}
    return {layer: _checked(found, layer, shape, name) for layer, shape in shapes.items()}


def channel_scores_of(name: str, network: Network, resources: Resources) -> dict[str, Tensor]:
    """The scores of every output channel of every weighted layer, float64 [Co].

    Raises:
        InvalidRecipe: the user's function returns something else.
        TrainingFailed: a score is NaN or infinite.
    """
    if name in SCORES and name not in CHANNEL_SCORES:
        return {layer: channel_l2(score) for layer, score in scores_of(name, network, resources).items()}
    score = CHANNEL_SCORES[name] if name in CHANNEL_SCORES else cast(ChannelScore, imported(name, "score"))
    found = _computed(score, name, network, resources)
    return {layer: _of_channels(found, layer, one.weight, name) for layer, one in weighted_layers(network).items()}


def _computed(score: Score, name: str, network: Network, resources: Resources) -> object:
    """What the function returns. The user's own lines speak for themselves; a library that fails is the wrong score."""
    try:
        with torch.no_grad():
            return score(network, resources)
    except Exception as error:
        if ":" not in name or isinstance(error, ParetrimError) or failing_call(error):
            raise
        raise InvalidRecipe(f"prune: score {brief(name)} failed with {reason_of(error)}; {OWN}") from error


def _of_channels(found: object, layer: str, weight: Tensor, name: str) -> Tensor:
    """The scores [Co] of a layer: as given, or the norms of scores of weights from a user's function."""
    given = found.get(layer) if isinstance(found, Mapping) else None
    if name not in CHANNEL_SCORES and isinstance(given, Tensor) and given.ndim > 1:
        return channel_l2(_checked(found, layer, tuple(weight.shape), name))
    return _checked(found, layer, (len(weight),), name)


def _checked(found: object, layer: str, shape: tuple[int, ...], name: str) -> Tensor:
    if not isinstance(found, Mapping):
        raise InvalidRecipe(f"score {brief(name)} is {described(found)}; return a mapping from every weighted layer to a tensor")
    if layer not in found:
        raise InvalidRecipe(f"score {brief(name)} has none for layer '{layer}'; return one tensor for every weighted layer")
    given = found[layer]
    if not isinstance(given, Tensor):
        raise InvalidRecipe(f"score {brief(name)} of layer '{layer}' is {described(given)}; return a tensor of shape {shape}")
    scores = given.detach()
    if tuple(scores.shape) != shape:
        wanted = f"one number per {'weight' if len(shape) > 1 else 'channel'}, {shape}"
        raise InvalidRecipe(f"score {brief(name)} of layer '{layer}' has shape {tuple(scores.shape)}; return {wanted}")
    wrong = scores.numel() - int(torch.isfinite(scores).sum())
    if wrong:
        raise TrainingFailed(
            f"layer '{layer}': {wrong} of {scores.numel()} scores are NaN or infinite; check the weights, or train with a "
            "lower learning rate"
        )
    if scores.numel() and float(scores.min()) < 0:
        raise InvalidRecipe(
            f"score {brief(name)} of layer '{layer}' is {float(scores.min()):g} at its smallest; scores must be 0 or more, and "
            "larger means keep"
        )
    return scores
