"""Native fake quantization against the torch operations that define it."""

import pytest
import torch

from paretrim.network import one_pass
from paretrim.network.clipped import ClippedActivations
from paretrim.network.formats import ACTIVATION_GRIDS, WEIGHT_GRIDS
from paretrim.network.grids import Grid, WeightSettings
from paretrim.network.offset import OffsetActivations
from paretrim.network.uniform import ActivationQuantizer
from paretrim.runtime.compiled import native

SHAPES = ((1, 1), (3, 5), (4, 1000), (2, 3, 5, 7), (3, 16, 9, 1), (2, 33, 15, 17), (5, 8, 1, 1), (2, 64, 24, 24))
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SUMMED = 2.0**-20
"""What a sum may be off, as a share of the sum of sizes: sixteen roundings of float32. Torch's own sums are no closer."""


def by_torch(call, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(one_pass, "in_memory", lambda _: False)
        return call()


def trained(make, x, upstream):
    """A grid's result, the gradient of its input and those of its parameters."""
    grid, x = make().train(), x.detach().clone().requires_grad_()
    y = grid(x)
    if y.requires_grad:
        y.backward(upstream)
    gradients = [torch.zeros(1) if one.grad is None else one.grad for one in grid.parameters()]
    return y.detach(), torch.zeros_like(x) if x.grad is None else x.grad, gradients, grid.state_dict()


def same_bits(found, expected):
    """Equal to the last bit, NaN to NaN."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.signbit() & ~found.isnan(), expected.signbit() & ~expected.isnan())


def laid_out(x, layout):
    return x.contiguous(memory_format=layout) if x.dim() == 4 else x


def activations(shape, seed, grid, layout):
    """Values around the grid: on its steps, between them, on ties, at its ends and beyond."""
    random = torch.Generator().manual_seed(seed)
    levels = torch.randint(-grid.zero_point - 4, 260 - grid.zero_point, shape, generator=random).float()
    kind = torch.rand(shape, generator=random)
    between = torch.where(kind < 0.1, 0.5, torch.where(kind < 0.2, 0.0, torch.rand(shape, generator=random)))
    return laid_out((levels + between) * torch.tensor(grid.scale), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grid", [Grid(0.0131, 0), Grid(2.0**-7, 40), Grid(0.37, 255)])
@pytest.mark.parametrize("scales", ["learned", "observed"])
@pytest.mark.parametrize("name", ACTIVATION_GRIDS)
def test_activation_grids_give_the_values_of_torch_to_the_bit_and_its_gradients(name, scales, grid, shape, layout, monkeypatch):
    x = activations(shape, 1, grid, layout)
    upstream = laid_out(torch.randn(shape, generator=torch.Generator().manual_seed(2)), layout)

    def run():
        return trained(lambda: ACTIVATION_GRIDS[name].fitted(grid, scales), x, upstream)

    (y, dx, of_parameters, state), (y2, dx2, of_parameters2, state2) = run(), by_torch(run, monkeypatch)
    same_bits(y, y2)
    assert y.stride() == y2.stride()
    torch.testing.assert_close(dx, dx2, rtol=2.0**-22, atol=0)  # a product with the step over the step, in one of the two
    reach = float((upstream.abs() * x.abs().clamp_min(grid.scale * 256)).double().sum()) / grid.scale
    for one, other in zip(of_parameters, of_parameters2, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=SUMMED * reach / (x[0].numel() * 255) ** 0.5)
    for key in state:
        torch.testing.assert_close(state[key], state2[key], rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), -0.0, 3e38, -1e-40])
@pytest.mark.parametrize("grid", [Grid(0.0131, 0), Grid(2.0**-7, 40)])
@pytest.mark.parametrize("name", ACTIVATION_GRIDS)
def test_unbounded_activations_end_where_torch_ends_them(name, grid, value, monkeypatch):
    x = torch.full((1, 40), value)

    def run():
        return ACTIVATION_GRIDS[name].fitted(grid, "learned")(x).detach()

    found, expected = run(), by_torch(run, monkeypatch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 1, 1), (7, 3, 3, 3), (16, 32, 3, 3), (9, 1, 5, 5), (5, 11), (2, 20000)])
@pytest.mark.parametrize("scales", ["learned", "observed"])
@pytest.mark.parametrize("name", WEIGHT_GRIDS)
def test_weight_grids_give_the_values_of_torch_to_the_bit_and_its_gradients(name, scales, shape, layout, monkeypatch):
    random = torch.Generator().manual_seed(3)
    weight = laid_out(
        torch.randn(shape, generator=random) * torch.rand(shape[0], *[1] * (len(shape) - 1), generator=random), layout
    )
    weight[torch.rand(shape, generator=random) < 0.2] = 0
    upstream = laid_out(torch.randn(shape, generator=random), layout)
    kind = WEIGHT_GRIDS[name]
    bits = max(kind.widths[0], min(4, kind.widths[-1]))

    def run():
        return trained(lambda: kind.fitted(weight, WeightSettings(bits, scales)), weight, upstream)

    (y, dx, of_parameters, _), (y2, dx2, of_parameters2, _) = run(), by_torch(run, monkeypatch)
    same_bits(y, y2)
    torch.testing.assert_close(dx, dx2, rtol=2.0**-20, atol=2.0**-20)
    for one, other in zip(of_parameters, of_parameters2, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATION_GRIDS)
@pytest.mark.parametrize("grid", [Grid(0.0131, 0), Grid(0.0131, 40)])
def test_bfloat16_is_rounded_once(name, grid):
    """Value and gradient are those of float32, rounded to bfloat16."""
    quantizer = ACTIVATION_GRIDS[name].fitted(grid, "learned")
    x = activations((4, 300), 5, grid, torch.contiguous_format).bfloat16().requires_grad_()
    wide = x.detach().float().requires_grad_()
    upstream = torch.randn(4, 300, generator=torch.Generator().manual_seed(6)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = quantizer(x), quantizer(wide)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected.bfloat16(), rtol=0, atol=0)
    y.backward(upstream)
    along = [one.grad.clone() for one in quantizer.parameters()]
    quantizer.zero_grad()
    expected.backward(upstream.float())
    torch.testing.assert_close(x.grad, wide.grad.bfloat16(), rtol=0, atol=0)
    for one, parameter in zip(along, quantizer.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=0, atol=0)


@pytest.mark.parametrize("make", [ActivationQuantizer.fitted, ClippedActivations.fitted, OffsetActivations.fitted])
def test_bits_do_not_depend_on_threads(make):
    grid = Grid(0.0131, 40)
    x = activations((8, 16, 30, 31), 7, grid, torch.channels_last)
    upstream = torch.randn_like(x)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 2, 1):
            torch.set_num_threads(threads)
            y, dx, along, _ = trained(lambda: make(grid, "learned"), x, upstream)
            found.append((y, dx, *along))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_gradients_of_other_layouts_and_types_are_accepted(monkeypatch):
    grid = Grid(0.0131, 40)
    x = activations((2, 6, 5, 4), 8, grid, torch.channels_last)
    for upstream in (torch.randn(2, 6, 5, 4), torch.ones(()).expand(2, 6, 5, 4)):

        def run(upstream=upstream):
            return trained(lambda: ActivationQuantizer(grid, scales="learned"), x, upstream)

        (_, dx, along, _), (_, dx2, along2, _) = run(), by_torch(run, monkeypatch)
        torch.testing.assert_close(dx, dx2, rtol=0, atol=0)
        torch.testing.assert_close(along, along2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATION_GRIDS)
def test_gradients_of_gradients_are_those_of_torch(name, monkeypatch):
    grid = Grid(0.0131, 40)
    x = activations((3, 50), 9, grid, torch.contiguous_format)

    def run():
        quantizer, leaf = ACTIVATION_GRIDS[name].fitted(grid, "learned"), x.clone().requires_grad_()
        (first,) = torch.autograd.grad((quantizer(leaf.square()) * leaf).sum(), leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [leaf, *quantizer.parameters()], allow_unused=True)

    for found, expected in zip(run(), by_torch(run, monkeypatch), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected)


def test_values_on_other_devices_are_left_to_torch():
    x = torch.randn(4, 6, 5, 5)
    assert one_pass.in_memory(x)
    assert one_pass.in_memory(x.contiguous(memory_format=torch.channels_last).bfloat16())
    elsewhere = (x.to("meta"), x.double(), x.half(), x[:, ::2], x.transpose(0, 1), x[:0], x[:1].expand(4, -1, -1, -1))
    assert not any(map(one_pass.in_memory, elsewhere))
    for other in elsewhere[1:]:
        found = ActivationQuantizer(Grid(0.01, 20), scales="learned").eval()(other) if other.numel() else other
        assert found.dtype == other.dtype


def test_the_range_of_values_is_that_of_torch(monkeypatch):
    for layout in LAYOUTS:
        for dtype in (torch.float32, torch.bfloat16):
            x = laid_out(torch.randn(3, 17, 40, 11, generator=torch.Generator().manual_seed(4)), layout).to(dtype)
            expected = by_torch(lambda x=x: one_pass.least_and_greatest(x), monkeypatch)
            for found, other in zip(one_pass.least_and_greatest(x), expected, strict=True):
                assert float(found) == float(other)
            x[2, 3, 4, 5] = float("nan")
            assert all(end.isnan() for end in one_pass.least_and_greatest(x))


ONE = torch.ones(1)
SUMS = torch.zeros(1, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("x", "out", "steps", "message"),
    [
        (torch.ones(4).double(), torch.ones(4).double(), ONE, "x must be float32 or bfloat16"),
        (torch.ones(0), torch.ones(0), ONE, "x is empty"),
        (torch.ones(4, 4)[:, ::2], torch.ones(4, 2), ONE, "x has gaps or overlaps in memory"),
        (torch.ones(4, 3), torch.ones(4, 3), torch.ones(3), "steps must hold one value, or one for each contiguous row of x"),
        (torch.ones(4, 3), torch.ones(3, 4), ONE, "out must have the type, shape and memory layout of x"),
        (torch.ones(4, 3), torch.ones(4, 3).bfloat16(), ONE, "out must have the type, shape and memory layout of x"),
    ],
)
def test_tensors_of_the_wrong_size_are_refused(x, out, steps, message):
    with pytest.raises(ValueError, match=message):
        native.fake_quantize("steps", x, steps, 0.0, 255.0, 0.0, out, 1)


def test_unknown_modes_and_sums_of_wrong_size_are_refused():
    x = torch.ones(4)
    with pytest.raises(ValueError, match="unknown kind 'down'; choose one of steps, levels, ends, offset"):
        native.fake_quantize("down", x, ONE, 0.0, 255.0, 0.0, x.clone(), 1)
    with pytest.raises(ValueError, match=r"sums must have shape \[number of steps, 2\]"):
        native.fake_quantize_backward("steps", x, x, ONE, 0.0, 255.0, 0.0, x.clone(), torch.zeros(2, 2, dtype=torch.float64), 1)
    with pytest.raises(ValueError, match="gradient must have the type, shape and memory layout of x"):
        native.fake_quantize_backward("steps", x, torch.ones(5), ONE, 0.0, 255.0, 0.0, x.clone(), SUMS, 1)
