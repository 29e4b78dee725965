import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretrim.run.drop import Drop, drop_between, fewest_images, images_needed, interval

Z2 = NormalDist().inv_cdf(0.975) ** 2


@pytest.mark.parametrize(
    ("lost", "won", "images", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Fagerland, Lydersen, Laake 2014, Statistics in Medicine 33, airway hyper-responsiveness
        (40, 20, 160, 0.03086, 0.21806),  # the example of scoreci.mp in the R package PropCIs
        (0, 0, 36, -Z2 / (36 + Z2), Z2 / (36 + Z2)),  # no image differs: Wilson's interval of 0 of 36
    ],
)
def test_intervals_that_others_have_published(lost, won, images, low, high):
    found = interval(lost, won, images)
    assert found.value == (lost - won) / images
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)


@given(st.integers(1, 5000), st.data())
def test_both_ends_are_roots_of_the_closed_form(images, data):
    """Yang, Sun, Hardin 2013, Statistics in Medicine 32, solve a polynomial of degree four for the same limits."""
    lost = data.draw(st.integers(0, images))
    won = data.draw(st.integers(0, images - lost))
    found, n, b, away = interval(lost, won, images), images, lost + won, lost - won
    coefficients = (
        n**2 * (n / Z2 + 1) ** 2,
        -n * away * (n / Z2 + 1) * (4 * n / Z2 + 1),
        2 * n * away**2 * (3 * n / Z2 + 2) / Z2 - n**2 * (b / Z2 + 1),
        n * away * (2 * b / Z2 + 1) - away**3 * (4 * n / Z2 + 1) / Z2,
        away**2 * (away**2 / Z2 - b) / Z2,
    )
    for end in (found.low, found.high):
        if abs(end) < 1 - 1e-9 and end != found.value:
            terms = [factor * end ** (4 - power) for power, factor in enumerate(coefficients)]
            assert abs(math.fsum(terms)) <= 1e-7 * math.fsum(map(abs, terms))
    assert -1 <= found.low <= found.value <= found.high <= 1


@given(st.integers(1, 2000), st.data())
def test_the_interval_knows_no_sides(images, data):
    lost = data.draw(st.integers(0, images))
    won = data.draw(st.integers(0, images - lost))
    one, other = interval(lost, won, images), interval(won, lost, images)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)


@pytest.mark.parametrize(("p_lost", "p_won"), [(0.03, 0.01), (0.1, 0.1), (0.2, 0.05), (0.3, 0.0)])
def test_the_interval_covers_what_it_says(p_lost, p_won):
    """Exact, over all outcomes of 60 images."""
    images, covered = 60, 0.0
    for lost, won in product(range(images + 1), repeat=2):
        rest = images - lost - won
        if rest < 0:
            continue
        ways = math.factorial(images) // (math.factorial(lost) * math.factorial(won) * math.factorial(rest))
        probability = ways * p_lost**lost * p_won**won * (1 - p_lost - p_won) ** rest
        if probability < 1e-9:
            continue
        found = interval(lost, won, images)
        covered += probability * (found.low <= p_lost - p_won <= found.high)
    assert 0.93 < covered <= 1


def test_a_drop_counts_the_images_on_which_one_is_right():
    dense = np.array([True, True, True, False, False, False])
    candidate = np.array([True, False, False, True, False, False])
    drop = drop_between(dense, candidate)
    assert drop == Drop(lost=2, won=1, images=6)
    assert drop.value == pytest.approx(1 / 6)


def test_a_drop_is_judged_with_its_interval():
    drop = Drop(15, 5, 1000)  # 1.00 points
    assert str(drop) == "1.00 points on 1,000 images (95 % interval 0.14 to 2.02)"
    assert [drop.within(allowed) for allowed in (0.01, 0.02, 0.021)] == [False, False, True]
    assert [drop.exceeds(allowed) for allowed in (0.009, 0.01)] == [True, False]
    assert [drop.beyond(allowed) for allowed in (0.001, 0.002)] == [True, False]


def test_how_many_images_it_takes():
    assert fewest_images(0.05) == 73
    assert fewest_images(0.005) == math.ceil(Z2 * 0.995 / 0.005)
    assert fewest_images(0.0) is None
    needed = images_needed(Drop(1, 0, 36), 0.05)
    assert needed is not None
    assert interval(needed / 36, 0, needed).high <= 0.05 < interval((needed - 1) / 36, 0, needed - 1).high
    assert images_needed(Drop(2, 0, 36), 0.05) is None
