import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretrim.errors import InvalidRecipe
from paretrim.stages.prune.schedule import cubic

shares = st.floats(0, 1)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.1), (0.2, 0.1), (0.4, 0.9 - 0.8 / 8), (0.6, 0.9), (1.0, 0.9)])
def test_cubic_follows_zhu_and_gupta(progress, expected):
    assert cubic(progress, start=0.2, end=0.6, initial=0.1, final=0.9) == pytest.approx(expected, abs=1e-15)


@given(shares, shares, shares, shares, shares, shares)
def test_cubic_rises_and_stays_between_its_ends(a, b, start, end, initial, final):
    start, end = sorted((start, end))
    initial, final = sorted((initial, final))
    first, second = (cubic(p, start=start, end=end, initial=initial, final=final) for p in sorted((a, b)))
    assert initial - 1e-12 <= first <= second + 1e-12 <= final + 2e-12


def test_cubic_ends_exactly():
    assert cubic(1.0, start=0.0, end=1.0, initial=0.0, final=0.95) == 0.95
    assert cubic(0.0, start=0.0, end=1.0, initial=0.25, final=0.95) == 0.25


def test_without_a_ramp_it_is_a_step():
    sparsities = [cubic(p, start=0.5, end=0.5, initial=0.0, final=0.8) for p in (0.0, 0.49, 0.5, 1.0)]
    assert sparsities == [0.0, 0.0, 0.8, 0.8]
    assert cubic(0.0, start=0.0, end=0.0, initial=0.0, final=0.8) == 0.8


@pytest.mark.parametrize("name", ["progress", "start", "end", "initial", "final"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_arguments_outside_the_unit_interval_are_refused(name, value):
    arguments = {"start": 0.0, "end": 1.0, "initial": 0.0, "final": 1.0, "progress": 0.5} | {name: value}
    with pytest.raises(InvalidRecipe, match=rf"{name} {value} of the pruning schedule is not in \[0, 1\]"):
        cubic(arguments.pop("progress"), **arguments)


def test_end_before_start_is_refused():
    with pytest.raises(InvalidRecipe, match=r"ends at 0\.2, before its start at 0\.5"):
        cubic(0.1, start=0.5, end=0.2, initial=0.0, final=0.9)
