"""GPTQ on rows of one layer, against brute force and against the published elimination."""

import itertools

import pytest
import torch

from paretrim.stages.prune.surgeon import fitted
from paretrim.stages.quantize import gptq
from paretrim.stages.quantize.gptq import possible_scales, rounded

TOP = 3


def problem(seed=0, width=12, rows=4):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, dtype=torch.float64, generator=random)
    inputs = torch.randn(20 * width, width, dtype=torch.float64, generator=random) @ mixing
    weight = torch.randn(rows, width, dtype=torch.float64, generator=random)
    return weight, inputs.T @ inputs / len(inputs), weight.abs().amax(1, keepdim=True) / TOP


def errors(values, weight, square):
    return ((values - weight) @ square * (values - weight)).sum(-1)


def nearest(weight, scale):
    return (weight / scale).round().clamp(-TOP, TOP) * scale


def best_of_all(weight, square, scale):
    """The least error of a row [D] over all rows of the grid."""
    steps = torch.arange(-TOP, TOP + 1, dtype=torch.float64)
    return float(errors(torch.cartesian_prod(*[steps] * len(weight)) * scale, weight, square).min())


def test_rows_are_close_to_the_best_rounding():
    found = best = plain = 0.0
    for seed in range(4):
        weight, square, scales = problem(seed, width=6, rows=2)
        found += float(errors(rounded(weight, square, scales, top=TOP)[0], weight, square).sum())
        plain += float(errors(nearest(weight, scales), weight, square).sum())
        best += sum(best_of_all(row, square, scale) for row, scale in zip(weight, scales, strict=True))
    assert best <= found * (1 + 1e-9)
    assert found < 1.2 * best < 0.7 * plain


def by_elimination(weight, square, scale):
    """The published algorithm: column by column, eliminating each column from the inverse of the rest."""
    weight, inverse = weight.clone(), torch.linalg.inv(square)
    values = torch.zeros_like(weight)
    for column in torch.argsort(square.diagonal(), stable=True).flip(0).tolist():
        values[:, column] = nearest(weight[:, column], scale[:, 0])
        off = (weight[:, column] - values[:, column]) / inverse[column, column]
        weight -= off[:, None] * inverse[column]
        inverse -= torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
        inverse[column] = inverse[:, column] = 0
        inverse[column, column] = 1
        weight[:, column] = values[:, column]
    return values


@pytest.mark.parametrize("block", [1, 5, 64])
def test_one_sweep_is_the_published_elimination(monkeypatch, block):
    monkeypatch.setattr(gptq, "PASSES", 0)
    monkeypatch.setattr(gptq, "_BLOCK", block)
    weight, square, scales = problem()
    torch.testing.assert_close(rounded(weight, square, scales, top=TOP)[0], by_elimination(weight, square, scales))


def test_with_independent_inputs_every_weight_goes_to_its_nearest_step():
    weight, _, scales = problem(seed=1)
    assert torch.equal(rounded(weight, torch.eye(12), scales, top=TOP)[0], nearest(weight, scales))


def test_weights_on_the_grid_are_kept():
    weight, square, scales = problem(seed=2)
    held = nearest(weight, scales)
    torch.testing.assert_close(rounded(held, square, scales, top=TOP)[0], held)


def test_passes_end_at_a_local_optimum(monkeypatch):
    weight, square, scales = problem(seed=3)
    monkeypatch.setattr(gptq, "PASSES", 0)
    before = errors(rounded(weight, square, scales, top=TOP)[0], weight, square)
    monkeypatch.setattr(gptq, "PASSES", 50)
    values = rounded(weight, square, scales, top=TOP)[0]
    least = errors(values, weight, square)
    assert (least <= before + 1e-12).all()
    assert (least < before).any()
    for column, step in itertools.product(range(12), (-1, 1)):
        other = values.clone()
        other[:, column] = (other[:, column] + step * scales[:, 0]).clamp(-TOP * scales[:, 0], TOP * scales[:, 0])
        assert (errors(other, weight, square) >= least - 1e-12).all()


def test_of_several_scales_every_row_takes_the_one_with_the_least_error(monkeypatch):
    monkeypatch.setattr(gptq, "PASSES", 0)
    weight, square, scales = problem(seed=4)
    several = scales * torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64)
    values, chosen = rounded(weight, square, several, top=TOP)
    alone = torch.stack([errors(rounded(weight, square, one[:, None], top=TOP)[0], weight, square) for one in several.T])
    torch.testing.assert_close(errors(values, weight, square), alone.amin(0))
    assert torch.equal(chosen, several.gather(1, alone.argmin(0)[:, None])[:, 0])


def test_pruned_weights_are_zero_and_the_others_round_as_if_those_had_never_been(monkeypatch):
    weight, square, scales = problem(seed=5)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    kept = fitted(square, weight @ square, mask)
    values = rounded(kept, square, scales, mask, top=TOP)[0]
    assert (values[~mask] == 0).all()
    for row, living in enumerate(mask):
        alone = rounded(kept[row : row + 1, living], square[living][:, living], scales[row : row + 1], top=TOP)[0]
        torch.testing.assert_close(values[row, living], alone[0])
    monkeypatch.setattr(gptq, "_AT_ONCE", 1)
    torch.testing.assert_close(rounded(kept, square, scales, mask, top=TOP)[0], values)


def test_wide_pruned_rows_share_a_factor_and_still_gain(monkeypatch):
    weight, square, scales = problem(seed=6, width=40, rows=8)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    kept = fitted(square, weight @ square, mask)
    exact = errors(rounded(kept, square, scales, mask, top=TOP)[0], kept, square).sum()
    monkeypatch.setattr(gptq, "_OWN", 8)
    values = rounded(kept, square, scales, mask, top=TOP)[0]
    assert (values[~mask] == 0).all()
    shared, plain = (errors(some, kept, square).sum() for some in (values, nearest(kept, scales)))
    assert exact < shared < 0.6 * plain


def test_scales_are_plain_behind_what_follows_and_fit_any_row():
    weight = torch.stack([torch.linspace(-1, 1, 5), torch.zeros(5)]).double()
    scales = possible_scales(weight, 7, torch.tensor([0.3, 0.0]))
    assert (scales > 0).all()
    assert float(scales[0, 0] * 7) == pytest.approx(1, abs=0.02)
    mantissas = torch.frexp(scales[0] * 0.3)[0] * 64
    torch.testing.assert_close(mantissas, mantissas.round())


@pytest.mark.parametrize("pruned", [False, True])
def test_rows_with_moments_of_their_own_are_rounded_as_if_alone(pruned):
    problems = [problem(seed, rows=1) for seed in range(3)]
    weight, scales = torch.cat([one for one, _, _ in problems]), torch.cat([scale for _, _, scale in problems])
    scales = scales * torch.tensor([1.0, 0.8])
    mask = torch.arange(weight.shape[1])[None] % torch.tensor([[3], [4], [5]]) > 0 if pruned else None
    weight = weight if mask is None else weight.where(mask, 0.0)
    values, steps = rounded(weight, torch.stack([square for _, square, _ in problems]), scales, mask, top=TOP)
    for row, (_, square, _) in enumerate(problems):
        own = slice(row, row + 1)
        alone, step = rounded(weight[own], square, scales[own], None if mask is None else mask[own], top=TOP)
        torch.testing.assert_close(values[own], alone)
        assert torch.equal(steps[own], step)
