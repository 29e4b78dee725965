"""16-bit weights, and integer weights with float activations: rounding, folding and files."""

import numpy as np
import pytest
import torch

from paretrim.errors import InvalidRecipe, UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.graph.dtypes import real_weight, type_name, widened
from paretrim.graph.fold import StoredWeight, fold
from paretrim.graph.interpreter import run
from paretrim.network.constraints import layer_bits, weighted_layers
from paretrim.network.float_weights import FloatWeights
from paretrim.network.formats import weight_grid
from paretrim.network.freeze import freeze
from paretrim.network.grids import WeightSettings
from paretrim.network.thaw import thaw
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

NAMES = ("float16", "bfloat16")


def fitted(weight, name):
    return FloatWeights.fitted(weight, WeightSettings(16, "learned", name=name))


def nearest_bfloat16(values):
    """Round half to even, bit by bit."""
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def numbers():
    """Numbers of many magnitudes, with ties of the format and subnormal numbers of float16."""
    rng = np.random.default_rng(0)
    halfway = (1 + np.arange(64) / 2048).astype(np.float32), (1 + np.arange(64) / 256).astype(np.float32)
    return np.concatenate(
        [rng.normal(0, 1, 4000) * 10.0 ** rng.integers(-8, 4, 4000), *halfway, [0.0, 65504.0, -65519.0]]
    ).astype(np.float32)


def test_rounding_is_that_of_numpy_and_to_the_nearest_even():
    values = numbers()
    weight = torch.from_numpy(values)[:, None]
    assert fitted(weight, "float16").stored(weight)[:, 0].tobytes() == (values.astype(np.float16) + np.float16(0)).tobytes()
    assert fitted(weight, "bfloat16").stored(weight)[:, 0].tobytes() == nearest_bfloat16(values).tobytes()
    assert (
        fitted(weight, "bfloat16").stored(weight)[:, 0].tobytes() == weight.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_format_is_idempotent_and_passes_the_gradient(name):
    weight = torch.from_numpy(numbers())[:, None].requires_grad_()
    grid = fitted(weight, name)
    moved = grid(weight)
    assert torch.equal(grid(moved.detach()), moved.detach())
    assert np.array_equal(widened(grid.stored(weight)), moved.detach().numpy())
    upstream = torch.randn_like(weight)
    moved.backward(upstream)
    assert torch.equal(weight.grad, upstream)
    again = weight_grid(grid.facts(), weight, {})
    assert torch.equal(again(weight), moved)
    assert torch.equal(grid.rows(torch.tensor([0]), torch.tensor([0]))(weight), moved)
    with pytest.raises(UnsupportedOperation, match=rf"weights of {name} .* have no integers; use activations = 'float32'"):
        grid.integers(weight)


def test_weights_beyond_a_format_are_refused():
    weight = torch.tensor([[1.0, -65520.0]])
    with pytest.raises(UnsupportedOperation, match=r"its weights reach 6\.552e\+04 and float16 ends at 6\.55e\+04; rescale them"):
        fitted(weight, "float16")
    assert fitted(weight, "bfloat16").stored(weight).dtype == np.uint16
    with pytest.raises(UnsupportedOperation, match="and bfloat16 ends at"):
        fitted(torch.tensor([[3.4e38]]), "bfloat16")


def quantized(network, **settings):
    resources = Resources(None, None, torch.randn(16, 2, 6, 6), Execution(device="cpu", precision="float32"), 0)
    return Quantize(budget=Budget(epochs=0), activations="float32", **settings).begin(network, resources).network.eval()


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        (Format(grid="float16"), "float16"),
        (Format(grid="bfloat16"), "bfloat16"),
        (Format(bits=8), "int8"),
        (Format(bits=4), "int8"),
        (Format(grid="ternary"), "int8"),
        (Format(grid="codebook", bits=4), "int8"),
    ],
)
def test_freezing_keeps_what_the_network_computes(network, form, dtype):
    """With masks, and a BatchNorm with a negative factor and a zero factor."""
    with torch.no_grad():
        network.layers["norm"].gamma.copy_(torch.tensor([0.7, -1.2, 0.0, 2.0]))
    fake = quantized(network, formats={"*": form})
    graph = freeze(fake)
    validate(graph)
    assert not graph.quantized
    images = torch.randn(9, 2, 6, 6)
    with torch.no_grad():
        np.testing.assert_allclose(run(graph, images.numpy()), fake(images).numpy(), rtol=1e-4, atol=1e-5)
    by_name = {node.name: node.tensors for node in graph.nodes}
    for name, layer in weighted_layers(fake).items():
        assert type_name(by_name[name]["weight"]) == dtype
        assert not widened(by_name[name]["weight"])[~layer.mask.numpy()].view(np.uint32).any()  # no negative zeros
    assert "weight_scale" in by_name["conv"]
    assert ("weight_scale" in by_name["head"]) == (dtype == "int8")
    back = thaw(graph)
    with torch.no_grad():
        np.testing.assert_allclose(back(images).numpy(), fake(images).numpy(), rtol=1e-4, atol=1e-5)
    for node in freeze(back).nodes:
        if "weight" in node.tensors:
            assert node.tensors["weight"].tobytes() == real_weight(by_name[node.name]).tobytes()


def test_single_layers_have_formats_by_name(network):
    fake = quantized(network, formats={"conv": Format(grid="float16"), "head": Format(bits=3)})
    assert layer_bits(fake) == {"conv": 16, "head": 3}
    found = {node.name: type_name(node.tensors["weight"]) for node in freeze(fake).nodes if "weight" in node.tensors}
    assert found == {"conv": "float16", "head": "int8"}


def test_a_channel_whose_scale_leaves_float32_has_no_weights(network):
    with torch.no_grad():
        network.layers["norm"].gamma.mul_(1e-30)
    weight = np.full((4, 2, 3, 3), 3, np.int8)
    graph = fold(network.graph(), {"conv": StoredWeight(weight, np.float32([1, 1e-20, 1, 1]))})
    tensors = next(node.tensors for node in graph.nodes if node.name == "conv")
    assert not tensors["weight"][1].any()
    assert tensors["weight"][[0, 2, 3]].all()
    assert tensors["weight_scale"][1] == 1
    validate(graph)


def test_training_that_leaves_a_format_is_refused_by_layer(network):
    fake = quantized(network, formats={"*": Format(grid="float16")})
    with torch.no_grad():
        weighted_layers(fake)["head"].weight.mul_(1e7)
    with pytest.raises(UnsupportedOperation, match=r"layer 'head': its weights reach .* and float16 ends at 6\.55e\+04"):
        freeze(fake)
    with torch.no_grad():
        weighted_layers(network)["head"].weight.mul_(1e7)
    with pytest.raises(UnsupportedOperation, match=r"layer 'head': its weights reach .* and float16 ends at 6\.55e\+04"):
        quantized(network, formats={"*": Format(grid="float16")})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"activations": "float16"},
            "activations is 'float16', but runtimes compute values in float32 or on a grid; set 'float32'",
        ),
        (
            {"activations": "float32", "adjust": ("bias",)},
            "adjust names 'bias', which needs quantized activations, but activations is",
        ),
        ({"activations": "float8"}, "activations is 'float8'; known grids are uniform"),
    ],
)
def test_unsupported_formats_are_refused_before_training(settings, message):
    with pytest.raises(InvalidRecipe, match=message):
        Quantize(**settings)


def test_a_float_format_has_one_width():
    with pytest.raises(InvalidRecipe, match="bits is 8; for the grid 'float16' it must be 16"):
        Format(grid="float16", bits=8)
    assert Format(grid="float16").width(8) == 16
