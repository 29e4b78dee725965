"""Constants that differ from pixel to pixel: position embeddings, masks, mean images, the coordinates of CoordConv."""

import pytest
import torch
from deployed import is_deployed
from hand_bodies import body, is_refused
from torch import nn

from paretrim.capture import capture, scale_shift


def drawn(*shape, low=0.2):
    return nn.Parameter(torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) + low)


def coordinates(x):
    """Two further channels. Source: Liu et al. 2018, arXiv 1807.03247."""
    rows = torch.linspace(-1, 1, 8).view(1, 1, 8, 1).expand(x.shape[0], 1, 8, 8)
    return torch.cat([x, rows, rows.transpose(2, 3)], 1)


def norm():
    made = nn.LayerNorm([8, 8, 8])
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.uniform_(made.bias, -0.5, 0.5)
    return made


MAPS = {
    "added to every value": (lambda self, x: (x + self.k).relu(), drawn(1, 8, 8, 8)),
    "rows and columns": (lambda self, x: x + self.k[:, :, :, :1] - self.k[:, :, :1], drawn(1, 8, 8, 8)),
    "one map": (lambda self, x: x * self.k, drawn(8, 8)),
    "of one axis": (lambda self, x: x * self.k, drawn(8)),
    "minus a value": (lambda self, x: self.k - x, drawn(8, 8)),
    "over a value": (lambda self, x: self.k / (1 + x), drawn(8, 8)),
    "a value over it": (lambda self, x: x / self.k, drawn(1, 1, 8, 8)),
    "mean image and deviations": (lambda self, x: (x - self.k) / (self.k + 1), drawn(8, 8, 8)),
    "maximum": (lambda self, x: torch.maximum(x, self.k) - torch.minimum(self.k, x), drawn(8, 8)),
    "bound": (lambda self, x: x * (x > self.k), drawn(8, 8, 8, low=-0.4)),
    "times a gate": (lambda self, x: x.mean((2, 3), keepdim=True) * self.k + x, drawn(1, 8, 8)),
    "channels of one map": (lambda self, x: x.mean(1, keepdim=True) * self.k, drawn(8, 1, 1)),
    "channels over one number": (lambda self, x: x + self.k / (x.mean((1, 2, 3), keepdim=True) + 0.5), drawn(1, 8, 1, 1)),
    "mask": (lambda self, x: torch.where(self.k > 0.7, x, -1.0) + x.masked_fill(self.k < 0.5, 0.3), drawn(1, 1, 8, 8)),
    "mask of a gate": (lambda self, x: x + torch.where(self.k > 0.7, x.amax((2, 3), True), self.k), drawn(1, 1, 8, 8)),
    "flat pixels": (lambda self, x: (x.flatten(2) + self.k).view_as(x), drawn(1, 8, 64)),
    "channels last": (lambda self, x: (x.permute(0, 2, 3, 1) * self.k).permute(0, 3, 1, 2), drawn(8, 8, 8)),
    "columns of channels last": (lambda self, x: (x.permute(0, 2, 3, 1) + self.k).permute(0, 3, 1, 2), drawn(8, 1)),
    "rows of channels last": (lambda self, x: (x.permute(0, 2, 3, 1) * self.k).permute(0, 3, 1, 2), drawn(8, 1, 1)),
    "norm of a map": (lambda self, x: self.k(x), norm()),
    "coordinates": (lambda self, x: self.k(coordinates(x)), nn.Conv2d(10, 8, 3, padding=1)),
    "channels between": (
        lambda self, x: self.k(torch.cat([x[:, :5], torch.ones_like(x[:, :2]), x[:, 5:], torch.zeros_like(x)], 1)),
        nn.Conv2d(18, 8, 1),
    ),
    "rows and columns beside": (
        lambda self, x: torch.cat([torch.cat([x, torch.ones_like(x[..., :2])], 3), self.k.expand(x.shape[0], -1, -1, -1)], 2),
        drawn(1, 8, 3, 10),
    ),
    "soft argmax": (lambda self, x: x + (x * self.k).sum((2, 3), keepdim=True) / x.sum((2, 3), keepdim=True), drawn(8, 1)),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_constants_is_exact(name, tmp_path):
    function, constant = MAPS[name]
    is_deployed(body(function, k=constant), tmp_path / "a.trim")


def test_one_after_another_are_one_operation():
    graph = capture(body(lambda self, x: (x - self.k) / self.k * 2, k=drawn(8, 8)), (3, 8, 8))
    assert [node.op for node in graph.nodes].count("pixel_unshuffle") == 1


def test_the_largest_maps_are_refused(monkeypatch):
    monkeypatch.setattr(scale_shift, "_MOST_NUMBERS", 511)
    is_refused(
        body(lambda self, x: x + self.k, k=drawn(8, 8)), r"has a number for every pixel of \(8, 8, 8\); at most 511 are sup"
    )
