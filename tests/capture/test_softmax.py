"""Softmax inside a network, over every kind of axis, and at the end of one that gives a class to every pixel."""

import pytest
import torch
from deployed import is_deployed
from hand_bodies import body
from torch import nn

from paretrim.capture import capture


def selective(layer, x):
    """Three branches, weighted. Source: Li et al. 2019, arXiv 1903.06586."""
    branches = torch.stack([x, 2 * x, x * x], 1)
    chosen = layer(x.mean((2, 3), keepdim=True)).view(-1, 3, 8, 1, 1).softmax(1)
    return (branches * chosen).sum(1)


def context(layer, x):
    """A weighted mean of all pixels, added to each. Source: Cao et al. 2019, arXiv 1904.11492."""
    places = layer(x).flatten(2).softmax(2)
    return x + torch.matmul(x.flatten(2).unsqueeze(1), places.unsqueeze(-1)).view(-1, 8, 1, 1)


def pooled(layer, x):
    places = layer(x).flatten(2).softmax(-1)
    return x * (x.flatten(2) * places).sum(2)[..., None, None]


INSIDE = {
    "channels": (lambda self, x: x * x.softmax(1), None),
    "rows": (lambda self, x: x * x.softmax(2), None),
    "columns": (lambda self, x: x * x.softmax(-1), None),
    "pixels": (lambda self, x: 8 * (x.flatten(2).softmax(2) * x.flatten(2)).view_as(x), None),
    "vectors": (lambda self, x: x * self.k(x.mean((2, 3))).softmax(1)[:, :, None, None], nn.Linear(8, 8)),
    "channels last": (lambda self, x: (x.permute(0, 2, 3, 1).softmax(-1)).permute(0, 3, 1, 2), None),
    "logarithms": (lambda self, x: x.log_softmax(1), None),
    "three alternatives": (lambda self, x: selective(self.k, x), nn.Conv2d(8, 24, 1)),
    "mean of an ensemble": (
        lambda self, x: x * torch.stack([self.k(x.amax((2, 3))).softmax(1), x.mean((2, 3)).softmax(1)]).mean(0)[..., None, None],
        nn.Linear(8, 8),
    ),
    "context": (lambda self, x: context(self.k, x), nn.Conv2d(8, 1, 1)),
    "pooling by weights": (lambda self, x: pooled(self.k, x), nn.Conv2d(8, 1, 1)),
}


@pytest.mark.parametrize("name", INSIDE)
def test_it_is_what_torch_computes(name, tmp_path):
    function, layer = INSIDE[name]
    is_deployed(body(function, **({"k": layer} if layer else {})), tmp_path / "a.trim")


class Pixels(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Conv2d(3, 4, 3, padding=1), function

    def forward(self, x):
        return self.function(self.layer(x))


def test_of_the_classes_of_every_pixel_it_is_left_out_at_the_end():
    torch.manual_seed(0)
    plain, shares = Pixels(lambda x: x), Pixels(lambda x: x.softmax(1))
    with pytest.warns(UserWarning, match="the network ends in softmax, which is left out"):
        graph = capture(shares.eval(), (3, 8, 8))
    assert [node.op for node in graph.nodes] == [node.op for node in capture(plain.eval(), (3, 8, 8)).nodes]
