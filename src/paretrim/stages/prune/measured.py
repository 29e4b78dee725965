"""Rounding of channel counts to the multiple that is fastest on this CPU, by measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from paretrim.method import OURS, Method
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.stages.quantize.latency import layer_times_ns
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.resources import Resources

MULTIPLES = (1, 4, 8, 16)
"""Candidates: kernels read blocks of four channels, and an AVX-512 vector holds sixteen."""

SLACK = 0.02
"""A larger multiple is preferred as long as it takes at most this share more time than the fastest."""

IMAGES = 8
"""Calibration images for the integer networks that are timed; the time does not depend on them."""

METHODS = (
    Method(
        name="multiple_of",
        kind="option",
        source=OURS,
        what="round channel counts up to the fastest multiple on this machine (1, 4, 8 or 16), measured in the native runtime",
        formula="the largest m in {1, 4, 8, 16} with time(counts rounded up to m) <= 1.02 * (smallest time over all m)",
        recipe="measured-counts",
        settings=("prune.multiple_of",),
    ),
)


def fastest_multiple(rounded: Callable[[int], Network], resources: Resources) -> int:
    """The multiple that counts should be rounded up to; ``rounded`` returns the network for each of :data:`MULTIPLES`.

    Raises:
        UnsupportedOperation: the native runtime does not run the network.
    """
    return chosen({multiple: time_ns(rounded(multiple), resources) for multiple in MULTIPLES})


def chosen(times: Mapping[int, int]) -> int:
    """The largest multiple whose time is within :data:`SLACK` of the fastest."""
    least = min(times.values())
    return max(multiple for multiple, time in times.items() if time <= (1 + SLACK) * least)


def time_ns(network: Network, resources: Resources) -> int:
    """Time of all layers with weights, as integers, for one image on one thread, in ns."""
    if network.quantizers():
        return sum(layer_times_ns(freeze(network)).values())
    few = replace(resources, calibration=resources.calibration[:IMAGES], calibration_labels=None)
    return sum(layer_times_ns(freeze(Quantize(budget=Budget(epochs=0)).begin(network, few).network)).values())
