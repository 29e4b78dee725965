"""A convolution gives what torch gives, also where the map is small enough to be computed pixel by pixel."""

import warnings
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from paretrim.capture.agreement import captured_network
from paretrim.graph.operations.attributes import Settings
from paretrim.network import convolution
from paretrim.network.convolution import convolve


def node(**given):
    values = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    return Settings(MappingProxyType(values | given))


def plain(x, weight, bias, asked):
    top, left, bottom, right = asked.edges("padding")
    padded = F.pad(x, (left, right, top, bottom))
    return F.conv2d(padded, weight, bias, asked.pair("stride"), 0, asked.pair("dilation"), asked.integer("groups"))


def with_gradients(function, *values):
    leaves = [value.clone().requires_grad_() for value in values]
    result = function(*leaves)
    steps = torch.arange(1, result.numel() + 1, dtype=result.dtype).reshape(result.shape)
    (result * steps).sum().backward()
    return [result.detach(), *(leaf.grad for leaf in leaves)]


pairs = st.tuples(*[st.integers(1, 3)] * 2)


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 5)] * 2),
    kernel=st.tuples(*[st.integers(1, 5)] * 2),
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(*[st.integers(0, 4)] * 4),
    groups=st.sampled_from((1, 1, 2)),
    last=st.booleans(),
    images=st.sampled_from((2, convolution.FEW_IMAGES)),
)
def test_values_and_gradients_are_those_of_torch(size, kernel, stride, dilation, padding, groups, last, images):
    top, left, bottom, right = padding
    for extent, taps, spread, around in zip(size, kernel, dilation, (top + bottom, left + right), strict=True):
        if extent + around < spread * (taps - 1) + 1:
            return  # no output
    order = torch.channels_last if last else torch.contiguous_format
    make = torch.Generator().manual_seed(0)
    x = torch.randn(images, 4, *size, generator=make, dtype=torch.float64).contiguous(memory_format=order)
    weight = torch.randn(6, 4 // groups, *kernel, generator=make, dtype=torch.float64).contiguous(memory_format=order)
    bias = torch.randn(6, generator=make, dtype=torch.float64)
    asked = node(stride=stride, padding=padding, dilation=dilation, groups=groups)
    found = with_gradients(lambda *values: convolve(*values, asked), x, weight, bias)
    expected = with_gradients(lambda *values: plain(*values, asked), x, weight, bias)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(
    ("size", "asked", "by_pixel"),
    [
        (1, node(padding=(1, 1, 1, 1)), True),
        (2, node(padding=(1, 1, 1, 1)), True),
        (2, node(padding=(1, 1, 1, 1), stride=(2, 2)), True),
        (3, node(padding=(1, 1, 1, 1)), False),
        (1, node(padding=(3, 3, 3, 3), stride=(5, 5)), False),  # one pixel that reads padding alone
        (1, node(padding=(1, 1, 1, 1), groups=4), False),
    ],
)
def test_only_very_small_maps_are_computed_pixel_by_pixel(monkeypatch, size, asked, by_pixel):
    calls, ours = [], convolution._pixel_by_pixel
    monkeypatch.setattr(convolution, "_pixel_by_pixel", lambda *given: calls.append(1) or ours(*given))
    weight = torch.ones(4, 4 // asked.integer("groups"), 3, 3)
    x = torch.arange(32.0 * size * size).reshape(8, 4, size, size)
    assert torch.equal(convolve(x, weight, None, asked), plain(x, weight, None, asked))
    assert bool(calls) is by_pixel
    convolve(x[: convolution.FEW_IMAGES - 1], weight, None, asked)
    assert len(calls) == by_pixel  # a few images never are


def test_a_small_map_stays_channels_last_and_follows_autocast():
    x = torch.randn(8, 8, 2, 2).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        result = convolve(x, weight, torch.zeros(8), node(padding=(1, 1, 1, 1)))
    assert result.dtype == torch.bfloat16
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_compiled_network_computes_small_maps_too():
    parts = nn.Conv2d(3, 8, 3, 2, 1), nn.AvgPool2d(4), nn.Conv2d(8, 8, 3, padding=1), nn.Flatten(), nn.Linear(8, 4)
    network = captured_network(nn.Sequential(*parts).eval(), (3, 8, 8))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    images = torch.randn(8, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(compiled(images), network(images))
