"""Small integers and multiples, found in the integers of a weight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretrim.graph.groups import groups_of


def weight_in_groups(random, outputs, channels, size, *, top=7, most=18, area=1):
    """A weight [Co, Ci, area], whose groups all hold 1 and -top, and its multiples [Co, G]."""
    small = random.integers(-top, top + 1, (outputs, channels, area))
    small[:, ::size, 0], small[:, 1::size, 0] = 1, -top
    multiples = random.integers(1, most + 1, (outputs, -(-channels // size)))
    multiples[0, 0] = most
    return (small * multiples.repeat(size, axis=1)[:, :channels, None]).astype(np.int8), small, multiples


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@given(seed=st.integers(0, 2**32 - 1))
def test_groups_are_found(size, seed):
    random = np.random.default_rng(seed)
    channels = 2 * size + int(random.integers(2, size))
    weight, small, multiples = weight_in_groups(random, 8, channels, size, area=int(random.integers(1, 4)))
    found = groups_of(weight)
    assert found.size == size
    assert found.bits == 4
    assert np.array_equal(found.small, small)
    assert np.array_equal(found.multiples[:, ::size], multiples)
    assert np.array_equal(found.small * found.multiples[:, :, None], weight)


def test_a_group_of_the_least_integer_has_a_multiple_that_fits():
    weight = np.zeros((1, 32), np.int8)
    weight[0, 3] = -128
    found = groups_of(weight)
    assert found.multiples.max() == 64
    assert np.array_equal(found.small * found.multiples, weight)


def test_multiples_of_1_are_no_groups():
    assert groups_of(np.random.default_rng(0).integers(-7, 8, (8, 64)).astype(np.int8)) is None


def test_wide_integers_are_no_groups():
    assert groups_of(np.random.default_rng(0).integers(-127, 128, (8, 64)).astype(np.int8)) is None


def test_other_types_and_no_weights_have_no_groups():
    assert groups_of(np.zeros((2, 3), np.float32)) is None
    assert groups_of(np.zeros((0, 3), np.int8)) is None
