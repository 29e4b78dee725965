"""Rare forms of operations: aliases, arguments, axes and ways to create a tensor."""

import pytest
import torch
from deployed import is_deployed
from hand_bodies import body, is_refused
from torch import nn
from torch.nn import functional as F


def running(**settings):
    norm = nn.InstanceNorm2d(8, affine=True, track_running_stats=True, **settings)
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def in_part(x):
    return torch.cat([x, x.new_empty(x.shape[0], 2, *x.shape[2:]).zero_()], 1)[:, 1:9]


def global_response_norm(x):
    size = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    return x * (size / (size.mean(dim=-1, keepdim=True) + 1e-6)) + x


def coordinates(layer, x):
    """Coordinate attention: the means of rows and of columns share a layer."""
    rows, columns = F.adaptive_avg_pool2d(x, (None, 1)), F.adaptive_avg_pool2d(x, (1, None)).permute(0, 1, 3, 2)
    rows, columns = F.relu(layer(torch.cat([rows, columns], 2))).split(8, 2)
    return x * torch.sigmoid(rows) * torch.sigmoid(columns.permute(0, 1, 3, 2))


def exponents(low=1.0, high=4.0):
    """A module whose weight is one exponent per channel [8, 1, 1]."""
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.linspace(low, high, 8)[:, None, None])
    return holder


KNOWN = {
    "dilated transposed": (lambda self, x: self.k(x), nn.ConvTranspose2d(8, 8, (3, 2), (3, 2), 1, (2, 1), 4, dilation=(2, 3))),
    "convolution": (lambda self, x: torch.convolution(x, self.k.weight, None, [2, 1], [1, 2], [1, 2], False, [0, 0], 2), 2),
    "transposed convolution": (
        lambda self, x: torch.convolution(x, self.k.weight, None, [2] * 2, [1] * 2, [1] * 2, True, [1] * 2, 1),
        1,
    ),
    "sum of a window": (lambda _, x: F.avg_pool2d(x, 2, divisor_override=1), None),
    "divisor, with padding that counts": (lambda _, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=5), None),
    "divisor, with padding that does not": (lambda _, x: F.avg_pool2d(x, 3, 2, 1, False, False, 4), None),
    "instance norm with running statistics": (lambda self, x: self.k(x), running()),
    "bounds of every channel": (lambda self, x: x.clamp(self.k.weight.mean((1, 2, 3))[:, None, None], torch.ones(8, 1, 1)), 1),
    "least of every channel": (lambda self, x: torch.clamp_min(x, self.k.weight.mean((1, 2, 3))[:, None, None]), 1),
    "most of an activation": (lambda _, x: torch.clamp_max(x, x.mean((2, 3), keepdim=True)), None),
    "bound of another activation": (lambda _, x: (x - 0.5).clamp(min=-x, max=torch.tensor(0.5)), None),
    "reversed difference": (lambda _, x: torch.rsub(x, x.mean((2, 3), keepdim=True), alpha=2), None),
    "reversed difference from a constant": (lambda self, x: torch.rsub(x, torch.arange(8.0)[:, None, None] / 8), None),
    "least and most": (lambda _, x: sum(torch.aminmax(x, dim=1, keepdim=True)) + x, None),
    "unsafe chunk": (lambda _, x: torch.cat(torch.unsafe_chunk(x, 2, 1)[::-1], 1), None),
    "filled with a number": (lambda _, x: x * torch.empty_like(x).fill_(2.5), None),
    "filled with zeros": (lambda _, x: in_part(x), None),
    "filled by size": (lambda _, x: x + torch.empty(x.shape).fill_(2), None),
    "filled with a value": (lambda _, x: x - torch.empty_like(x).copy_(x.mean((2, 3), keepdim=True)), None),
    "new number": (lambda _, x: x + x.new_full((1,), 0.5) + x.new_ones(8, 1, 1), None),
    "rows below each other": (lambda _, x: torch.cat([x, torch.zeros_like(x[:, :, :3]), -x[:, :, 2:]], 2), None),
    "columns beside each other": (lambda _, x: torch.cat([x[..., 5:], x, 2 * x], -1), None),
    "padding with a number": (lambda _, x: F.pad(x, (1, 0, 2, 1), value=0.5), None),
    "padding of channels with a number": (lambda _, x: F.pad(x, (0, 0, 0, 0, 1, 0), value=0.5)[:, :8], None),
    "stacked in front": (lambda _, x: torch.stack([x, 2 * x, -x]).sum(0), None),
    "mean of what is stacked in front": (lambda _, x: torch.stack([x, 2 * x], -5).mean(dim=(-5,)), None),
    "largest of what is stacked in front": (lambda _, x: torch.stack([x, 1 - x, x * x]).max(0).values, None),
    "one of what is stacked in front": (lambda _, x: torch.stack([x, 1 - x])[1], None),
    "maxout of neighbours": (lambda _, x: x.unflatten(1, (4, 2)).amax(2).repeat(1, 2, 1, 1), None),
    "mean of neighbours": (lambda _, x: x.unflatten(1, (2, 4)).mean(2).repeat(1, 4, 1, 1), None),
    "unit features": (lambda _, x: x * F.normalize(x.mean((2, 3)))[:, :, None, None], None),
    "features less their mean": (lambda _, x: x + (lambda v: v - v.mean(1, keepdim=True))(x.amax((2, 3)))[..., None, None], None),
    "features by their largest": (lambda _, x: x * (lambda v: v / (v.amax(1, True) + 1))(x.amax((2, 3)))[..., None, None], None),
    "spread of features": (lambda _, x: x * (lambda v: v.std(1, keepdim=True) + v)(x.mean((2, 3)))[..., None, None], None),
    "global response norm": (lambda _, x: global_response_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), None),
    "pooled channels-last": (lambda _, x: x * x.permute(0, 2, 3, 1).mean((1, 2))[:, :, None, None], None),
    "norm of channels-last": (
        lambda _, x: (lambda y: y - y.mean(-1, keepdim=True))(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        None,
    ),
    "spread of channels-last": (
        lambda _, x: (lambda y: y / (y.std(-1, keepdim=True) + 1))(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        None,
    ),
    "mean image of channels-last": (lambda _, x: x + x.permute(0, 2, 3, 1).mean(3)[:, None], None),
    "similarity to a direction": (
        lambda self, x: x * F.cosine_similarity(x, self.k.weight.view(1, 8, 1, 1), dim=1).unsqueeze(1),
        nn.Linear(8, 1),
    ),
    "bounds that cross": (lambda _, x: x + x.clamp(0.5, 0.2) + F.hardtanh(x, 0.1, 0.3).clamp_min(0.2).clamp(max=0.15), None),
    "no NaN": (lambda _, x: torch.nan_to_num(x - 0.3) + torch.nan_to_num(x, nan=1.0).nan_to_num_(), None),
    "every channel twice": (lambda _, x: x[:, 4:].repeat_interleave(2, 1) * x[:, :2].repeat_interleave(4, dim=1), None),
    "every row and column twice": (
        lambda _, x: x + x[:, :, ::2, 1::2].repeat_interleave(2, 2).repeat_interleave(2, 3),
        None,
    ),
    "pixels as blocks": (
        lambda _, x: x[:, :, :4, :2, None].unsqueeze(3).expand(-1, -1, -1, 2, -1, 4).reshape(-1, 8, 8, 8) - x,
        None,
    ),
    "channels in turn": (lambda _, x: x + x[:, :2].unsqueeze(1).expand(-1, 4, -1, -1, -1).flatten(1, 2), None),
    "gates of several maps": (
        lambda _, x: x * torch.stack([f(x, (2, 3), True) for f in (torch.mean, torch.amax)], 1).expand(-1, 2, -1, 8, 8).sum(1),
        None,
    ),
    "mean of vectors": (
        lambda self, x: x * torch.stack([self.k(x.mean((2, 3))), x.amax((2, 3))]).mean(0)[..., None, None],
        nn.Linear(8, 8),
    ),
    "largest of vectors": (
        lambda self, x: x * torch.stack([self.k(x.mean((2, 3))), x.amax((2, 3))], 1).amax(1)[..., None, None],
        nn.Linear(8, 8),
    ),
    "second of vectors": (lambda _, x: x * torch.stack([x.mean((2, 3)), x.amax((2, 3))], 1)[:, 1, :, None, None], None),
    "mean of what is stacked behind": (lambda _, x: torch.stack([x, 2 * x, 1 - x], -1).mean(-1), None),
    "largest of what is stacked in the middle": (lambda _, x: torch.stack([x, 1 - x], 3).amax(3), None),
    "joined stacks": (
        lambda _, x: torch.cat([x.unsqueeze(1), torch.stack([2 * x, x * x], 1)], 1).sum(1) / 4,
        None,
    ),
    "joined rows of vectors": (
        lambda _, x: x * torch.cat([f(x, (2, 3)).unsqueeze(1) for f in (torch.mean, torch.amax)], 1).mean(1)[..., None, None],
        None,
    ),
    "matrix times channels": (
        lambda self, x: x + F.relu(self.k.weight @ x.flatten(2)).view_as(x),
        nn.Linear(8, 8),
    ),
    "vector as a map": (
        lambda self, x: x + F.interpolate(self.k(x.mean((2, 3))).view(-1, 8, 2, 4), size=(8, 8)),
        nn.Linear(8, 64),
    ),
    "map in another shape": (
        lambda self, x: x * torch.sigmoid(self.k(x.reshape(-1, 16, 4, 8)).view(x.shape)),
        nn.Conv2d(16, 16, 1),
    ),
    "channels as rows": (
        lambda self, x: x * torch.sigmoid(self.k(x.mean((2, 3)).view(-1, 1, 8, 1)).reshape(-1, 8, 1, 1)),
        nn.Conv2d(1, 1, (3, 1), padding=(1, 0)),
    ),
    "a row as a column": (lambda self, x: coordinates(self.k, x), nn.Conv2d(8, 8, 1)),
    "padding that cuts off on one side": (lambda _, x: F.pad(x, (1, -1, -2, 3, 1, -1), value=2), None),
    "cut off by padding with a number": (lambda _, x: F.pad(x, (-1, -2, -3, 0), value=0.5), None),
    "patches": (lambda self, x: self.k(F.unfold(x, 3, padding=1).view(-1, 72, 8, 8)), nn.Conv2d(72, 8, 1)),
    "patches far apart": (
        lambda _, x: F.unfold(x, (3, 2), dilation=(2, 1), padding=(1, 0), stride=(2, 3)).view(-1, 48, 3, 3)[:, ::6],
        None,
    ),
    "matrix times patches": (
        lambda self, x: (self.k.weight @ F.unfold(x, 2, stride=2)).view(-1, 8, 4, 4),
        nn.Linear(32, 8),
    ),
    "mean of patches": (lambda _, x: F.unfold(x, 3, padding=1).unflatten(1, (8, 9)).mean(2).view(-1, 8, 8, 8), None),
    "patches put back": (lambda _, x: x - F.fold(F.unfold(x, 3, padding=1), 8, 3, padding=1) / 9, None),
    "patches put back far apart": (
        lambda _, x: F.fold(x.repeat(1, 6, 1, 1)[:, :, 1:5, 2:5].flatten(2), 9, (3, 2), (2, 3), (1, 0), (2, 2)),
        None,
    ),
    "transposed rows": (lambda self, x: self.k(x.flatten(2)).view(-1, 8, 8, 16), nn.ConvTranspose1d(8, 8, 2, 2)),
    "transposed rows of groups": (
        lambda self, x: self.k(x.mean(2))[..., None],
        nn.ConvTranspose1d(8, 8, 4, stride=3, padding=2, output_padding=1, dilation=2, groups=4),
    ),
    "products of two vectors": (
        lambda self, x: x * self.k(x.mean((2, 3)), x.amax((2, 3))[:, :5])[..., None, None],
        nn.Bilinear(8, 5, 8),
    ),
    "products of two vectors without bias": (
        lambda self, x: x * self.k(x.mean((2, 3)), x.amax((2, 3)))[..., None, None],
        nn.Bilinear(8, 8, 8, bias=False),
    ),
    "inverse of a sigmoid": (lambda _, x: torch.logit(x, 0.1) + torch.logit(torch.sigmoid(x)), None),
    "powers of channels": (
        lambda self, x: x.clamp(min=0.01).pow(self.k.weight).mean((2, 3), keepdim=True).pow(1 / self.k.weight) + x,
        exponents(),
    ),
    "powers of channels that are all the same": (
        lambda self, x: (x - 0.5).pow(self.k.weight) + x,
        exponents(2.0, 2.0),
    ),
    "broken powers of channels": (lambda self, x: (x + 0.5).pow(self.k.weight), exponents(0.45, 2.45)),
    "channels by a mask": (lambda self, x: self.k(x[:, torch.tensor([True, False] * 4)]), nn.Conv2d(4, 8, 1)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_rarer_form_is_what_torch_computes(name, tmp_path):
    function, layer = KNOWN[name]
    layer = nn.Conv2d(8, 8, 3, groups=layer) if isinstance(layer, int) else layer
    is_deployed(body(function, **({"k": layer} if layer else {})), tmp_path / "a.trim")


REFUSED = {
    "everything": (
        lambda _, x: x + x.sum(),
        r"\(aten.sum.default\): it takes the sum over the batch too, .* name the axes, such as",
    ),
    "largest of everything": (lambda _, x: x + x.max(), r"it takes the largest over the batch too"),
    "no axis": (lambda _, x: x + x.amin(dim=()), r"it takes the smallest over the batch too"),
    "random numbers in a new tensor": (
        lambda _, x: F.gumbel_softmax(x, dim=1),
        r"\(aten.exponential_.default\): it draws random num",
    ),
    "any numbers": (lambda _, x: x + torch.empty_like(x) * 0, r"\(aten.empty_like.default\): join the parts .* any numbers"),
    "one side of channels-last": (
        lambda _, x: x + x.permute(0, 2, 3, 1).mean(1).sum(1)[:, :, None, None],
        r"it reduces only height or only width of a channels-last map; pass keepdim=True",
    ),
    "blocks of pixels": (
        lambda _, x: x + x.view(-1, 8, 4, 2, 4, 2).permute(0, 1, 2, 4, 3, 5).amax((4, 5)).mean((2, 3))[:, :, None, None],
        r"use nn.MaxPool2d or nn.AvgPool2d for blocks of pixels; they are not reduced along permuted axes",
    ),
    "nothing": (lambda _, x: torch.cat([x, x[:, :0]], 1), r"it takes nothing of \(8, 8, 8\): a slice from 0 to 0; leave it out"),
    "rows of planes": (
        lambda _, x: torch.cat([x.flatten(2)] * 2, 2)[..., None],
        r"only channels, rows and columns of maps can be",
    ),
    "padding with infinity": (
        lambda _, x: F.pad(x, (1, 1), value=torch.inf),
        r"its value is inf; a file contains finite numbers only",
    ),
    "padding of the batch with a number": (
        lambda _, x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, -1), value=2),
        r"padding \[.*, 1, -1\] of \(8, 8, 8\) with 2.0; the batch cannot be padded",
    ),
    "some whole powers of what may be negative": (
        lambda _, x: x + (x - 0.5) ** torch.linspace(2, 3, 8)[:, None, None],
        r"its exponent '.*' has 8 numbers, some of them whole, and its base may be negative; .* write x\.clamp\(min=1e-6\)",
    ),
    "complex numbers": (
        lambda _, x: torch.fft.fft2(x).real,
        r"\(aten\.fft_fft2\.default\): it computes with complex numbers, which a file does not have; write it with real numbers",
    ),
    "more complex numbers": (lambda _, x: torch.complex(x, x).abs(), r"\(aten\.complex\.default\): it computes with complex num"),
    "a count of true": (
        lambda _, x: x * (x > 0.5).sum(1, keepdim=True),
        r"activations are cast to torch\.int64; make the mask a number first, with \.float\(\)",
    ),
    "windows of a tensor": (
        lambda _, x: x.unfold(2, 2, 2).mean(-1),
        r"use a convolution, F\.unfold or nn\.PixelUnshuffle; x\.unf",
    ),
    "infinity as a number": (
        lambda _, x: torch.nan_to_num(x, posinf=10.0),
        r"\(aten.nan_to_num.default\): its argument posinf = 10.0 is not supported, only the default, None",
    ),
    "matrix times rows": (
        lambda self, x: self.c.weight @ x,
        r"its first operand is a constant and its second \(8, 8, 8\); only a constant matrix times the channels",
    ),
    "mixed axes": (
        lambda _, x: x + x.view(-1, 2, 4, 64)[:, :, :, None].expand(-1, -1, -1, 2, -1).sum(3).view(-1, 8, 8, 8),
        r"expand only maps \[C, H, W\]; this expands \(2, 4, 1, 64\) to \(2, 4, 2, 64\)",
    ),
    "several results": (lambda _, x: torch.frexp(x)[0], r"\(aten.frexp.Tensor\): write the layer with other operations; this"),
    "volume": (
        lambda self, x: torch.convolution(
            x[:, :, None], self.c.weight[..., None, None, None], None, [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1
        )[:, :, 0],
        r"use Conv2d or ConvTranspose2d; images have two sides",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_refused(name):
    function, message = REFUSED[name]
    is_refused(body(function, c=nn.Linear(8, 8)), message)
