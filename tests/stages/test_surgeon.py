"""Optimal brain surgeon on rows of one layer, against trying everything."""

import pytest
import torch

from paretrim.stages.prune import surgeon
from paretrim.stages.prune.surgeon import damped, fitted, removal_costs

WIDTH, ROWS = 16, 3


def problem(seed=0, width=WIDTH, rows=ROWS):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, dtype=torch.float64, generator=random)
    inputs = torch.randn(20 * width, width, dtype=torch.float64, generator=random) @ mixing
    return torch.randn(rows, width, dtype=torch.float64, generator=random), inputs.T @ inputs / len(inputs)


def error(weight, original, square):
    return ((weight - original) @ square * (weight - original)).sum(-1)


def best_of(square, target, living, block):
    """Every block that could go next, with the least error that its removal leaves; by solving for all weights each time."""
    found = {}
    for gone in torch.nonzero(living).flatten().tolist():
        left = living.clone()
        left[gone] = False
        found[gone] = float(error(fitted(square, (target @ square)[None], left.repeat_interleave(block)[None]), target, square))
    return found


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("start", ["whole", "pruned"])
def test_costs_are_those_of_the_greedy_search_that_solves_for_all_weights(block, start):
    weight, square = problem()
    count = WIDTH // block
    alive = torch.ones(ROWS, count, dtype=torch.bool)
    if start == "pruned":
        alive[0, [1, 3]] = alive[2, 0] = False
    masks = alive.repeat_interleave(block, 1)
    present = fitted(square, weight @ square, masks)
    costs = removal_costs(present, square, block=block, alive=alive)
    for row in range(ROWS):
        living, before, dearest = alive[row].clone(), float(error(present[row], weight[row], square)), 0.0
        while living.any():
            possible = best_of(square, weight[row], living, block)
            gone = min(possible, key=possible.get)
            dearest = max(dearest, possible[gone] - before)
            assert float(costs[row, gone]) == pytest.approx(dearest, rel=1e-3, abs=1e-5)
            living[gone], before = False, possible[gone]
    assert (costs[~alive] == 0).all()


def test_with_independent_inputs_the_cost_of_a_weight_is_its_square():
    weight, _ = problem()
    costs = removal_costs(weight, torch.eye(WIDTH, dtype=torch.float64), block=1)
    torch.testing.assert_close(costs, weight.square(), rtol=1e-5, atol=1e-7)


def test_costs_of_a_row_rise_in_the_order_in_which_its_blocks_leave():
    weight, square = problem(seed=1)
    costs = removal_costs(weight, square, block=1)
    for row in costs:
        assert len(row.unique()) == len(row)


def test_wide_rows_lose_several_blocks_at_a_time_and_cost_about_the_same(monkeypatch):
    weight, square = problem(seed=2, width=64, rows=4)
    exact = removal_costs(weight, square, block=1)
    monkeypatch.setattr(surgeon, "_EXACT", 32)
    several = removal_costs(weight, square, block=1)
    for one, other in zip(exact, several, strict=True):
        keep_one, keep_other = one >= one.median(), other >= other.median()
        assert int((keep_one & keep_other).sum()) >= 28


def test_rows_in_small_portions_cost_the_same(monkeypatch):
    weight, square = problem(seed=3, rows=5)
    whole = removal_costs(weight, square, block=4)
    monkeypatch.setattr(surgeon, "_AT_ONCE", 2 * WIDTH**2)
    torch.testing.assert_close(removal_costs(weight, square, block=4), whole, rtol=1e-4, atol=1e-6)


def test_a_fit_has_no_gradient_where_weights_are_free_and_zeros_elsewhere():
    weight, square = problem(seed=4)
    mask = torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[1] = False
    result = fitted(square, weight @ square, mask)
    slope = (result - weight) @ square
    assert float(slope[mask].abs().max()) < 1e-9
    assert (result[~mask] == 0).all()


def test_rows_that_kept_the_same_columns_are_fitted_as_if_alone():
    weight, square = problem(seed=6, rows=5)
    mask = torch.ones(5, WIDTH, dtype=torch.bool)
    mask[[1, 3], 4:9] = False
    mask[4, 0] = False
    together = fitted(square, weight @ square, mask)
    for row in range(5):
        torch.testing.assert_close(together[row], fitted(square, (weight @ square)[row : row + 1], mask[row : row + 1])[0])


def test_a_fit_of_all_weights_gives_them_back():
    weight, square = problem(seed=5)
    torch.testing.assert_close(fitted(square, weight @ square, torch.ones_like(weight, dtype=torch.bool)), weight)


def test_damping_is_relative_and_makes_what_is_never_seen_solvable():
    square = torch.zeros(3, 3, dtype=torch.float64)
    assert torch.equal(damped(square), torch.eye(3, dtype=torch.float64))
    square[0, 0] = 3e-20
    assert float(damped(square, 0.01)[1, 1]) == pytest.approx(1e-22)
