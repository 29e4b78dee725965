"""What every number format of the tables promises, and the ternary and clipped ones against their papers."""

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paretrim.errors import CorruptFile
from paretrim.network.codebook import k_means
from paretrim.network.formats import ACTIVATION_GRIDS, UNIFORM, WEIGHT_GRIDS, activation_grid, weight_grid
from paretrim.network.grids import SMALLEST_SCALE, TOP, Grid, WeightSettings

FITS = [
    pytest.param(kind, bits, scales, priced, id=f"{kind}-{bits}-{scales}{'-priced' * priced}")
    for kind, grid in WEIGHT_GRIDS.items()
    for bits in grid.widths
    for scales in ("learned", "observed")
    for priced in (False, True)
]
STANDING = ("codebook", "powers")
"""Grids under which weights stand still while something else trains."""

IDEMPOTENT = [fit for fit in FITS if fit.values[0] not in ("dorefa", "clip-q") and fit.values[2:] == ("learned", False)]
"""A price moves weights again, an observed range shrinks with a clipped weight, tanh bends a weight again, and a rounded mean may
lie in the next of many intervals."""

every_weight_grid = pytest.mark.parametrize(("kind", "bits", "scales", "priced"), FITS)
every_activation_grid = pytest.mark.parametrize("kind", ACTIVATION_GRIDS)
every_unit = pytest.mark.parametrize("unit", [1e-30, 1e-6, 1.0, 1e6, 1e30])


def a_weight(unit=1.0):
    """Dense and sparse channels, one of zeros and one far below the others."""
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3)
    weight[1][torch.rand(5, 3, 3) < 0.6] = 0
    weight[2] = 0
    weight[3] *= 1e-4
    return weight * unit


def fitted(weight, kind, bits, scales, priced):
    price = (weight.abs().amax() * 0.02).square().expand(len(weight)).clone() if priced else None
    grid = WEIGHT_GRIDS[kind].fitted(weight, WeightSettings(bits, scales, torch.full((len(weight),), 0.9), price))
    if grid.priced is not None:
        grid.priced.recount_(weight)
    return grid


def in_columns(scale):
    return scale.reshape(-1, 1, 1, 1)


@every_weight_grid
@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_a_weight_is_its_integers_times_their_scales(kind, bits, scales, priced, unit):
    weight = a_weight(unit)
    grid = fitted(weight, kind, bits, scales, priced)
    moved, (integers, scale) = grid(weight), grid.integers(weight)
    assert integers.dtype == torch.int8
    assert scale.shape == (len(weight),)
    assert (scale >= SMALLEST_SCALE).all()
    assert torch.equal(moved, integers.float() * in_columns(scale))
    assert all(len(row.unique()) <= 2**grid.bits + 1 for row in integers)
    assert integers.any()
    assert grid.bits == bits
    assert (integers[weight == 0] == 0).all()
    assert kind == "codebook" or (integers.sign() * weight.sign() >= 0).all()  # one cluster may hold both signs
    if kind in (UNIFORM, "ternary"):
        assert integers.abs().max() <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize(("kind", "bits", "scales", "priced"), IDEMPOTENT)
def test_a_weight_on_the_grid_stays_where_it_is(kind, bits, scales, priced):
    weight = a_weight()
    grid = fitted(weight, kind, bits, scales, priced)
    moved, before = grid(weight).detach(), grid.integers(weight)
    integers, scale = grid.integers(moved)
    torch.testing.assert_close(integers * in_columns(scale), before[0] * in_columns(before[1]))


@every_weight_grid
@every_unit
def test_a_weight_in_any_unit_has_the_same_integers_and_finite_gradients(kind, bits, scales, priced, unit):
    if priced and not 1e-15 < unit < 1e15:
        return  # squares of the weight leave float32: the stage refuses a rate there
    exact = 2.0 ** round(torch.log2(torch.tensor(unit)).item())
    weight = a_weight(exact).requires_grad_()
    grid = fitted(weight.detach(), kind, bits, scales, priced)
    usual = fitted(a_weight(), kind, bits, scales, priced)
    assert torch.equal(grid.integers(weight)[0], usual.integers(a_weight())[0])
    moved = grid(weight)
    if kind == "powers":
        assert not moved.requires_grad  # nothing trains once all weights have their powers
        return
    moved.backward(torch.randn_like(weight))
    trained = [*grid.parameters(), *([weight] if kind not in STANDING else [])]
    assert all(one.grad.isfinite().all() and one.grad.any() for one in trained)
    assert trained
    assert (weight.grad is None) == (kind in STANDING)


@every_weight_grid
def test_scores_get_a_gradient_of_every_weight(kind, bits, scales, priced):
    """In evaluation mode, also where weights stand still while they train."""
    weight = a_weight().requires_grad_()
    upstream = torch.randn_like(weight)
    fitted(weight.detach(), kind, bits, scales, priced).eval()(weight).backward(upstream)
    assert weight.grad.isfinite().all()
    assert (weight.grad * upstream).sum() > 0


@every_weight_grid
def test_the_grid_of_some_rows_gives_their_integers(kind, bits, scales, priced):
    weight, kept = a_weight(), torch.tensor([4, 0, 3])
    grid = fitted(weight, kind, bits, scales, priced)
    integers, scale = grid.integers(weight)
    inputs = torch.tensor([0, 1, 2, 3, 4])
    some, some_scale = grid.rows(kept, inputs).integers(weight[kept])
    assert torch.equal(some, integers[kept])
    assert torch.equal(some_scale, scale[kept])
    assert grid.rows(kept, inputs).bits == bits


@every_weight_grid
def test_a_weight_grid_is_restored_from_its_facts_and_tensors(kind, bits, scales, priced):
    weight = a_weight()
    grid = fitted(weight, kind, bits, scales, priced)
    facts = json.loads(json.dumps(grid.facts()))
    tensors = copy.deepcopy(grid.state_dict())
    again = weight_grid(facts, torch.zeros_like(weight), tensors)
    again.load_state_dict(tensors)
    assert torch.equal(again(weight), grid(weight))
    assert torch.equal(again.integers(weight)[0], grid.integers(weight)[0])
    assert (again.facts(), again.bits, type(again)) == (grid.facts(), grid.bits, WEIGHT_GRIDS[kind])
    assert (again.priced is None) == (grid.priced is None)
    assert (again.trained_scale is None) == (grid.trained_scale is None)


@every_weight_grid
def test_a_weight_of_zeros_stays_zeros(kind, bits, scales, priced):
    weight = torch.zeros(3, 4, 1, 1)
    grid = fitted(weight, kind, bits, scales, priced)
    integers, scale = grid.integers(weight)
    assert not integers.any()
    assert not grid(weight).any()
    assert (scale >= SMALLEST_SCALE).all()


@every_weight_grid
def test_a_trained_scale_is_the_scale_of_the_integers(kind, bits, scales, priced):
    weight = a_weight()
    grid = fitted(weight, kind, bits, scales, priced)
    before = grid.integers(weight)[1].clone()
    with torch.no_grad():
        for parameter in grid.parameters():
            parameter.mul_(2)
    trained = [id(parameter) for parameter in grid.parameters()]
    assert trained == [id(grid.trained_scale)] or grid.trained_scale is None
    assert torch.equal(grid.integers(weight)[1], before * (2 if trained else 1))


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_bits_that_have_a_price_have_a_gradient(bits, scales):
    weight = a_weight().requires_grad_()
    fitted(weight.detach(), "uniform", bits, scales, True).priced.bits_of(weight).backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.any()


def test_uniform_grids_price_bits_and_ternary_ones_do_not():
    weight = a_weight()
    assert fitted(weight, "uniform", 4, "learned", True).priced is not None
    assert fitted(weight, "uniform", 4, "learned", False).priced is None
    assert fitted(weight, "ternary", 2, "learned", True).priced is None


@every_activation_grid
@pytest.mark.parametrize("zero_point", [0, 90])
@every_unit
def test_an_activation_is_on_its_grid(kind, zero_point, unit):
    torch.manual_seed(0)
    start = Grid(0.01 * unit, zero_point)
    grid = ACTIVATION_GRIDS[kind].fitted(start, "learned")
    x = (torch.randn(4, 3, 5, 5) * unit).requires_grad_()
    moved, found = grid(x), grid.grid()
    assert found.zero_point == zero_point
    assert found.scale == pytest.approx(start.scale, rel=1e-6)
    levels = torch.round(x / found.scale).clamp(-zero_point, TOP - zero_point)
    torch.testing.assert_close(moved / unit, levels * (found.scale / unit), rtol=1e-6, atol=1e-7)
    assert float(torch.tensor(found.scale)) == found.scale
    assert not grid(torch.zeros(1, 3)).any()
    moved.backward(torch.randn_like(moved))
    assert x.grad.isfinite().all()
    assert x.grad.any()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in grid.parameters())


@every_activation_grid
@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_an_activation_grid_is_restored_from_its_facts_and_tensors(kind, scales):
    grid = ACTIVATION_GRIDS[kind].fitted(Grid(0.037, 91), scales).eval()
    again = activation_grid(json.loads(json.dumps(grid.facts()))).eval()
    again.load_state_dict(grid.state_dict())
    x = torch.randn(4, 50)
    assert torch.equal(again(x), grid(x))
    assert (again.grid(), again.facts(), type(again)) == (grid.grid(), grid.facts(), ACTIVATION_GRIDS[kind])


@every_activation_grid
def test_an_activation_keeps_its_type(kind):
    grid = ACTIVATION_GRIDS[kind].fitted(Grid(2.0**-8, 20), "learned")
    assert grid(torch.linspace(-0.2, 1.1, 500).reshape(1, -1).bfloat16()).dtype == torch.bfloat16


def test_grids_are_modules():
    assert all(issubclass(grid, nn.Module) for table in (WEIGHT_GRIDS, ACTIVATION_GRIDS) for grid in table.values())


def test_grids_and_settings_that_are_unknown_are_refused():
    with pytest.raises(
        CorruptFile,
        match="its grid is 'octal'; this version knows uniform, ternary, dorefa, codebook, powers, clip-q, trained-ternary",
    ):
        weight_grid({"grid": "octal"}, a_weight(), {})
    with pytest.raises(CorruptFile, match="its grid is 'octal'; this version knows uniform, clipped, offset"):
        activation_grid({"grid": "octal"})
    with pytest.raises(ValueError, match="scales are 'guessed' and must be learned or observed"):
        activation_grid("guessed")


def test_uniform_grids_are_named_as_before_there_were_others():
    """Candidates of earlier versions are read, and those of today's grids are the same bytes."""
    assert ACTIVATION_GRIDS[UNIFORM].fitted(Grid(0.5, 3), "observed").facts() == "observed"
    assert fitted(a_weight(), UNIFORM, 4, "learned", False).facts() == {"bits": 4, "scales": "learned"}


def test_nothing_but_the_network_and_its_quantization_knows_a_grid():
    source = Path(__file__).resolve().parent.parent.parent / "src" / "paretrim"
    classes = [grid for table in (WEIGHT_GRIDS, ACTIVATION_GRIDS) for grid in table.values()]
    names = {word for grid in classes for word in (grid.__name__, f"import {grid.__module__}", f"from {grid.__module__} ")}
    for path in source.rglob("*.py"):
        place = path.relative_to(source).as_posix()
        if not place.startswith(("network/", "stages/quantize/")):
            assert not any(name in path.read_text(encoding="utf-8") for name in names), place


def test_ternary_weights_by_hand():
    """Mean magnitude 2, threshold 1.4; the scale is the mean of 2, 3 and 4. A pruned weight moves neither."""
    weight = torch.tensor([[1.0, -2.0, 3.0, -4.0, 0.0], [1.0, 1.0, -1.0, 1.0, 0.5]])
    weight[0, 0] = 0.5
    weight[0, 4] = 0.5
    signs, scale = fitted(weight, "ternary", 2, "learned", False).integers(weight)
    assert signs.tolist() == [[0, -1, 1, -1, 0], [1, 1, -1, 1, 0]]
    assert scale.tolist() == [3.0, 1.0]
    pruned = torch.cat([weight, torch.zeros(2, 20)], 1)
    assert fitted(pruned, "ternary", 2, "learned", False).integers(pruned)[1].tolist() == [3.0, 1.0]


def test_ternary_is_nearly_the_least_squares_ternary():
    """The paper's threshold is an approximation of the best one, found here by trying all."""
    torch.manual_seed(3)
    weight = torch.randn(1, 400, 1, 1)
    grid = fitted(weight, "ternary", 2, "learned", False)
    found = (grid(weight) - weight).square().sum()
    sizes = weight.flatten().abs().sort(descending=True).values
    sums, counts = sizes.cumsum(0), torch.arange(1, 401)
    best = weight.square().sum() - (sums.square() / counts).max()
    assert best <= found * (1 + 1e-6)
    assert found <= 1.05 * best


def test_the_ternary_gradient_goes_straight_through():
    weight = a_weight().requires_grad_()
    upstream = torch.randn_like(weight)
    fitted(weight.detach(), "ternary", 2, "learned", False)(weight).backward(upstream)
    assert torch.equal(weight.grad, upstream)


@pytest.mark.parametrize("bits", [2, 3, 7])
def test_dorefa_is_its_formula(bits):
    """Equations 5 and 9 of the paper with k bits, written as they stand; times the largest weight of the channel."""
    torch.manual_seed(1)
    weight = torch.randn(3, 50) * 0.2
    weight[0, 0] = 0.75  # so that tanh counts in 1
    levels = 2**bits - 1
    bent = torch.tanh(weight)
    unit = bent / (2 * bent.abs().amax(1, keepdim=True)) + 0.5
    expected = (2 * torch.round(unit * levels) / levels - 1) * weight.abs().amax(1, keepdim=True)
    grid = fitted(weight, "dorefa", bits, "learned", False)
    torch.testing.assert_close(grid(weight), expected)
    assert (grid.integers(weight)[0] % 2 != 0).all()


def test_every_centroid_is_the_mean_of_its_members():
    torch.manual_seed(2)
    weight = torch.randn(4, 300) ** 3
    weight[torch.rand(4, 300) < 0.5] = 0
    grid = fitted(weight, "codebook", 3, "learned", False)
    centroids, alive = grid.centroids.detach(), weight[weight != 0]
    nearest = (alive[:, None] - centroids).abs().argmin(1)
    for place in nearest.unique():
        torch.testing.assert_close(centroids[place], alive[nearest == place].mean(), rtol=1e-5, atol=0)
    moved, step = grid(weight).detach(), float(grid.integers(weight)[1][0])
    assert (moved[weight != 0] - centroids[nearest]).abs().max() <= step * 0.5001
    assert step == pytest.approx(float(centroids.abs().max()) / 127)


def test_centroids_begin_evenly_spaced_and_a_few_values_are_found_exactly():
    values = torch.tensor([-3.0, -3.0, -1.0, 0.5, 5.0])
    assert k_means(values, 4, usual=1.0).tolist() == pytest.approx([-3.0, -0.25, 7 / 3, 5.0])
    assert k_means(values[:0], 4, usual=0.75).tolist() == pytest.approx([-0.75, -0.25, 0.25, 0.75])
    assert k_means(values[:1], 4, usual=1.0).tolist() == [-3.0] * 4


def test_k_means_finds_the_best_two_clusters_of_a_line():
    torch.manual_seed(4)
    values = torch.cat([torch.randn(40) * 0.5 - 2, torch.randn(60) + 2]).sort().values

    def error(cut):
        return sum(float((part - part.mean()).square().sum()) for part in (values[:cut], values[cut:]))

    best = min(range(1, 100), key=error)
    expected = [float(values[:best].mean()), float(values[best:].mean())]
    assert k_means(values, 2, usual=1.0).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_a_centroid_is_the_sum_over_its_members():
    """Over the square root of their number; members stay those of the first centroids, however far these have moved."""
    torch.manual_seed(2)
    weight = torch.randn(4, 300)
    weight[:, ::3] = 0
    grid = fitted(weight, "codebook", 2, "learned", False)
    nearest = (weight[..., None] - grid.centroids.detach()).abs().argmin(2)
    with torch.no_grad():
        grid.centroids.copy_(torch.tensor([4.0, 1.0, -2.0, 0.0]))
    upstream = torch.randn_like(weight)
    moved = grid(weight)
    moved.backward(upstream)
    for place in range(4):
        members = (nearest == place) & (weight != 0)
        assert float(grid.centroids.grad[place]) == pytest.approx(
            float(upstream[members].sum()) / float(members.sum()) ** 0.5, rel=1e-4
        )
        assert (moved[members] - grid.centroids[place]).abs().max() <= 4 / 254 * 1.0001
    assert not moved[weight == 0].any()


@pytest.mark.parametrize(("bits", "powers"), [(2, 1), (3, 2), (4, 4), (5, 7)])
def test_powers_of_two_by_the_rule_of_the_paper(bits, powers):
    """Section 2.1, one weight after the other; of the eight powers of 5 bits the smallest is left out."""
    torch.manual_seed(5)
    weight = torch.cat([torch.randn(2, 150) * 0.3, torch.tensor([[0.375, 0.75, 0.1875] * 50])])
    largest = 2.0 ** np.floor(np.log2(4 * float(weight.abs().max()) / 3))
    values = [0.0] + [largest * 2.0**-place for place in reversed(range(powers))]
    expected = torch.zeros_like(weight)
    for place in np.ndindex(*weight.shape):
        for below, value in itertools.pairwise(values):
            if (below + value) / 2 <= abs(float(weight[place])) < 3 * value / 2:
                expected[place] = value * np.sign(float(weight[place]))
    assert torch.equal(fitted(weight, "powers", bits, "learned", False)(weight), expected)


def test_the_largest_weights_are_fixed_first_and_stay():
    """INQ, sections 2.2 and 2.3: half, then three quarters, then all; what is free trains, what is fixed does not."""
    torch.manual_seed(6)
    weight = nn.Parameter(torch.randn(4, 25))
    with torch.no_grad():
        weight[:, ::5] = 0
    grid = fitted(weight.detach(), "powers", 4, "learned", False)
    expected, sizes = grid(weight).detach(), weight.detach().abs()
    grid.fix_largest_(weight, 0.5)
    half = grid.fixed != -128
    assert int(half.sum()) == 40
    assert sizes[half].min() >= sizes[~half].max()
    moved = grid(weight)
    assert torch.equal(moved[half], expected[half])
    assert torch.equal(moved[~half], weight[~half])
    moved.sum().backward()
    assert torch.equal(weight.grad, (~half).float())
    with torch.no_grad():
        weight.mul_(0.7)  # an optimizer's momentum and decay move what is fixed too, and nothing comes of it
    assert torch.equal(grid(weight)[half], expected[half])
    grid.fix_largest_(weight, 0.5)
    assert torch.equal(grid.fixed != -128, half)
    part = grid.rows(torch.tensor([2, 0]), torch.arange(3, 20))
    assert torch.equal(part.integers(weight[[2, 0]][:, 3:20])[0], grid.integers(weight)[0][[2, 0]][:, 3:20])
    assert torch.equal(part(weight[[2, 0]][:, 3:20]), grid(weight)[[2, 0]][:, 3:20])
    again = weight_grid(grid.facts(), weight.detach(), grid.state_dict())
    again.load_state_dict(grid.state_dict())
    assert torch.equal(again(weight), grid(weight))
    with pytest.raises(ValueError, match=r"'fixed' has shape \(4, 25\) and must have \(4, 24\)"):
        weight_grid(grid.facts(), weight.detach()[:, 1:], grid.state_dict())
    grid.fix_largest_(weight, 0.75)
    assert int((grid.fixed != -128).sum()) == 60
    grid.fix_largest_(weight, 1.0)
    assert grid.fixed is None
    integers, scale = grid.integers(weight)
    assert torch.equal(weight.detach(), integers * scale[:, None])
    assert torch.equal(weight.detach()[half], expected[half])
    assert not weight.detach()[:, ::5].any()
    assert set(integers.abs().unique().tolist()) <= {0, 1, 2, 4, 8}


def test_trained_ternary_by_hand():
    """Thresholds 0.2 and 0.1; values begin at the means of their members, the smaller one is rounded to 1/127 of the larger."""
    weight = torch.tensor([[4.0, 2.0, -1.0, 0.1, 0.0], [1.0, -2.0, -0.05, 0.05, 0.0]], requires_grad=True)
    grid = fitted(weight.detach(), "trained-ternary", 2, "learned", False)
    assert (grid.positive.tolist(), grid.negative.tolist()) == ([3.0, 1.0], [1.0, 2.0])
    assert grid.integers(weight)[0].tolist() == [[127, 127, -42, 0, 0], [64, -127, 0, 0, 0]]
    grid(weight).backward(torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0], [2.0, 4.0, 6.0, 8.0, 1.0]]))
    assert grid.positive.grad.tolist() == pytest.approx([4 / 2**0.5, 2.0])
    assert grid.negative.grad.tolist() == pytest.approx([-5.0, -4.0])
    assert weight.grad.tolist() == [[0.75, 2.25, 1.25, 7.0, 9.0], [1.0, 4.0, 6.0, 8.0, 1.0]]


def test_the_gradients_of_step_and_offset_are_those_of_lsq_plus():
    """Equations 5 to 7 with their scale: values inside move the step by their rounding, clipped ones both by the end."""
    grid = ACTIVATION_GRIDS["offset"].fitted(Grid(0.5, 4), "learned")  # -2 to 125.5
    x = torch.tensor([[-3.0, 0.2, 1.3, 200.0]], requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    moved = grid(x)
    assert moved.tolist() == [[-2.0, 0.0, 1.5, 125.5]]
    moved.backward(upstream)
    share = (4 * 255) ** -0.5
    step = 1 * 0 + 2 * (4 - 4.4) + 4 * (7 - 6.6) + 8 * 255
    assert grid.scale.grad.item() == pytest.approx(step * share, rel=1e-5)
    assert grid.offset.grad.item() == pytest.approx((1 + 8) * share, rel=1e-5)
    torch.testing.assert_close(x.grad, torch.tensor([[0.0, 2.0, 4.0, 0.0]]))


def test_an_offset_moves_the_zero_point_and_zero_stays_exact():
    grid = ACTIVATION_GRIDS["offset"].fitted(Grid(0.5, 4), "learned")
    with torch.no_grad():
        grid.offset.copy_(torch.tensor([-2.6]))
    assert grid.grid() == Grid(0.5, 5)
    assert grid(torch.tensor([[0.0, -9.0]])).tolist() == [[0.0, -2.5]]
    assert [*ACTIVATION_GRIDS["offset"].fitted(Grid(0.5, 0), "learned").parameters()][1:] == []


def test_the_dorefa_gradient_is_that_of_what_is_rounded():
    torch.manual_seed(1)
    weight = (torch.randn(2, 9).double() * 0.2).requires_grad_()
    grid = fitted(weight.detach(), "dorefa", 3, "learned", False)
    upstream = torch.randn_like(weight)
    grid(weight).backward(upstream)

    def bent(values):
        shares = torch.tanh(values / grid.unit)
        return (shares / shares.abs().amax(1, keepdim=True) * grid.reach[:, None] * upstream).sum()

    for place in np.ndindex(2, 9):
        moved = torch.zeros_like(weight)
        moved[place] = 1e-6
        slope = (bent(weight.detach() + moved) - bent(weight.detach() - moved)) / 2e-6
        assert float(weight.grad[place]) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


def test_the_reach_of_a_clipped_activation_moves_by_what_is_clipped():
    """PACT, equation 3: 1 where a value is at or above the reach, else 0; values inside keep their gradient."""
    grid = ACTIVATION_GRIDS["clipped"].fitted(Grid(2 / TOP, 0), "learned")
    x = torch.tensor([[-1.0, 0.5, 1.5, 2.5, 7.0]], requires_grad=True)
    grid(x).backward(torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]))
    torch.testing.assert_close(grid.reach.grad, torch.tensor([24.0]))
    assert x.grad.tolist() == [[0.0, 2.0, 4.0, 0.0, 0.0]]


def test_both_ends_of_a_clipped_activation_move_with_its_reach():
    grid = ACTIVATION_GRIDS["clipped"].fitted(Grid(2 / TOP, 51), "learned")  # -0.4 to 1.6
    grid(torch.tensor([[-3.0, 0.5, 3.0]])).backward(torch.ones(1, 3))
    torch.testing.assert_close(grid.reach.grad, torch.tensor([204 / 255 - 51 / 255]))
