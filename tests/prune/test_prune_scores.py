import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.stages.prune.scores import channel_l2, lamp, largest


def test_channel_l2_matches_numpy_on_convolution_and_linear():
    for shape in ((5, 3, 2, 2), (4, 7)):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        expected = np.sqrt((weight.double().numpy().reshape(shape[0], -1) ** 2).sum(1))
        np.testing.assert_allclose(channel_l2(weight).numpy(), expected, rtol=1e-15)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_lamp_matches_its_formula(squares):
    scores = lamp(torch.tensor(squares, dtype=torch.float64))
    for u, square in enumerate(squares):
        above = [s for v, s in enumerate(squares) if s > square or (s == square and v <= u)]
        assert scores[u].item() == pytest.approx(square / sum(above) if square else 0.0)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, torch.inf, -torch.inf]), max_size=20), st.integers(0, 20))
def test_largest_equals_a_stable_sort(values, keep):
    scores = torch.tensor(values)
    keep = min(keep, len(values))
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert set(torch.nonzero(largest(scores, keep)).flatten().tolist()) == set(order[:keep])


def test_largest_keeps_shape():
    assert largest(torch.zeros(2, 3), 4).tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("keep", [-1, 4])
def test_largest_refuses_an_impossible_count(keep):
    with pytest.raises(InvalidRecipe, match=f"cannot keep {keep} of 3 scores; ask for 0 to 3"):
        largest(torch.ones(3), keep)


def test_largest_refuses_nan():
    with pytest.raises(TrainingFailed, match="1 of 3 pruning scores are NaN"):
        largest(torch.tensor([1.0, torch.nan, 2.0]), 1)
