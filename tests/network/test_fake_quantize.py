import copy

import pytest
import torch
from torch import nn

from paretrim.network import grids as fake_quantize
from paretrim.network.grids import SMALLEST_ROW, TOP, Grid, grid_for_range
from paretrim.network.uniform import ActivationQuantizer, WeightQuantizer


def textbook(x, scale, zero_point, low, high):
    """LSQ written with straight-through rounding only; autograd does the rest (Esser et al. 2020, equations 1 to 3)."""
    steps = x / scale
    rounded = steps + (torch.round(steps) - steps).detach()
    inside = (torch.round(steps.detach()) + zero_point >= low) & (torch.round(steps.detach()) + zero_point <= high)
    bound = torch.where(steps.detach() > 0, high - zero_point, low - zero_point)
    return torch.where(inside, rounded, bound) * scale


@pytest.mark.parametrize("zero_point", [0, 100])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_activation_gradients_are_those_of_the_textbook(zero_point, layout):
    torch.manual_seed(0)
    x = (torch.randn(4, 6, 5, 5) * 2).to(memory_format=layout).requires_grad_()
    quantizer = ActivationQuantizer(Grid(0.013, zero_point), scales="learned")
    upstream = torch.randn_like(x)
    y = quantizer(x)
    y.backward(upstream)
    x2, scale = x.detach().clone().requires_grad_(), torch.tensor([0.013], requires_grad=True)
    expected = textbook(x2, scale, zero_point, 0, TOP)
    expected.backward(upstream)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, x2.grad)
    torch.testing.assert_close(quantizer.scale.grad, scale.grad / (6 * 25 * TOP) ** 0.5, rtol=1e-4, atol=1e-5)
    assert y.is_contiguous(memory_format=layout)


def test_weight_gradients_are_those_of_the_textbook():
    torch.manual_seed(0)
    weight = torch.randn(5, 3, 3, 3, requires_grad=True)
    quantizer = WeightQuantizer(weight, bits=4, scales="learned", clip=torch.full((5,), 0.6))
    upstream = torch.randn_like(weight)
    y = quantizer(weight)
    y.backward(upstream)
    weight2, scale = weight.detach().clone().requires_grad_(), quantizer.scale.detach().clone().requires_grad_()
    expected = textbook(weight2, scale.reshape(-1, 1, 1, 1), 0, -7, 7)
    expected.backward(upstream)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(weight.grad, weight2.grad)
    torch.testing.assert_close(quantizer.scale.grad, scale.grad / (27 * 7) ** 0.5, rtol=1e-4, atol=1e-5)


def test_mixed_layouts_of_value_and_gradient_agree():
    x = torch.randn(2, 4, 3, 5)
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        quantizer = ActivationQuantizer(Grid(0.01, 30), scales="learned")
        quantizer(x.to(memory_format=layout)).backward(torch.ones_like(x) / 3)
        grads.append(quantizer.scale.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_zeros_stay_exactly_zero(scales):
    weight = torch.randn(8, 4, 3, 3)
    weight[torch.rand_like(weight) < 0.5] = 0
    weight[3] = 0
    quantizer = WeightQuantizer(weight, bits=8, scales=scales)
    assert (quantizer(weight)[weight == 0] == 0).all()
    integers, scale = quantizer.integers(weight)
    assert (integers[weight == 0] == 0).all()
    assert integers.dtype == torch.int8
    assert integers.abs().max() == 127
    torch.testing.assert_close(integers * scale.reshape(-1, 1, 1, 1), quantizer(weight).detach(), rtol=1e-6, atol=1e-7)
    activation = ActivationQuantizer(Grid(0.037, 91), scales=scales)
    assert (activation.eval()(torch.zeros(1, 3)) == 0).all()


@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_bfloat16_lands_within_a_level_of_float32(scales):
    """Activations keep their type and land within a level of float32; weights are rounded in float32."""
    step = 1 / 256  # a power of two, so that every level is a bfloat16
    x = torch.linspace(-0.2, 1.1, 500).reshape(1, -1).bfloat16()
    quantizer = ActivationQuantizer(Grid(step, 20), scales=scales).eval()
    weight = torch.randn(4, 5)
    weights = WeightQuantizer(weight, bits=8, scales=scales)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, rounded = quantizer(x), weights(weight)
    assert found.dtype == torch.bfloat16
    levels = found.double() / step
    torch.testing.assert_close(levels, levels.round())
    assert (levels - quantizer(x.float()).double() / step).abs().max() <= 1
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, weights(weight))


@pytest.mark.parametrize(("zero_point", "span"), [(0, 2.0), (50, 5.0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_observed_ranges_move_only_in_training(zero_point, span, layout):
    x = torch.zeros(1, 2, 3, 3).to(memory_format=layout)
    x[0, 0, 0, 0], x[0, 1, 2, 2] = 2.0, -3.0
    quantizer = ActivationQuantizer(Grid(0.01, zero_point), scales="observed", momentum=0.25)
    quantizer.eval()(x)
    assert quantizer.grid() == Grid(pytest.approx(0.01), zero_point)
    quantizer.train()(x)
    assert quantizer.grid().scale == pytest.approx(0.75 * 0.01 + 0.25 * span / TOP)
    assert not list(quantizer.parameters())


def test_an_observed_weight_scale_is_its_range():
    weight = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    quantizer = WeightQuantizer(weight, bits=8, scales="observed")
    torch.testing.assert_close(quantizer.scale_for(weight * 3), 6 / 127 * torch.tensor([1.0, SMALLEST_ROW]), rtol=1e-6, atol=0)
    assert not list(quantizer.parameters())


def test_a_negative_learned_step_counts_as_its_magnitude():
    quantizer = ActivationQuantizer(Grid(0.5, 0), scales="learned")
    with torch.no_grad():
        quantizer.scale.neg_()
    torch.testing.assert_close(quantizer(torch.tensor([[0.6]])), torch.tensor([[0.5]]))
    assert quantizer.grid() == Grid(0.5, 0)


@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_removing_rows_of_a_weight_quantizer_keeps_the_others(scales):
    weight, kept = torch.randn(6, 5), torch.tensor([1, 4])
    quantizer = WeightQuantizer(weight, bits=6, scales=scales, clip=torch.linspace(0.5, 1, 6))
    torch.testing.assert_close(quantizer.rows(kept, torch.arange(weight.shape[1]))(weight[kept]), quantizer(weight)[kept])


def test_grids_cover_their_range_and_contain_zero():
    assert grid_for_range(0.5, 2.0) == Grid(2 / 255, 0)
    assert grid_for_range(-1.0, 1.0) == Grid(2 / 255, 128)
    assert grid_for_range(-3.0, -1.0) == Grid(3 / 255, 255)
    assert grid_for_range(0.0, 0.0) == Grid(1 / 255, 0)
    assert grid_for_range(0.0, 1e-30) == Grid(1e-30 / 255, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler and what it imports have some of their own
def test_compiled_quantizers_compute_the_same():
    module = nn.Sequential(
        ActivationQuantizer(Grid(0.02, 40), scales="learned"), ActivationQuantizer(Grid(0.02, 0), scales="observed")
    )
    plain, x = copy.deepcopy(module), torch.randn(2, 3, 4, 4)
    compiled = torch.compile(module, fullgraph=True)
    try:
        found = compiled(x)
    except Exception as error:  # no compiler, or one without OpenMP
        if "Compile" not in type(error).__name__ and "compiler" not in str(error):
            raise
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    expected = plain(x)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(module[0].scale.grad, plain[0].scale.grad)
    torch.testing.assert_close(module[1].scale, plain[1].scale)


def test_rounding_is_half_to_even():
    quantizer = ActivationQuantizer(Grid(1.0, 10), scales="learned")
    torch.testing.assert_close(quantizer(torch.tensor([[0.5, 1.5, 2.5, -0.5]])), torch.tensor([[0.0, 2.0, 2.0, 0.0]]))


@pytest.mark.parametrize("priced", [False, True])
@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_integers_equal_training_for_any_chunk_of_rows(priced, scales, monkeypatch):
    torch.manual_seed(2)
    weight = torch.randn(7, 3, 3, 3) * torch.logspace(-4, 2, 7).reshape(7, 1, 1, 1)
    quantizer = WeightQuantizer(weight, bits=8, scales=scales)
    if priced:
        quantizer.price = torch.full((7,), 1e-3)
        quantizer.recount_(weight)
    for at_once in (1, 2 * 27, 2**17):
        monkeypatch.setattr(fake_quantize, "CACHED", at_once)
        integers, steps = quantizer.integers(weight)
        assert integers.dtype == torch.int8
        torch.testing.assert_close(integers * steps.reshape(7, 1, 1, 1), quantizer(weight), rtol=1e-6, atol=0)
