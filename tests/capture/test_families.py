"""Attention in forms that no single operation shows, and networks that only seem to have it."""

import pytest
import torch
from hand_bodies import SHAPE, untrained_body
from torch import nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.errors import UnsupportedOperation


class LinearAttention(nn.Module):
    """ReLU linear attention (Katharopoulos et al. 2020, arXiv 2006.16236), as EfficientViT writes it."""

    def forward(self, x):
        query, key, value, other = x.flatten(2).mT.chunk(4, dim=2)
        found = torch.relu(query) @ (torch.relu(key).mT @ value)
        return torch.cat((found, other) * 2, 2).mT.unflatten(2, (8, 8))


class AdditiveAttention(nn.Module):
    """Attention by elementwise products (Shaker et al. 2023, SwiftFormer, arXiv 2303.15446)."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(8, 8)

    def forward(self, x):
        query = self.query(x.flatten(2).mT)
        return x + (F.normalize(query, dim=-1) * query.sum(1, keepdim=True)).mT.unflatten(2, (8, 8))


class ChannelAttention(nn.Module):
    """A gate of channels, which a file can hold."""

    def forward(self, x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


CASES = {
    "attention without softmax": (
        lambda: untrained_body(lambda self, x: self.extra(x), LinearAttention),
        r"layer 'extra' \(aten.*\): this is attention, as in transformers, which is not supported",
    ),
    "attention by its name": (
        lambda: untrained_body(lambda self, x: self.extra(x), AdditiveAttention),
        r"layer 'extra.query' \(aten.linear.default\): .* in line \d+ of .*; layer 'extra' looks like attention, as in transf",
    ),
    "attention elsewhere": (
        lambda: untrained_body(lambda self, x: self.extra(x.permute(0, 3, 2, 1)), AdditiveAttention),
        r"keep the channels first; .*; layer 'extra' looks like attention, as in transformers, which is not",
    ),
    "weights of channels": (
        lambda: untrained_body(lambda self, x: self.extra(x).permute(0, 3, 2, 1), ChannelAttention),
        r"keep the channels first; .*\(axes are permuted to \[0, 3, 2, 1\]\)(?!.*attention)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_is_named_where_it_is_and_nowhere_else(name):
    build, message = CASES[name]
    torch.manual_seed(0)
    with pytest.raises(UnsupportedOperation, match=message):
        capture(build().eval(), SHAPE)
