"""Optimal brain surgeon on rows of one layer, against brute force."""

import pytest
import torch

from paretrim.stages.prune import surgeon
from paretrim.stages.prune.surgeon import damped, factored, fitted, removal_costs

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


def greedy_of_groups(weight, square, stay, group, alive):
    """The weights that stay in a row when the cheapest leaves, as long as its group has more than ``stay``; by brute force."""
    living = alive.clone()
    while True:
        full = (living.unflatten(0, (-1, group)).sum(1) > stay).repeat_interleave(group) & living
        if not full.any():
            return living
        possible = {gone: cost for gone, cost in best_of(square, weight, living, 1).items() if full[gone]}
        living[min(possible, key=possible.get)] = False


@pytest.mark.parametrize("quota", [(2, 4), (1, 4), (1, 2), (3, 8)])
@pytest.mark.parametrize("start", ["whole", "pruned"])
def test_within_groups_the_greedy_search_keeps_the_quota(quota, start):
    weight, square = problem(seed=4)
    alive = torch.ones(ROWS, WIDTH, dtype=torch.bool)
    if start == "pruned":
        alive[0, :3] = alive[1, [4, 9]] = alive[2] = False
    present = fitted(square, weight @ square, alive)
    costs = removal_costs(present, square, block=1, alive=alive, quota=quota)
    for row in range(ROWS):
        expected = greedy_of_groups(weight[row], square, *quota, alive[row])
        assert torch.equal((costs[row] == costs[row].max()) & alive[row], expected)
        left = costs[row][alive[row] & ~expected]
        assert (left < costs[row].max()).all()
        assert len(left.unique()) == len(left)


def test_every_removal_within_groups_costs_what_solving_for_all_weights_says():
    weight, square = problem(seed=5, width=8, rows=2)
    costs = removal_costs(weight, square, block=1, quota=(2, 4))
    for row in range(2):
        left = torch.argsort(costs[row])[:4]
        mask = torch.ones(8, dtype=torch.bool)
        mask[left] = False
        whole = float(error(fitted(square, (weight @ square)[row : row + 1], mask[None]), weight[row], square))
        assert float(costs[row, left].sum()) == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("exact", [1536, 8])
def test_zeros_leave_a_group_first_and_wide_rows_keep_the_quota_too(exact, monkeypatch):
    monkeypatch.setattr(surgeon, "_EXACT", exact)
    weight, square = problem(seed=6, width=32)
    weight[:, ::2] = 0
    costs = removal_costs(weight, square, block=1, quota=(2, 4))
    assert ((costs == costs.max(1, keepdim=True).values).unflatten(1, (-1, 4)).sum(2) == 2).all()
    nothing = removal_costs(torch.zeros(1, 8), torch.eye(8), block=1, quota=(2, 4))
    assert int((nothing > 0).sum()) == 4


def test_with_independent_inputs_the_cost_of_a_weight_is_its_square():
    weight, _ = problem()
    costs = removal_costs(weight, torch.eye(WIDTH, dtype=torch.float64), block=1)
    torch.testing.assert_close(costs, weight.square(), rtol=1e-5, atol=1e-7)


def test_costs_of_a_row_rise_in_the_order_in_which_its_blocks_leave():
    weight, square = problem(seed=1)
    costs = removal_costs(weight, square, block=1)
    for row in costs:
        assert len(row.unique()) == len(row)


def error_without(costs, weight, square, block, keep):
    """The error that a fit leaves with the ``keep`` dearest blocks of every row, summed over rows."""
    dearest = torch.zeros_like(costs, dtype=torch.bool).scatter_(1, costs.topk(keep, 1).indices, True)
    return float(error(fitted(square, weight @ square, dearest.repeat_interleave(block, 1)), weight, square).sum())


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_wide_rows_lose_several_blocks_at_a_time_and_hardly_more(block, seed, monkeypatch):
    weight, square = problem(seed=seed, width=64, rows=6)
    exact = removal_costs(weight, square, block=block)
    monkeypatch.setattr(surgeon, "_EXACT", 16)
    several = removal_costs(weight, square, block=block)
    magnitude = weight.square().unflatten(1, (-1, block)).sum(2)
    for keep in (16 // block, 8 // block):
        one, other, plain = (error_without(costs, weight, square, block, keep) for costs in (exact, several, magnitude))
        assert other < 1.35 * one
        assert other < plain
    for row in several:
        assert len(row.unique()) == len(row)


def test_what_wide_rows_lose_costs_what_the_fit_leaves(monkeypatch):
    weight, square = problem(seed=5, width=32, rows=3)
    monkeypatch.setattr(surgeon, "_EXACT", 16)
    costs = removal_costs(weight, square, block=1)
    for row in range(3):
        for count in (8, 14, 16):  # what is gone after every part
            gone = torch.argsort(costs[row])[:count]
            stay = torch.ones(1, 32, dtype=torch.bool).index_fill_(1, gone, False)
            whole = float(error(fitted(square, (weight @ square)[row : row + 1], stay), weight[row], square))
            assert float(costs[row, gone].sum()) >= 0.999 * whole  # costs never fall, so a part may count for more than its error
        first = torch.argsort(costs[row])[:8]
        stay = torch.ones(1, 32, dtype=torch.bool).index_fill_(1, first, False)
        whole = float(error(fitted(square, (weight @ square)[row : row + 1], stay), weight[row], square))
        assert float(costs[row, first].sum()) == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("block", [1, 4])
def test_wide_rows_that_lost_blocks_before_go_on_from_there(block, monkeypatch):
    weight, square = problem(seed=3, width=32, rows=4)
    alive = torch.ones(4, 32 // block, dtype=torch.bool)
    alive[0, :2] = alive[1, 1:7] = alive[3] = False  # row 1 has few enough left, row 3 none
    masks = alive.repeat_interleave(block, 1)
    present = fitted(square, weight @ square, masks)
    exact = removal_costs(present, square, block=block, alive=alive)
    monkeypatch.setattr(surgeon, "_EXACT", 16)
    several = removal_costs(present, square, block=block, alive=alive)
    assert (several[~alive] == 0).all()
    assert (several[alive] > 0).all()
    few = alive.sum(1) * block <= 16
    torch.testing.assert_close(several[few], exact[few], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
@pytest.mark.parametrize("exact", [16, 640])
def test_costs_are_in_the_unit_of_weights_and_inputs(unit, exact, monkeypatch):
    monkeypatch.setattr(surgeon, "_EXACT", exact)
    weight, square = problem(seed=6, width=32)
    plain = removal_costs(weight, square, block=4)
    torch.testing.assert_close(removal_costs(weight * unit, square, block=4) / unit**2, plain, rtol=1e-3, atol=0)
    torch.testing.assert_close(removal_costs(weight, square * unit**2, block=4) / unit**2, plain, rtol=1e-3, atol=0)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_that_rounding_left_without_an_inverse_get_a_larger_diagonal(dtype):
    _, square = problem()
    square = square.to(dtype)
    assert torch.equal(factored(square), torch.linalg.cholesky(square))
    values, vectors = torch.linalg.eigh(square)
    values[0] = -1e-3 * values[-1]
    broken = vectors @ torch.diag(values) @ vectors.T
    with pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.cholesky(broken)
    both = factored(torch.stack([square, broken]))
    torch.testing.assert_close(both[0], torch.linalg.cholesky(square))
    more = both[1] @ both[1].T - broken
    torch.testing.assert_close(more, torch.diag(more.diagonal()), rtol=0, atol=1e-4 * float(values[-1]))
    assert 0 < float(more.diagonal().max()) <= 0.02 * float(values[-1])
    assert torch.isfinite(factored(-torch.eye(3, dtype=dtype))).all()
    with pytest.raises(torch.linalg.LinAlgError):
        factored(torch.full((3, 3), torch.nan, dtype=dtype))
