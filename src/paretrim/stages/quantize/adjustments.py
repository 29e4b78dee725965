"""Adjustments before and after quantization without training, by name.

To add one: write a function in its own module here, and add its name to ``BEFORE`` (on the float network, before calibration) or
``AFTER`` (on the quantized network, together with the float network). A test runs both tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.network.settle import settle_
from paretrim.network.uniform import WeightQuantizer
from paretrim.stages.prune.second_order import compensate_
from paretrim.stages.quantize.adaround import adaround_
from paretrim.stages.quantize.corrections import correct_bias_, reestimate_batchnorm_
from paretrim.stages.quantize.equalize import equalize_, smooth_
from paretrim.stages.quantize.joint_calibration import calibrate_jointly_
from paretrim.visible import brief

METHODS = (
    Method(
        name="equalize",
        kind="adjustment",
        source="Nagel et al. 2019 (DFQ), arXiv 1906.04721, section 4.1",
        what="move scale between layers so that the channels of a tensor have equal ranges; the function stays the same",
        formula="s_i = sqrt(r_i of the layer before / r_i of the layer after); W_1[i] / s_i, W_2[:, i] s_i",
        recipe="equalization",
    ),
    Method(
        name="smooth",
        kind="adjustment",
        source="Xiao et al. 2023 (SmoothQuant), arXiv 2211.10438, section 4",
        what="move outliers of activations into the weights that read them; the function stays the same",
        formula="s_j = max|X_j|^a / max|W[:, j]|^(1 - a), a the smoothing; X / s, W s",
        recipe="smoothquant",
        settings=("quantize.smoothing",),
    ),
    Method(
        name="batchnorm",
        kind="adjustment",
        source="after Sun et al. 2019 (HFP8), NeurIPS",
        what="correct BatchNorm statistics for the shift that quantization causes",
        formula="mean <- mean + E[y_quantized] - E[y_float]; variance <- variance * var(y_quantized) / var(y_float)",
        recipe="batchnorm",
    ),
    Method(
        name="bias",
        kind="adjustment",
        source="Nagel et al. 2019 (DFQ), arXiv 1906.04721, section 4.2",
        what="subtract the mean error of every channel from its bias",
        formula="b <- b - E[y_quantized - y_float], layer by layer on calibration images",
        recipe="equalization",
    ),
    Method(
        name="adaround",
        kind="adjustment",
        source="Nagel et al. 2020 (AdaRound), arXiv 2004.10568, sections 3 and 4",
        what="learn whether each weight is rounded down or up, layer by layer",
        formula="minimise ||W x - W' x||^2 + 0.01 sum (1 - |2 h(V) - 1|^beta), W' = s (floor(W / s) + h(V))",
        recipe="adaround",
        settings=("quantize.rounding_steps",),
    ),
    Method(
        name="gptq",
        kind="adjustment",
        source="Frantar & Alistarh 2022 (OBC), arXiv 2208.11580, section 5; Frantar et al. 2023 (GPTQ), arXiv 2210.17323",
        what="round the weights of a layer one at a time; the remaining ones compensate for the error of its output",
        formula="w_j <- round(w_j - sum over k > j of C_jk (q_k - w_k) / C_jj), C^T C = X X^T of the layer's inputs",
        recipe="gptq",
    ),
    Method(
        name="joint",
        kind="adjustment",
        source="after Nahshan et al. 2021 (LAPQ), arXiv 1911.07190",
        what="adjust one activation range at a time to bring the outputs closest to float",
        formula="s_l <- argmin over s_l (1 + r)^k of ||f_quantized(x) - f(x)||^2, r = -0.15 or 0.15, k = 0, 1, 2, 3",
        recipe="joint",
    ),
)


@dataclass(frozen=True, eq=False)
class AdjustmentInput:
    """Arguments of an adjustment: normalised training images float32 [M, C, H, W], a seed, and the settings of the stage."""

    images: Tensor
    seed: int
    smoothing: float
    rounding_steps: int


BEFORE: Mapping[str, Callable[[Network, AdjustmentInput], None]] = MappingProxyType(
    {
        "equalize": lambda network, _: equalize_(network),
        "smooth": lambda network, work: smooth_(network, work.images, work.smoothing),
    }
)
"""Changes of the float network that preserve its function."""

AFTER: Mapping[str, Callable[[Network, Network, AdjustmentInput], None]] = MappingProxyType(
    {
        "batchnorm": lambda network, reference, work: reestimate_batchnorm_(network, reference, work.images),
        "bias": lambda network, reference, work: correct_bias_(network, reference, work.images),
        "adaround": lambda network, reference, work: adaround_(
            network, reference, work.images, steps=work.rounding_steps, seed=work.seed
        ),
        "gptq": lambda network, reference, work: compensate_(
            network, reference, work.images, _on_uniform_grids(network), rounding=True
        ),
        "joint": lambda network, reference, work: calibrate_jointly_(network, reference, work.images),
    }
)
"""Changes of the quantized network, which may use the float network."""


_ROUNDING = ("adaround", "gptq")
"""Adjustments that choose the integers of weights."""


def _on_uniform_grids(network: Network) -> list[str]:
    """The layers that train and have uniform grids."""
    layers = weighted_layers(network).items()
    return [name for name, layer in layers if layer.weight.requires_grad and isinstance(layer.quantizer, WeightQuantizer)]


def check_adjustments(names: Sequence[str], *, rate: float) -> None:
    """Reject unknown names, names given twice, and adjustments that conflict with each other or with a price of bits.

    Raises:
        InvalidRecipe: a name is unknown, given twice or conflicts.
    """
    for name in names:
        if name not in BEFORE and name not in AFTER:
            raise InvalidRecipe(f"adjust names {brief(name)}; choose from {', '.join([*BEFORE, *AFTER])}")
        if names.count(name) > 1:
            raise InvalidRecipe(f"adjust names '{name}' twice; name it once")
    rounding = [name for name in names if name in _ROUNDING]
    if len(rounding) > 1:
        raise InvalidRecipe(f"adjust names {' and '.join(rounding)}, but each rounds all weights; leave one of them out")
    if rate and rounding:
        raise InvalidRecipe(
            f"adjust names '{rounding[0]}' and rate is {rate:g}, but both choose the integers of weights; leave one of them out"
        )


def adjust_before_(network: Network, names: Sequence[str], work: AdjustmentInput) -> None:
    """Run the named adjustments that come before calibration, in the given order."""
    for name in names:
        if name in BEFORE:
            BEFORE[name](network, work)


def adjust_after_(network: Network, reference: Network, names: Sequence[str], work: AdjustmentInput) -> None:
    """Run the other named adjustments on a network with all its grids; ``reference`` is the float network that was calibrated.

    Raises:
        InvalidRecipe: one of them rounds weights on uniform grids, and there are none.
    """
    chosen = [name for name in names if name in AFTER]
    if not chosen:
        return
    for name in chosen:
        if name in _ROUNDING and not _on_uniform_grids(network):
            raise InvalidRecipe(
                f"quantize: adjust names '{name}', which rounds weights on the grid 'uniform', but no layer is on it, so "
                "it would have no effect; leave it out, or keep some layers on that grid"
            )
    settle_(network)  # every stage ends with settling, which changes scales slightly; done here, that is corrected too
    for name in chosen:
        AFTER[name](network, reference, work)
