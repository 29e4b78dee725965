"""The contract of activation formats, and each format against its paper."""

import json

import pytest
import torch
from grid_samples import every_activation_grid, every_unit

from paretrim.network.formats import ACTIVATION_GRIDS, activation_grid
from paretrim.network.grids import TOP, Grid


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
@pytest.mark.parametrize("training", [False, True])
def test_no_images_have_no_values(kind, scales, training):
    grid = ACTIVATION_GRIDS[kind].fitted(Grid(0.01, 9), scales).train(training)
    before = grid.grid()
    assert grid(torch.zeros(0, 3, 5, 5)).shape == (0, 3, 5, 5)
    assert grid.grid() == before


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


def test_the_gradients_of_step_and_offset_are_those_of_lsq_plus():
    """Equations 5 to 7: inside, the step's gradient is the rounding error; clipped values move step and offset by the end."""
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


def test_the_reach_of_a_clipped_activation_moves_by_what_is_clipped():
    """PACT, equation 3: 1 for values at or above the reach, else 0; values inside keep their gradient."""
    grid = ACTIVATION_GRIDS["clipped"].fitted(Grid(2 / TOP, 0), "learned")
    x = torch.tensor([[-1.0, 0.5, 1.5, 2.5, 7.0]], requires_grad=True)
    grid(x).backward(torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]))
    torch.testing.assert_close(grid.reach.grad, torch.tensor([24.0]))
    assert x.grad.tolist() == [[0.0, 2.0, 4.0, 0.0, 0.0]]


def test_both_ends_of_a_clipped_activation_move_with_its_reach():
    grid = ACTIVATION_GRIDS["clipped"].fitted(Grid(2 / TOP, 51), "learned")  # -0.4 to 1.6
    grid(torch.tensor([[-3.0, 0.5, 3.0]])).backward(torch.ones(1, 3))
    torch.testing.assert_close(grid.reach.grad, torch.tensor([204 / 255 - 51 / 255]))
