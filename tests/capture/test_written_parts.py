"""Assignment to parts of a value, such as ``x[:, :2] = y``, and statistics that networks compute by hand."""

import pytest
import torch
from deployed import is_deployed
from hand_bodies import body, is_captured, is_refused
from torch import nn
from torch.nn import functional as F


def written(statements):
    """A body of statements on ``x``, of 8 channels of 8 x 8, which ends with x if it returns nothing."""
    lines = "\n    ".join(statements.split("; "))
    names = {"torch": torch, "F": F}
    exec(f"def change(x):\n    {lines}\n    return x", names)
    return body(lambda self, x: names["change"](self.k(x)), k=nn.Conv2d(8, 8, 1))


PARTS = [
    "x[:, :2] = x[:, 2:4]",
    "x[:, 0] = 0.5",
    "x[:, -1] = 0",
    "x[:, :, 1:3, 2] = 0",
    "x[:, :, 1:3] = 1.5",
    "x[:, 1::2] = x[:, ::2]",
    "x[..., ::2, ::2] = 0",
    "x[:, :, ::2] = x[:, :, 1::2]",
    "x[:, :, :, :-1] = x[:, :, :, 1:].clone()",
    "x[:, 1:3, 1:3, 1:3] = x[:, 1:3, 2:4, 2:4].clone()",
    "x[:, 2:][:, 1:3][:, :, 3:] = 0.25",
    "x[:, :4] = x.mean(1, keepdim=True)",
    "x[:, 3] = x[:, 4] * 2",
    "x[:, 3, 2, 1] = x[:, 4, 5, 6] * 2",
    "x[:, :, 0, 0] = x.mean((2, 3))",
    "x[:, :3] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]",
    "x[:, :2] += 1; x[:, 1:2].mul_(2)",
    "x[:, 0:1, 2:4, 3] -= x[:, 1:2, 2:4, 3]",
    "x[:, :2] = F.relu(x[:, :2])",
    "x[:, 1], x[:, 2] = x[:, 2].clone(), x[:, 1].clone()",
    "x[:, :2].copy_(x[:, 2:4]); x[:, 2:3].zero_(); x[:, 3:4].fill_(3.0)",
    "x.select(1, 2).relu_(); x.narrow(1, 3, 2).clamp_(0, 1)",
    "x[:, :4][x[:, :4] < 0] = 0",
    "m = x > 0; m[:, :3] = False; return x * m",
    "v = x.mean((2, 3)); v[:, :2] = v[:, 2:4]; v[:, 7] = 0; return x * v[:, :, None, None]",
    "f = x.flatten(1); f[:, :8] = 0; return torch.relu(f[:, 4:12])[:, :, None, None] * torch.ones(1, 1, 8, 8)",
]
VIEWS = [
    "y = x[:, :4]; y.mul_(2); return x + 1",
    "y = x[:, :4]; y.mul_(2); y.add_(1); return torch.cat([x[:, 4:], y], 1)",
    "y = x[:, :4]; x[:, 2:3] = 0; return torch.cat([y, x[:, 4:]], 1)",
    "a, b = x.chunk(2, 1); a.mul_(2)",
    "a, b = x.split([3, 5], 1); b[:, 1:] = 0; return torch.cat([b, a], 1) + x",
    "parts = x.unbind(1); parts[2].mul_(3); return x + torch.stack(parts, 1)",
    "x.relu_(); y = x.detach(); x[:, 0] = 0; y.mul_(2)",
    "x[:, 0] = 0; y = x.clone(); x[:, 1] = 0; return x + y",
    "y = 2 * x; x[:, :4] = y[:, 4:]; return x + y",
]
NEW_ONES = [
    "o = torch.zeros_like(x); o[:, :2, :-1] = x[:, :2, 1:]; o[:, 2:4, 1:] = x[:, 2:4, :-1]; o[:, 4:] = x[:, 4:]; return o",
    "o = x.new_zeros(x.shape[0], 8, 8, 8); o[:, 1:] = x[:, :-1]; return o",
    "o = torch.zeros(x.shape[0], 8, 10, 10); o[:, :, 1:-1, 1:-1] = x; return o[:, :, 1:9, 1:9] + o[:, :, :8, :8]",
    "o = torch.empty_like(x); o[:, :4] = x[:, 4:]; o[:, 4:] = x[:, :4]; return o",
    "o = torch.ones_like(x); o[:, :, 1:] = x[:, :, :-1]; return o",
    "o = torch.ones_like(x); o[:, ::2] = x[:, :4]; return o",
    "o = torch.zeros_like(x); o[:, 6] = 1; o[:, :2] = x[:, :2]; return x * o[:, 6:7] + x",
]
INDEXED = [
    "x[:, [0, 2]] = x[:, [1, 3]]",
    "x[:, :, [0, 3]] = x[:, :, [1, 2]]",
    "x[:, torch.tensor([True, False] * 4)] = 0",
    "return x.index_fill(1, torch.tensor([1, 3]), 0.5)",
    "return torch.index_copy(x, 1, torch.tensor([3, 1]), x[:, :2])",
    "return torch.slice_scatter(x, x[:, :2], 1, 4, 6)",
    "return torch.select_scatter(x, x[:, 1], 1, 4)",
    "return x[..., torch.tensor([7, 0, 0, 1, 2, 3, 4, 5])]",
]


@pytest.mark.parametrize("statements", [*PARTS, *VIEWS, *NEW_ONES, *INDEXED])
def test_a_part_that_is_written_to_is_what_torch_writes(statements):
    is_captured(written(statements))


REFUSED = {
    "x[0] = 0": r"selects one image of a batch; every image must be computed alike",
    "x[:, [0, 0]] = x[:, [1, 2]]": r"it writes to the same place twice, in any order: the places are \[0, 0\]; give each once",
    "i = torch.tensor([1]); torch.ops.aten.index_put_(x, [None, i], x[:, :1], True)": r"accumulate = True: add to a slice",
    "x[:, :2, :4] = torch.rand(2, 4, 8)": r"draws random numbers",
    "x[:, :2, :4] = torch.arange(8.0)": r"is the same for every image and differs from place to place; use one number for all",
    "x.view(-1, 2, 4, 8, 8)[:, 0, 1] = 0": r"writing to parts of a value that is read again through another view",
    "x.index_fill_(0, torch.tensor([0]), 1.0)": r"write only to channels, rows and columns, with fixed numbers; images of a",
    "return torch.slice_scatter(x, x[:1], 0, 0, 1)": r"slices the batch|writes to some images of the batch",
    "return torch.select_scatter(x, x[0], 0, 0)": r"selects one image|writes to one image of the batch",
    "return x[x.mean((1, 2, 3)).long()]": r"index channels, rows or columns, one axis at a time and with fixed numbers|cast to",
}


@pytest.mark.parametrize("statements", REFUSED)
def test_what_cannot_be_written_is_refused(statements):
    is_refused(written(statements), REFUSED[statements])


STATISTICS = {
    "std of channels": lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 0.1),
    "var of pixels": lambda x: (
        (x - x.mean((2, 3), keepdim=True)) * torch.rsqrt(x.var((2, 3), keepdim=True, unbiased=False) + 0.1)
    ),
    "both at once": lambda x: (lambda v, m: (x - m) * torch.rsqrt(v + 0.1))(*torch.var_mean(x, dim=(1, 2, 3), keepdim=True)),
    "std_mean": lambda x: (lambda s, m: (x - m) / (s + 0.1))(*torch.std_mean(x, dim=[1], keepdim=True, correction=0)),
    "as a gate": lambda x: x * x.var((2, 3))[:, :, None, None],
    "of flattened pixels": lambda x: x * x.flatten(2).std(-1)[..., None, None],
    "RMS of channels": lambda x: F.rms_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2),
    "RMS of a map": lambda x: F.rms_norm(x, x.shape[1:], eps=0.1),
    "groups": lambda x: of_groups(x.view(x.shape[0], 2, -1), -1).view_as(x),
    "groups of maps": lambda x: of_groups(x.view(x.shape[0], 4, 2, 8, 8), (2, 3, 4)).view_as(x),
    "every channel": lambda x: of_groups(x.view(x.shape[0], 8, -1), 2).view_as(x),
}


def of_groups(x, axes):
    return (x - x.mean(axes, keepdim=True)) / torch.sqrt(x.var(axes, keepdim=True, unbiased=False) + 0.1)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_by_hand_are_what_torch_computes(name, tmp_path):
    is_deployed(body(lambda _, x: STATISTICS[name](x)), tmp_path / "a.trim")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _, x: x / x.std(), r"it takes the standard deviation over the batch too, .* name the axes"),
        (
            lambda _, x: x + x.mean((2, 3), True).var((2, 3), keepdim=True),
            r"the variance of 1 numbers, divided by 1 - 1",
        ),
        (
            lambda _, x: x + x.view(-1, 2, 256).amax(2).sum(1)[:, None, None, None],
            r"it takes the largest of groups \[2, 256\] of",
        ),
    ],
)
def test_other_statistics_are_refused(function, message):
    is_refused(body(function), message)
