"""Histograms that grow against counting once the range is known."""

import numpy as np
import pytest
import torch

from paretrim.stages.quantize.histogram import Histogram

DRAWN = torch.randn(200_003, generator=torch.Generator().manual_seed(1))
CASES = {
    "both signs": DRAWN,
    "not negative": DRAWN.clamp_min(0),
    "not positive": DRAWN.clamp_max(0),
    "ever larger": DRAWN.abs().sort().values ** 5,
    "ever smaller": DRAWN.sort(descending=True).values,
    "powers of two": torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 0.0]),
    "far apart": torch.tensor([1e-30, -1e-30, 3e38, -3e38]),
    "tiny": DRAWN * 1e-30,
    "huge": DRAWN * 1e30,
    "channels last": DRAWN[:3072].reshape(4, 3, 16, 16).contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_counts_are_those_of_the_final_bins(values):
    seen = Histogram()
    for part in torch.tensor_split(values, 3):
        seen.add_(part)
    plain = values.numpy().astype(np.float64).ravel()
    assert (seen.low, seen.high) == (min(plain.min(), 0), max(plain.max(), 0))
    reach = max(-seen.low, seen.high)
    assert 2048 * seen.width <= reach < 4096 * seen.width
    edges, counts = seen.bins()
    numbers, expected = np.unique(np.floor(plain / seen.width), return_counts=True)
    assert np.array_equal(edges[counts > 0], numbers * seen.width)
    assert np.array_equal(counts[counts > 0], expected)
    assert edges[0] <= seen.low
    assert seen.high < edges[-1] + seen.width


def test_zeros_alone_have_one_bin():
    seen = Histogram()
    seen.add_(torch.zeros(2, 5))
    edges, counts = seen.bins()
    assert (seen.low, seen.high, edges.tolist(), counts.tolist()) == (0.0, 0.0, [0.0], [10])
    seen.add_(torch.tensor([3.0, -1.0]))
    edges, counts = seen.bins()
    assert counts[edges == 0].tolist() == [10]
    assert counts.sum() == 12


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_remembered(bad):
    seen = Histogram()
    seen.add_(torch.tensor([1.0, bad]))
    seen.add_(torch.tensor([2.0]))
    assert not seen.finite
