"""Histograms that grow against counting once the range is known."""

import numpy as np
import pytest
import torch

from paretrim.network.tensors import in_memory_order
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


WAYS = {"native": Histogram.add_, "torch": lambda seen, values: seen.add_by_torch_(in_memory_order(values))}
ways = pytest.mark.parametrize("add_", WAYS.values(), ids=WAYS.keys())


@ways
@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_counts_are_those_of_the_final_bins(values, add_):
    seen = Histogram()
    for part in torch.tensor_split(values, 3):
        add_(seen, part)
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


def test_long_rows_are_counted_to_the_last_value():
    """Several native chunks and a partial one."""
    values = torch.full((2**21 + 4099,), 0.75)
    values[::3] = -0.5
    values[-1] = 1.0
    seen = Histogram()
    seen.add_(values)
    edges, counts = seen.bins()
    first = -(-len(values) // 3)
    assert dict(zip(edges[counts > 0].tolist(), counts[counts > 0].tolist(), strict=True)) == {
        -0.5: first,
        0.75: len(values) - first - 1,
        1.0: 1,
    }


@ways
def test_zeros_alone_have_one_bin(add_):
    seen = Histogram()
    add_(seen, torch.zeros(2, 5))
    edges, counts = seen.bins()
    assert (seen.low, seen.high, edges.tolist(), counts.tolist()) == (0.0, 0.0, [0.0], [10])
    add_(seen, torch.tensor([3.0, -1.0]))
    edges, counts = seen.bins()
    assert counts[edges == 0].tolist() == [10]
    assert counts.sum() == 12


@ways
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("others", [1, 40])
def test_non_finite_values_are_remembered(bad, others, add_):
    seen = Histogram()
    add_(seen, torch.tensor([bad, *[1.0] * others]))
    add_(seen, torch.tensor([2.0]))
    assert not seen.finite
