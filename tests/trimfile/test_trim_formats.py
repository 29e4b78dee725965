"""What weights take in a file: in every format at most their own bits, and little more than their entropy."""

import numpy as np
import pytest
import torch
from trim_networks import linear

from paretrim import trimfile
from paretrim.network.formats import WEIGHT_GRIDS
from paretrim.network.grids import WeightSettings

LISTED = 64
"""Values of a layer for which a file can hold a table; of more, positive and negative ones share their frequencies."""

FORMATS = [pytest.param(kind, bits, id=f"{kind}-{bits}") for kind, grid in WEIGHT_GRIDS.items() for bits in grid.widths]


def entropy(values):
    """Bits per value of a coder that knows their frequencies."""
    counts = np.unique(values, return_counts=True)[1]
    return -float((counts / values.size * np.log2(counts / values.size)).sum())


def least_bits(weight):
    """Bits per weight of an ideal coder: with the layer's frequencies, or with those of every channel, which it has to learn."""
    learning = [(len(np.unique(row)) - 1) * 0.5 * np.log2(row.size) / row.size for row in weight]
    return min(entropy(weight), float(np.mean([entropy(row) + more for row, more in zip(weight, learning, strict=True)])))


@pytest.mark.parametrize(("kind", "bits"), FORMATS)
def test_a_format_takes_its_own_bits_before_coding_and_nearly_its_entropy_after(kind, bits):
    torch.manual_seed(0)
    weight = torch.randn(128, 512) * 0.05
    grid = WEIGHT_GRIDS[kind].fitted(weight, WeightSettings(bits, "learned", torch.ones(len(weight))))
    if grid.incremental is not None:
        grid.incremental.fix_largest_(torch.nn.Parameter(weight), 1.0)
    integers = grid.integers(weight)[0].numpy()
    found = trimfile.from_bytes(trimfile.to_bytes(linear(integers)))
    taken = 8 * next(iter(found.layer_bytes.values())) / integers.size
    assert taken <= bits
    assert taken <= (1.03 if len(np.unique(integers)) <= LISTED else 1.08) * least_bits(integers) + 0.02
