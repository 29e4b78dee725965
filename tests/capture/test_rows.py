"""Layers of one axis, as in networks for sound: convolutions, norms and pooling of rows [C, L]."""

import pytest
import torch
from deployed import is_deployed
from hand_bodies import body
from torch import nn
from torch.nn import functional as F

from paretrim.capture.agreement import captured_network


def norm():
    made = nn.BatchNorm1d(8)
    nn.init.uniform_(made.running_mean, -0.5, 0.5)
    nn.init.uniform_(made.running_var, 0.5, 2)
    return made


ROWS = {
    "pixels in a row": (lambda self, x: self.k(x.flatten(2)).view_as(x), nn.Conv1d(8, 8, 3, padding=1)),
    "every pixel": (lambda self, x: self.k(x.flatten(2)).view_as(x), nn.Conv1d(8, 8, 1)),
    "columns": (lambda self, x: x * self.k(x.mean(2)).unsqueeze(2), nn.Conv1d(8, 8, 4, padding="same")),
    "steps, gaps and groups": (
        lambda self, x: self.k(x.flatten(2)).unsqueeze(2),
        nn.Conv1d(8, 8, 3, stride=2, padding=3, dilation=2, groups=4),
    ),
    "channels and rows as channels": (
        lambda self, x: x + self.k(x.reshape(x.shape[0], -1, 8)).unsqueeze(2),
        nn.Conv1d(64, 8, 3, padding=1),
    ),
    "reflected ends": (lambda self, x: self.k(x.flatten(2)).view_as(x), nn.Conv1d(8, 8, 3, padding=1, padding_mode="reflect")),
    "repeated ends": (lambda self, x: self.k(F.pad(x.mean(2), (2, 0), "replicate")).unsqueeze(2), nn.Conv1d(8, 8, 3)),
    "zeros before": (lambda self, x: self.k(F.pad(x.flatten(2), (2, 0))).view_as(x), nn.Conv1d(8, 8, 3)),
    "one end cut off": (lambda self, x: self.k(F.pad(x.mean(2), (-1, 2))).unsqueeze(2), nn.Conv1d(8, 8, 3)),
    "numbers behind": (lambda self, x: self.k(F.pad(x.flatten(2), (0, 2), value=0.5)).view_as(x), nn.Conv1d(8, 8, 3)),
    "ring": (
        lambda self, x: self.k(x.mean(3)).unsqueeze(2),
        nn.Conv1d(8, 8, 3, padding="same", dilation=2, padding_mode="circular"),
    ),
    "norm": (lambda self, x: self.k(x.flatten(2)).view_as(x), norm()),
    "norm of columns": (lambda self, x: x + self.k(x.mean(2)).unsqueeze(2), norm()),
    "pooling": (lambda self, x: F.max_pool1d(self.k(x.mean(2)), 2).unsqueeze(2), nn.Conv1d(8, 8, 1)),
    "mean of neighbours": (lambda self, x: F.avg_pool1d(self.k(x.flatten(2)), 4).unsqueeze(2), nn.Conv1d(8, 8, 1)),
    "one row times each": (lambda self, x: (self.k(x.flatten(2)) * x.flatten(2)).view_as(x), nn.Conv1d(8, 1, 1)),
}


@pytest.mark.parametrize("name", ROWS)
def test_it_is_what_torch_computes(name, tmp_path):
    function, layer = ROWS[name]
    is_deployed(body(function, k=layer), tmp_path / "a.trim")


class Sound(nn.Module):
    """Source: Dai et al. 2017 (M5), arXiv 1610.00087."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 8, 9, stride=4),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(8, 16, 3),
            nn.AdaptiveAvgPool1d(1),
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.layers(x.squeeze(2)).flatten(1))


def test_a_network_of_samples():
    torch.manual_seed(0)
    module, samples = Sound().eval(), torch.randn(3, 1, 1, 256)
    torch.testing.assert_close(captured_network(module, (1, 1, 256)).eval()(samples), module(samples))
