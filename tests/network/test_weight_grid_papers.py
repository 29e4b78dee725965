"""Number formats of weights against their papers: ternary, DoReFa, codebooks, powers of two, trained ternary."""

import itertools

import numpy as np
import pytest
import torch
from grid_samples import a_weight, fitted
from torch import nn

from paretrim.network.codebook import k_means
from paretrim.network.formats import weight_grid


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


def test_ternary_is_close_to_the_least_squares_optimum():
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
    """Equations 5 and 9 of the paper with k bits, times the largest weight of the channel."""
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
    """Divided by the square root of their number; members stay assigned, however far the centroids move."""
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
    """INQ, sections 2.2 and 2.3: half, three quarters, all; free weights train, fixed ones do not."""
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
    """Thresholds 0.2 and 0.1; the channels' members have mean sizes 2 and 1, so the units are 1 and 1/2. In these, the positive
    members are 4, 2 and 2, the negative ones -1, -1, -1 and -3. The smaller value is rounded to 1/127 of the larger."""
    weight = torch.tensor([[4.0, 2.0, -1.0, -1.0, 0.1], [1.0, -0.5, -1.5, 0.05, 0.0]], requires_grad=True)
    grid = fitted(weight.detach(), "trained-ternary", 2, "learned", False)
    assert (grid.units.tolist(), grid.positive.tolist()) == ([1.0, 0.5], [pytest.approx(8 / 3)])
    assert grid.negative.tolist() == [1.5]  # of 1, 1, 1 and 3
    integers, scale = grid.integers(weight)
    assert integers.tolist() == [[127, 127, -71, -71, 0], [127, -71, -71, 0, 0]]
    assert (127 * scale).tolist() == pytest.approx([8 / 3, 4 / 3])
    grid(weight).backward(torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0], [2.0, 4.0, 6.0, 8.0, 1.0]]))
    assert grid.positive.grad.tolist() == pytest.approx([(1 + 3 + 2 / 2) / 3**0.5])
    assert grid.negative.grad.tolist() == pytest.approx([-(5 + 7 + (4 + 6) / 2) / 4**0.5])
    up, down = 8 / 3 / 4, 1.5 / 4
    assert weight.grad[0].tolist() == pytest.approx([up, 3 * up, 5 * down, 7 * down, 9.0])
    up, down = 4 / 3 / 1.5, 0.75 / 1.5
    assert weight.grad[1].tolist() == pytest.approx([2 * up, 4 * down, 6 * down, 8.0, 1.0])


def test_trained_ternary_has_the_same_integers_in_every_channel():
    torch.manual_seed(2)
    weight = torch.randn(8, 40) * torch.rand(8, 1).exp()
    assert len(fitted(weight, "trained-ternary", 2, "learned", False).integers(weight)[0].unique()) == 3


def test_the_dorefa_gradient_passes_through_the_rounding():
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
