"""A step of training changes no trained scale by more than a hundredth of it."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import SHORT, dense, resources
from torch import nn

from paretrim.network.clipped import ClippedActivations
from paretrim.network.constraints import trained_scales
from paretrim.network.grids import Grid
from paretrim.network.offset import OffsetActivations
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
    step_within_(torch.optim.SGD([own], lr=rate), [own])
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
    (scale,) = trained_scales(nn.Sequential(grid, nn.ReLU()))
    assert any(scale is parameter for parameter in grid.parameters())


def test_observed_scales_do_not_train():
    grids = [ActivationQuantizer(Grid(0.1, 0), scales="observed"), WeightQuantizer(torch.ones(2, 4), bits=8, scales="observed")]
    assert not trained_scales(nn.Sequential(*grids))


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
