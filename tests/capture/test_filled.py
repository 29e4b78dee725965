"""Constant-filled tensors: concatenated with channels they are padding, in sums and bounds a constant."""

import pytest
import torch
from hand_networks import SIZE, Net, conv, trained

from paretrim.capture import capture
from paretrim.errors import UnsupportedOperation
from paretrim.network.network import Network

SHAPE = (3, SIZE, SIZE)
IMAGES = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def body(function, channels=16):
    class Custom(Net):
        def build(self):
            self.c = conv(channels, 8)

        def body(self, x):
            return function(self, x)

    torch.manual_seed(0)
    return trained(Custom())


def filled(x):
    out = torch.zeros_like(x)
    out[:, :4] = 1.5
    return out


BESIDE = {
    "behind": lambda self, x: self.c(torch.cat([x, torch.zeros_like(x)], 1)),
    "in front": lambda self, x: self.c(torch.cat([torch.zeros_like(x[:, :3]), x, x[:, :5]], 1)),
    "both sides": lambda self, x: self.c(torch.cat([x.new_zeros(x[:, :2].shape), x, torch.zeros_like(x)[:, :6]], 1)),
    "of a size": lambda self, x: self.c(torch.cat([x, torch.zeros(x.size(0), 8, x.size(2), x.size(3))], 1)),
}
BOUNDS = {
    "max": lambda _, x: torch.max(x - 0.5, torch.zeros_like(x)),
    "minimum": lambda _, x: torch.minimum(x, torch.ones_like(x)),
    "one minus": lambda _, x: torch.ones_like(x) - x,
    "times": lambda _, x: torch.full_like(x, 0.3) * x,
    "filled in part": lambda _, x: x * filled(x),
}


@pytest.mark.parametrize("name", [*BESIDE, *BOUNDS])
def test_a_filled_tensor_is_what_it_is_filled_with(name):
    module = body(BESIDE.get(name) or BOUNDS[name])
    with torch.no_grad():
        expected = module(IMAGES.clone())
    graph = capture(module, SHAPE)
    torch.testing.assert_close(Network(graph).eval()(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert ("pad" in {node.op for node in graph.nodes}) == (name in BESIDE)


def twice(x):
    out = torch.zeros_like(x)
    out += x
    out += x
    return out


def seen_between(x):
    out = torch.zeros(x.shape)
    out += x
    before = out * 2
    out.mul_(3.0)
    return before + out


INTO = {
    "sum": lambda _, x: torch.zeros_like(x).add_(x),
    "difference": lambda _, x: torch.full_like(x, 0.5).sub_(x),
    "product": lambda _, x: x.new_ones(x.shape).mul_(x),
    "copy": lambda _, x: torch.zeros_like(x).copy_(x),
    "twice": lambda _, x: twice(x),
    "seen between": lambda _, x: seen_between(x),
}


@pytest.mark.parametrize("name", INTO)
def test_what_is_written_into_a_new_tensor_counts(name):
    module = body(INTO[name])
    with torch.no_grad():
        expected = module(IMAGES.clone())
    torch.testing.assert_close(Network(capture(module, SHAPE)).eval()(IMAGES), expected, rtol=1e-5, atol=1e-5)


def written_into_different(x):
    out = torch.arange(8.0)[None, :, None, None].expand_as(x).clone()
    out[:, :, 1:] = x[:, :, :-1]
    return out


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _, x: x + written_into_different(x), "is the same for every image and differs from place to place"),
        (lambda self, x: self.c(torch.cat([x, x.new_empty(x.shape)], 1)), "where it makes a tensor of any numbers for others"),
    ],
)
def test_what_is_no_padding_is_refused(function, message):
    with pytest.raises(UnsupportedOperation, match=message):
        capture(body(function), SHAPE)
