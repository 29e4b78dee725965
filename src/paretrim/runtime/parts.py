"""Computes many images in parts: between two parts, Python heeds Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paretrim.graph.types import FloatArray
from paretrim.graph.windows import Values

if TYPE_CHECKING:
    from paretrim.runtime._native import Network

PART_WORK = 2**31
"""Multiply-adds of a part for each thread: about a tenth of a second in INT8."""

FEW = 16
"""So many images are always computed at once."""


def run_in_parts(network: Network, images: Values) -> tuple[FloatArray, ...]:
    """All outputs [N, ...] of images [N, C, H, W]; the values do not depend on the parts."""
    if len(images) <= FEW:
        return network.run(images)
    work = sum(layer.multiply_adds for layer in network.layers)
    most = max(FEW, network.threads * int(PART_WORK // max(work, 1)))
    parts = [network.run(images[first : first + most]) for first in range(0, len(images), most)]
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))
