"""What every grid of weights promises: trained is what ships, zeros stay zero, and it comes back from a file."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.errors import CorruptFile
from paretrim.network.formats import ACTIVATION_GRIDS, WEIGHT_GRIDS, activation_grid, weight_grid
from paretrim.network.grids import Grid
from paretrim.network.ternary import TernaryWeights
from paretrim.network.uniform import ActivationQuantizer, WeightQuantizer

MAKERS = {
    "learned": lambda weight: WeightQuantizer(weight, bits=4, scales="learned"),
    "observed": lambda weight: WeightQuantizer(weight, bits=8, scales="observed"),
    "ternary": lambda _weight: TernaryWeights(),
}
every_grid = pytest.mark.parametrize("kind", MAKERS)


def weight(seed, shape=(6, 5, 3, 3), unit=1.0):
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=random) * unit
    return drawn * (torch.rand(shape, generator=random) > 0.3)


def shipped(grid, tensor):
    integers, scale = grid.integers(tensor)
    assert integers.dtype == torch.int8
    assert scale.shape == (len(tensor),)
    assert bool((scale > 0).all())
    return integers.float() * scale.reshape(-1, *[1] * (tensor.dim() - 1))


def test_every_grid_of_the_table_is_tried_here():
    made = {str(dict(make(weight(0)).facts()).get("grid", "uniform")) for make in MAKERS.values()}
    assert made == set(WEIGHT_GRIDS)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(MAKERS)), st.integers(0, 999), st.floats(-30, 30))
def test_what_it_computes_is_what_ships_in_any_unit(kind, seed, exponent):
    tensor = weight(seed, unit=10.0**exponent)
    grid = MAKERS[kind](tensor)
    found = grid(tensor)
    assert torch.equal(found, shipped(grid, tensor))
    assert not found[tensor == 0].any()
    assert torch.equal(found.sign() * tensor.sign(), (found != 0).float())  # no sign is turned


@every_grid
def test_a_network_that_starts_from_it_gives_it_back(kind):
    tensor = weight(1)
    grid = MAKERS[kind](tensor)
    again = weight_grid(json.loads(json.dumps(grid.facts())), torch.zeros_like(tensor), grid.state_dict())
    again.load_state_dict(grid.state_dict())
    assert again.facts() == grid.facts()
    assert again.bits == grid.bits
    assert torch.equal(again(tensor), grid(tensor))


@every_grid
def test_some_rows_are_as_they_were_among_all(kind):
    tensor, kept = weight(2), torch.tensor([4, 1])
    grid = MAKERS[kind](tensor)
    if kind == "ternary":
        assert torch.equal(grid.rows(kept)(tensor[kept]), grid(tensor)[kept])
    else:
        torch.testing.assert_close(grid.rows(kept)(tensor[kept]), grid(tensor)[kept], rtol=1e-6, atol=0)


@every_grid
def test_a_gradient_reaches_the_weight_and_the_steps_that_are_trained(kind):
    tensor = weight(3).requires_grad_()
    grid = MAKERS[kind](tensor.detach())
    grid(tensor).square().sum().backward()
    assert bool(tensor.grad.isfinite().all())
    assert tensor.grad.any()
    if grid.trained_scale is not None:
        assert bool(grid.trained_scale.grad.isfinite().all())
    assert (grid.trained_scale is not None) == (kind == "learned")


@every_grid
def test_a_layer_or_a_channel_of_zeros_has_a_scale(kind):
    for tensor in (torch.zeros(3, 4, 1, 1), torch.cat([torch.zeros(1, 4), torch.ones(1, 4)])):
        grid = MAKERS[kind](tensor)
        assert torch.equal(grid(tensor), shipped(grid, tensor))
        assert not grid(tensor)[tensor == 0].any()


def test_ternary_weights_are_those_of_the_paper():
    row = torch.tensor([[1.0, -0.6, 0.2, -0.2, 0.0]])
    integers, scale = TernaryWeights().integers(row)
    assert integers.tolist() == [[1, -1, 0, 0, 0]]  # 0.7 * mean(1, 0.6, 0.2, 0.2) = 0.35; the pruned weight has no part in it
    assert scale.tolist() == pytest.approx([0.8])


def test_grids_of_values_come_back_and_other_names_are_refused():
    for scales in ("learned", "observed"):
        made = activation_grid(ActivationQuantizer(Grid(0.5, 3), scales=scales).facts())
        assert made.facts() == scales
    assert set(ACTIVATION_GRIDS) == {"uniform"}
    with pytest.raises(CorruptFile, match="its grid is 'octal'; this version knows uniform, ternary"):
        weight_grid({"grid": "octal"}, weight(0), {})
    with pytest.raises(CorruptFile, match="its grid is 'octal'; this version knows uniform"):
        activation_grid({"grid": "octal"})
    with pytest.raises(ValueError, match="scales are 'guessed' and must be learned or observed"):
        activation_grid("guessed")


def test_nothing_but_the_network_and_its_quantization_knows_a_grid():
    source = Path(__file__).resolve().parent.parent.parent / "src" / "paretrim"
    names = ("WeightQuantizer", "ActivationQuantizer", "TernaryWeights")
    for path in source.rglob("*.py"):
        place = path.relative_to(source).as_posix()
        if not place.startswith(("network/", "stages/quantize/")):
            assert not any(name in path.read_text(encoding="utf-8") for name in names), place
