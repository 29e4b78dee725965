"""Modules that a graph cannot express, each with its error message."""

import math

import pytest
import torch
from hand_bodies import SHAPE, untrained_body
from hand_networks import CLASSES, conv, made
from torch import nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.errors import UnsupportedOperation


class Outer(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.stem, self.function = conv(3, CLASSES), forward

    def forward(self, x):
        return self.function(self.stem(x))


def recurrent():
    return nn.LSTM(8, 8, batch_first=True)


def attention():
    return nn.MultiheadAttention(8, 2, batch_first=True)


def overwritten(_, x):
    left = x.reshape(x.shape[0], 2, 4, *x.shape[2:])[:, 0]
    left += 1
    return x


@torch.library.custom_op("paretrim_test::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


ERRORS = {
    "casts and weights of one type": (
        lambda: untrained_body(lambda self, x: self.extra(x.double()).float(), lambda: nn.Conv2d(8, 8, 1).double()),
        r"with its weights and images in float32: leave out casts such as \.double\(\), \.half\(\) and \.to\(dtype\), and call",
    ),
    "recurrent": (
        lambda: untrained_body(lambda self, x: self.extra(x.flatten(2))[0][..., None], lambda: nn.GRU(64, 8, batch_first=True)),
        r"layer 'extra' \(aten.gru.input\): this is a recurrent layer, which is not supported: .* use a convolutional network",
    ),
    "control flow": (
        lambda: untrained_body(lambda self, x: x if x.sum() > 0 else -x),
        r"Custom could not be captured with .* \(at x.sum\(\) > 0 in line \d+ of test_capture_errors.py\)\. Data-dependent",
    ),
    "fixed batch": (
        lambda: untrained_body(lambda _, x: x.view(128, -1)),
        r"Custom could not be captured with .* fixed batch sizes are",
    ),
    "batch in a view": (
        lambda: untrained_body(lambda _, x: x.view(-1, 4, 8, 8).view(-1, 8, 8, 8)),
        r"the batch is mixed with another axis",
    ),
    "batch second": (
        lambda: untrained_body(lambda _, x: x.unsqueeze(0).squeeze(0)),
        r"\[1, .*, 8, 8, 8\] mixes the batch with another axis; keep",
    ),
    "no statistics": (
        lambda: untrained_body(lambda self, x: self.extra(x), lambda: nn.BatchNorm2d(8, track_running_stats=False)),
        r"layer 'extra' .* has no running statistics",
    ),
    "weight of activations": (
        lambda: untrained_body(lambda _, x: x * F.conv2d(x, x).mean()),
        r"its weight is computed from activations; only a constant",
    ),
    "custom operation": (
        lambda: untrained_body(lambda _, x: doubled(x)),
        r"'paretrim_test.doubled.default' of the network is not an ATen",
    ),
    "symbolic number": (lambda: untrained_body(lambda _, x: x * x.shape[0]), r"it computes with the number of images"),
    "linear over maps": (
        lambda: untrained_body(lambda self, x: self.extra(x), lambda: nn.Linear(8, 8)),
        r"last axis of \(8, 8, 8\); flatten first",
    ),
    "constant of another size": (
        lambda: untrained_body(lambda self, x: (x + self.extra)[0], lambda: nn.Parameter(torch.rand(1, 1, 8, 8, 8))),
        r"the constant 'extra' of shape \(1, 1, 8, 8, 8\) does not fit \(8, 8, 8\); give it one number for each",
    ),
    "zero divisor": (
        lambda: untrained_body(lambda self, x: x / self.extra, lambda: nn.Parameter(torch.zeros(8, 1, 1))),
        r"divides by 'extra', which contains 0",
    ),
    "broadcast": (
        lambda: Outer(lambda x: (x.mean(2) + x.mean(3)).mean(2)),
        r"give both operands the shape \[C, H, W\], with 1 for axes to broadcast; their shapes are \(5, .\) and \(5, .\)",
    ),
    "softplus": (
        lambda: untrained_body(lambda _, x: F.softplus(x, 1, 5)),
        r"leave the threshold of softplus at 20; 5.0 makes it disc",
    ),
    "threshold": (
        lambda: untrained_body(lambda _, x: F.threshold(x, 0.5, 2)),
        r"use threshold with the value 0 or 0.5; it replaces",
    ),
    "repeated rows": (
        lambda: untrained_body(lambda _, x: x.repeat(1, 1, 2, 1)),
        r"repeat only the channels of maps \[N, C, H, W\]; this repe",
    ),
    "product of activations": (
        lambda: untrained_body(lambda _, x: x[:, :1] @ x),
        r"its operands are \(1, 8, 8\) and \(8, 8, 8\); use a convolutional network; attention is not supported, and mat",
    ),
    "first operand transposed": (
        lambda: untrained_body(lambda _, x: x.mT @ x),
        r"it reads a transposed map; only the second operand of a matrix product may be transposed, directly before",
    ),
    "sum of a transposed map": (
        lambda: untrained_body(lambda _, x: x + x.mT),
        r"it reads a transposed map; only the second operand of a matrix product may be transposed, directly before",
    ),
    "product with rows": (
        lambda: untrained_body(lambda self, x: x @ self.extra, lambda: nn.Parameter(torch.ones(8, 8))),
        r"the last axis of a map \(8, 8, 8\) by a constant matrix, .* for vectors only; mix channels with nn\.Conv2d",
    ),
    "power of 0": (
        lambda: untrained_body(lambda _, x: x + x**0),
        r"leave out the power with exponent 0; it is 1 for every image",
    ),
    "slopes of the image": (
        lambda: untrained_body(lambda _, x: torch.prelu(x, x.mean((0, 2, 3)))),
        r"use slopes that are parameters; these are computed from the image|takes the mean over the batch",
    ),
    "random slopes": (
        lambda: untrained_body(lambda _, x: F.rrelu(x, training=True)),
        r"it draws random slopes even in eval mode; pass tra",
    ),
    "scaled ELU": (
        lambda: untrained_body(lambda _, x: torch.ops.aten.elu(x, 1, 1, 2)),
        r"only an ELU with unscaled input is supported",
    ),
    "GLU of the batch": (
        lambda: untrained_body(lambda _, x: torch.cat([F.glu(x, 0)] * 2)),
        r"use GLU along an axis of the image; along the batch it mixes images|could not be captured",
    ),
    "places": (
        lambda: untrained_body(lambda _, x: x.max(1, keepdim=True)[1].float() * x),
        r"its argument getitem_1 is not an activation of the network|activations are cast",
    ),
    "uneven maximum": (
        lambda: untrained_body(lambda _, x: F.adaptive_max_pool2d(x, 3)),
        r"use a max pooling with an explicit window, or a size that divides \[8, 8\]; the windows for \[3, 3\] differ",
    ),
    "pooling over depth": (
        lambda: untrained_body(lambda _, x: F.avg_pool3d(x[:, None], 3, 1, 1)[:, 0]),
        r"use the 2d form; for pooling over depth only a window \[k, 1, 1\] .* and this is \[3, 3, 3\] over \[1, 8, 8, 8\]",
    ),
    "batch slice": (lambda: untrained_body(lambda _, x: x + x[:1]), r"it slices the batch"),
    "batch split": (lambda: untrained_body(lambda _, x: x.split(1, 0)[0]), r"it splits the batch|could not be captured"),
    "pad mode": (
        lambda: untrained_body(lambda _, x: F.pad(x, (-1, 1, 0, 0), "circular")),
        r"pad only height and width, by 0 or more, with zeros or in mode .* is \[-1, 1, 0, 0\] in mode 'circular'",
    ),
    "channels that never win": (
        lambda: untrained_body(lambda _, x: x + F.pad(x, (0, 0, 0, 0, 0, 1), value=-torch.inf)[:, :8]),
        r"padding \[0, 0, 0, 0, 0, 1\] of \(8, 8, 8\); the batch cannot be padded, nor the channels with -inf",
    ),
    "mean": (
        lambda: untrained_body(lambda _, x: torch.cat([x.view(-1, 2, 4, 8, 8).mean((1, 2))[:, None]] * 8, 1)),
        r"compute the mean over channels, height or width of .* groups of channels; this is over axes \[1, 2\] of \(2, 4",
    ),
    "whole mean": (lambda: untrained_body(lambda _, x: x * x.mean()), r"takes the mean over the batch too, and .* name the axes"),
    "padded for pooling": (
        lambda: untrained_body(lambda _, x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)),
        r"reads a value padded with -inf, which only a max pooling without padding can",
    ),
    "mean of padding": (
        lambda: untrained_body(lambda _, x: x + F.pad(x, (0, 1, 0, 1), value=-torch.inf)[:, 0, None, :8, :8]),
        r"a value of shape \(8, 8, 8\) read as \(8, 9, 9\) cannot be split into 8 equal parts",
    ),
    "uneven parts": (
        lambda: untrained_body(lambda _, x: x * x.view(-1, 16, 4, 8)[:, 0].mean((1, 2))[:, None, None, None]),
        r"a value of shape \(8, 8, 8\) read as \(16, 4, 8\) cannot be split into 16 equal parts of channels",
    ),
    "one image": (
        lambda: untrained_body(lambda _, x: x + x[0]),
        r"it selects one image of a batch; every image must be computed alike",
    ),
    "stack": (
        lambda: untrained_body(lambda _, x: torch.stack([x, x], 2).flatten(1, 2)[:, :8]),
        r"stacking along axis 2 to \(8, 2, 8, 8\); only maps",
    ),
    "sum": (
        lambda: untrained_body(lambda _, x: torch.cat([x.view(-1, 2, 4, 8, 8).sum((1, 2))[:, None]] * 8, 1)),
        r"compute the sum over channels, height or width of .* groups of channels; this is over axes \[1, 2\] of \(2, 4",
    ),
    "softmax": (
        lambda: Outer(lambda x: 2 * x.mean((2, 3)).softmax(0)),
        r"\(aten.softmax.int\): it takes the softmax over the batch too, and a file computes every image by itself; name the",
    ),
    "softmax of groups": (
        lambda: untrained_body(lambda _, x: x.view(-1, 2, 4 * 64).softmax(2).view_as(x)),
        r"softmax over groups \[2, 256\] of channels; split them into maps first",
    ),
    "logarithms of alternatives": (
        lambda: untrained_body(lambda _, x: torch.stack([x, x, x], 1).log_softmax(1).sum(1)),
        r"log_softmax over stacked maps; use softmax, and take the logarithm outside",
    ),
    "convolution of rows": (
        lambda: untrained_body(lambda self, x: self.extra(x.flatten(2).mT)[..., None], lambda: nn.Conv1d(64, 8, 1)),
        r"a weight of shape \(8, 64, 1\) over \(64, 8\); it takes rows \[C, L\], such as a map that is flattened|transposed map",
    ),
    "permute": (
        lambda: untrained_body(lambda _, x: x.permute(0, 3, 2, 1)),
        r"keep the channels first; other orders are supported only for channel shuffle, space to depth and depth to space \(axes",
    ),
    "attention": (
        lambda: untrained_body(lambda self, x: self.extra(*[x.flatten(2).mT] * 3)[0].mT.unflatten(2, (8, 8)), attention),
        r"this is attention, as in transformers, which is not supported",
    ),
    "recurrence": (
        lambda: untrained_body(lambda self, x: self.extra(x.flatten(2).transpose(1, 2))[0].mean(1)[..., None, None], recurrent),
        r"this is a recurrent layer, which is not supported",
    ),
    "half shuffle": (
        lambda: untrained_body(lambda _, x: x.view(-1, 2, 4, 8, 8).transpose(1, 2).flatten(1).relu().view(-1, 8, 8, 8)),
        r"a permuted tensor of shape \(512,\) before it is reshaped back to \(8, 8, 8\)",
    ),
    "odd view": (
        lambda: untrained_body(lambda self, x: self.extra(x.flatten(2)).view(-1, 8, 8, 8), lambda: nn.Linear(64, 64)),
        r"reads a tensor of shape \(8, 8, 8\) as \(8, 64\)",
    ),
    "expand": (
        lambda: untrained_body(lambda _, x: x.mean((2, 3))[:, :, None].expand(-1, -1, 4)[..., None]),
        r"expand only maps \[C, H, W\]; this expands \(8, 1\) to \(8, 4\)",
    ),
    "cast": (
        lambda: untrained_body(lambda _, x: x.double()),
        r"activations are cast to torch.float64; capture a float32 network: leave the cast out, and call .float\(\) on it",
    ),
    "overwritten view": (
        lambda: untrained_body(overwritten),
        r"it overwrites .*, which shares its memory, is read afterwards",
    ),
    "batch statistics in eval": (
        lambda: untrained_body(lambda self, x: F.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)),
        r"training = True: it uses batch statistics even in eval mode; pass",
    ),
    "rounded ratio": (
        lambda: untrained_body(lambda _, x: torch.div(x, 0.5, rounding_mode="floor")),
        r"layer 'the network itself' \(aten.div.Tensor_mode\): its argument rounding_mode = 'floor' is not supported, only",
    ),
    "dropout in eval": (
        lambda: untrained_body(lambda _, x: F.dropout(x, 0.5)),
        r"train = True: it drops values even in eval mode; use nn.Drop",
    ),
    "other type": (
        lambda: untrained_body(lambda _, x: x.view(torch.int32).view(torch.float32)),
        r"activations are cast to torch.int32; capture a float32",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_a_graph_cannot_express_is_named(name):
    build, message = ERRORS[name]
    torch.manual_seed(0)
    with pytest.raises(UnsupportedOperation, match=message):
        capture(build().eval(), SHAPE)


def test_classes_must_fit_the_logits():
    with pytest.raises(
        UnsupportedOperation, match="the network returns 5 logits, but the data has 3 classes; build the network with 3"
    ):
        capture(made("sequential"), SHAPE, classes=["a", "b", "c"])


def test_running_out_of_memory_is_named(monkeypatch):
    def export(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch.export, "export", export)
    with pytest.raises(UnsupportedOperation, match="memory ran out while Linear was captured; free some, or raise the limit"):
        capture(nn.Linear(2, 2), (2,))


# What a strict reader found after the first version of the comparison.


class _KeepsTraining(nn.Dropout):
    def train(self, mode=True):
        return super().train(True)


LATER = {
    "division by zero": (lambda: untrained_body(lambda _, x: x / 0), r"layer 'the network itself' \(aten.div.*it divides by 0"),
    "infinite factor": (
        lambda: untrained_body(lambda _, x: x * float("inf")),
        "its other is inf; a file contains finite numbers only",
    ),
    "bound that is no number": (
        lambda: untrained_body(lambda _, x: x.clamp(max=float("nan"))),
        "its max is nan; a file contains finite",
    ),
    "dropout that ignores eval": (
        lambda: untrained_body(lambda self, x: self.extra(x), lambda: _KeepsTraining(0.5)),
        "it drops values even in eval mode",
    ),
    "padding that never wins, reshaped": (
        lambda: untrained_body(lambda _, x: F.max_pool2d(F.pad(x, (2, 2, 2, 2), value=-math.inf).flatten(2)[..., None], (2, 1))),
        "padded with -inf, which only a max pooling",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_a_file_would_get_wrong_is_refused(name):
    build, message = LATER[name]
    with pytest.raises(UnsupportedOperation, match=message):
        capture(build().eval(), SHAPE)
