"""A step of training changes no trained scale by more than a hundredth of it."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import SHORT, dense, resources
from torch import nn

from paretrim.network.clipped import ClippedActivations
from paretrim.network.codebook import Codebook
from paretrim.network.constraints import paced_values
from paretrim.network.grids import Grid, PacedValue, WeightSettings
from paretrim.network.offset import OffsetActivations
from paretrim.network.trained_ternary import TrainedTernaryWeights
from paretrim.network.uniform import ActivationQuantizer, WeightQuantizer
from paretrim.run.pipeline import run_stage
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.optimizer import MOST_CHANGE, step_within_

SETTLING = 0.016
"""Largest relative change of a scale when the stage ends and scales become plain numbers."""


def stepped(scale, gradient, rate=1.0):
    """A parameter and the plain result, each after one step of SGD."""
    own, plain = (nn.Parameter(torch.tensor(scale)) for _ in range(2))
    for parameter in (own, plain):
        parameter.grad = torch.tensor(gradient)
    step_within_(torch.optim.SGD([own], lr=rate), [PacedValue(own, own.abs)])
    torch.optim.SGD([plain], lr=rate).step()
    return own.detach(), plain.detach()


def test_a_large_step_ends_at_the_bound():
    own, plain = stepped([0.02, 0.02, 0.5], [1.0, -1.0, 0.001])
    assert plain[0] < 0  # the plain step goes through zero
    torch.testing.assert_close(own, torch.tensor([0.02 * (1 - MOST_CHANGE), 0.02 * (1 + MOST_CHANGE), plain[2].item()]))


def test_a_small_step_is_the_plain_one_bit_for_bit():
    own, plain = stepped([0.02, 3.0, 1e-6], [1e-4, -0.01, 1e-9])
    assert torch.equal(own, plain)


def test_a_scale_below_zero_is_bounded_by_its_size_too():
    own, _ = stepped([-0.02], [1.0])
    torch.testing.assert_close(own, torch.tensor([-0.02 * (1 + MOST_CHANGE)]))


@pytest.mark.parametrize(
    "grid",
    [
        ActivationQuantizer(Grid(0.1, 0), scales="learned"),
        ClippedActivations(Grid(0.1, 0)),
        OffsetActivations(Grid(0.1, 3)),
        WeightQuantizer(torch.ones(2, 4), bits=8, scales="learned"),
    ],
    ids=lambda grid: type(grid).__name__,
)
def test_every_grid_that_trains_its_scale_says_so(grid):
    scale = paced_values(nn.Sequential(grid, nn.ReLU()))[0].value
    assert any(scale is parameter for parameter in grid.parameters())


@pytest.mark.parametrize(
    "grid",
    [
        ActivationQuantizer(Grid(0.1, 0), scales="learned"),
        ClippedActivations(Grid(0.1, 0)),
        OffsetActivations(Grid(0.1, 3)),
        OffsetActivations(Grid(0.1, 0)),
        WeightQuantizer(torch.ones(2, 4), bits=8, scales="learned"),
        Codebook(torch.tensor([-1.0, 0.0, 0.001, 0.5]), bits=2),
        TrainedTernaryWeights(torch.ones(3), torch.ones(1), torch.ones(1)),
    ],
    ids=lambda grid: type(grid).__name__,
)
def test_nothing_that_a_grid_trains_is_left_out(grid):
    assert {id(one.value) for one in paced_values(grid)} == {id(parameter) for parameter in grid.parameters()}


def test_a_centroid_near_zero_moves_by_the_size_of_the_largest():
    book = Codebook(torch.tensor([-1.0, 0.0, 0.001, 0.5]), bits=2)
    book.centroids.grad = torch.tensor([5.0, -5.0, 5.0, 0.001])
    step_within_(torch.optim.SGD([book.centroids], lr=1.0), paced_values(book))
    torch.testing.assert_close(book.centroids.detach(), torch.tensor([-1.01, 0.01, -0.009, 0.499]))


@pytest.mark.parametrize("kind", [Codebook, TrainedTernaryWeights])
def test_shared_values_survive_a_learning_rate_far_too_high(kind):
    torch.manual_seed(0)
    weight = torch.randn(16, 8, 3, 3)
    grid = kind.fitted(weight, WeightSettings(2, "learned"))
    before = [parameter.detach().clone() for parameter in grid.parameters()]
    optimizer = torch.optim.SGD(grid.parameters(), lr=10.0, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        (grid.train()(weight) - 2 * weight).square().sum().backward()
        step_within_(optimizer, paced_values(grid))
    for old, new in zip(before, grid.parameters(), strict=True):
        assert (new - old).abs().max() <= old.abs().max() * ((1 + MOST_CHANGE) ** 20 - 1) * 1.001


def test_observed_scales_do_not_train():
    grids = [ActivationQuantizer(Grid(0.1, 0), scales="observed"), WeightQuantizer(torch.ones(2, 4), bits=8, scales="observed")]
    assert not paced_values(nn.Sequential(*grids))


def test_a_stage_with_a_learning_rate_far_too_high_keeps_its_scales():
    stage = Quantize(budget=replace(SHORT, learning_rate=1.0))
    given = resources("residual")
    before = stage.begin(dense("residual").network, given).network.state_dict()
    after = run_stage(dense("residual"), stage, given).network.state_dict()
    names = [name for name in before if name.endswith("scale")]
    assert len(names) > 10
    steps = SHORT.epochs * len(given.train(SHORT.batch_size))
    for name in names:
        change = (after[name] / before[name]).log().abs().max()
        assert change < steps * math.log(1 / (1 - MOST_CHANGE)) + SETTLING
