"""The contract of every number format, and ternary and clipped formats against their papers."""

import copy
import json
from pathlib import Path

import pytest
import torch
from grid_samples import FITS, GROUP, a_weight, every_unit, every_weight_grid, fitted, in_columns
from torch import nn

from paretrim.errors import CorruptFile
from paretrim.network.formats import ACTIVATION_GRIDS, UNIFORM, WEIGHT_GRIDS, activation_grid, weight_grid
from paretrim.network.grids import SMALLEST_SCALE, Grid

STANDING = ("codebook", "powers")
"""Grids under which weights stand still while something else trains."""

IDEMPOTENT = [fit for fit in FITS if fit.values[0] not in ("dorefa", "clip-q") and fit.values[2:] == ("learned", False)]
"""A price moves weights again, an observed range shrinks with a clipped weight, tanh bends a weight again, and a rounded mean may
lie in the next of many intervals."""


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
    groups = integers.split(GROUP, 1) if kind == "grouped" else [integers]
    assert all(len(row.unique()) <= 2**grid.bits + 1 for group in groups for row in group)
    assert integers.any()
    assert grid.bits == bits
    assert (integers[weight == 0] == 0).all()
    assert kind == "codebook" or (integers.sign() * weight.sign() >= 0).all()  # one cluster may hold both signs
    if kind in (UNIFORM, "ternary"):
        assert integers.abs().max() <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize(("kind", "bits", "scales", "priced"), IDEMPOTENT)
def test_quantizing_is_idempotent(kind, bits, scales, priced):
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
def test_scores_see_gradients_of_all_weights(kind, bits, scales, priced):
    """In evaluation mode, also for weights that do not train."""
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
def test_priced_bits_have_a_gradient(bits, scales):
    weight = a_weight().requires_grad_()
    fitted(weight.detach(), "uniform", bits, scales, True).priced.bits_of(weight).backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.any()


def test_uniform_grids_price_bits_and_ternary_ones_do_not():
    weight = a_weight()
    assert fitted(weight, "uniform", 4, "learned", True).priced is not None
    assert fitted(weight, "uniform", 4, "learned", False).priced is None
    assert fitted(weight, "ternary", 2, "learned", True).priced is None


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


def test_uniform_grids_keep_their_stored_names():
    """Candidates of earlier versions are readable, and today's are written with the same bytes."""
    assert ACTIVATION_GRIDS[UNIFORM].fitted(Grid(0.5, 3), "observed").facts() == "observed"
    assert fitted(a_weight(), UNIFORM, 4, "learned", False).facts() == {"bits": 4, "scales": "learned"}


def test_only_network_and_quantization_name_grid_classes():
    source = Path(__file__).resolve().parent.parent.parent / "src" / "paretrim"
    classes = [grid for table in (WEIGHT_GRIDS, ACTIVATION_GRIDS) for grid in table.values()]
    names = {word for grid in classes for word in (grid.__name__, f"import {grid.__module__}", f"from {grid.__module__} ")}
    for path in source.rglob("*.py"):
        place = path.relative_to(source).as_posix()
        if not place.startswith(("network/", "stages/quantize/")):
            assert not any(name in path.read_text(encoding="utf-8") for name in names), place
