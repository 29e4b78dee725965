"""A refusal names the call as the user wrote it, with its line, its layer and what to do."""

import inspect
import re

import pytest
import torch
from hand_bodies import SHAPE, is_refused
from torch import nn
from torch.nn import functional as F

from paretrim.capture import called_from, capture
from paretrim.errors import UnsupportedOperation


class Distances(nn.Module):
    """A head of prototypes."""

    def __init__(self):
        super().__init__()
        self.prototypes = nn.Parameter(torch.ones(5, 8))

    def forward(self, x):
        return -torch.cdist(x.mean((2, 3)), self.prototypes)


class Pooling(nn.Module):
    """GeM with an exponent for every channel, of values that may be negative."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.linspace(2, 4, 8).view(1, 8, 1, 1))

    def forward(self, x):
        return F.adaptive_avg_pool2d(x.pow(self.p), 1).pow(1 / self.p)


def line_of(kind):
    """The number of the line after ``def forward``."""
    lines, first = inspect.getsourcelines(kind)
    return first + next(place for place, line in enumerate(lines) if "def forward" in line) + 1


PLACE = re.escape("test_called_from.py")

CALLS = {
    "running product": (lambda x: x.cumprod(2), r"x\.cumprod\(2\)", r"use a sum, maximum or mean of the whole axis"),
    "largest": (lambda x: x.topk(4, dim=1)[0], r"x\.topk\(4, dim=1\)", r"a file does not order values"),
    "remainder": (lambda x: x % 1, r"x % 1", r"leave the rounding out"),
    "fraction": (lambda x: x.frac(), r"x\.frac\(\)", r"leave the rounding out"),
    "remainder of a sign": (lambda x: x.fmod(2), r"x\.fmod\(2\)", r"leave the rounding out"),
    "median": (lambda x: x - x.median(1, True)[0], r"x\.median\(1, True\)", r"a file does not order values"),
    "windows": (lambda x: x.unfold(2, 2, 1).mean(-1), r"x\.unfold\(2, 2, 1\)", r"use a convolution, F\.unfold or nn\.Pix"),
    "distances": (lambda x: torch.cdist(x, x, p=1), r"torch\.cdist\(x, x, p=1\)", r"write out the squared distances"),
    "places": (lambda x: x.argmax(1, True) * x, r"x\.argmax\(1, True\)", r"compute indices and orders outside of the net"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_refused_call_is_quoted_with_its_line(name):
    function, call, remedy = CALLS[name]
    is_refused(around(Calling(function)), rf"^layer '1' \(aten\..*{remedy}.*; it is called as {call} in line \d+ of {PLACE}$")


def around(part):
    return nn.Sequential(nn.Conv2d(3, 8, 1), part).eval()


def test_the_layer_is_that_of_the_call():
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Pooling(), nn.Flatten()), nn.Linear(8, 5)).eval()
    quoted = rf"; it is called as x\.pow\(self\.p\) in line {line_of(Pooling)} of {PLACE}$"
    is_refused(module, rf"^layer '1\.0' \(aten\.pow.*has 8 numbers, .*; give all channels one exponent.*{quoted}")


UNEXPORTED = {
    "prototypes": (
        Distances,
        r"torch\.cdist\(x\.mean\(\(2, 3\)\), self\.prototypes\)",
        r"layer '1', works for some",
    ),
    "product": (
        lambda x: torch.kron(x, torch.ones(1, 1, 2, 2)),
        r"torch\.kron\(x, .*\)",
        r"works for some numbers of images only; use nn\.Upsample\(mode='nearest'\) for blocks of equal pixels",
    ),
    "chosen": (
        lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True), 1),
        r"torch\.take_along_dim\(x, .*\)",
        r"works for some numbers of images only; use index_select or x\[:, indices\] with fixed indices",
    ),
    "rounding": (
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255),
        r"torch\.fake_quantize_per_tensor_affine\(x, 0\.1, 0, 0, 255\)",
        r"leave the rounding out",
    ),
    "of what is there": (lambda x: x * len(torch.unique(x)), r"len\(torch\.unique\(x\)\)", r"Data-dependent control flow"),
}


@pytest.mark.parametrize("name", UNEXPORTED)
def test_what_torch_cannot_export_is_quoted_too(name):
    function, call, said = UNEXPORTED[name]
    part = function() if function is Distances else Calling(function)
    module = around(part)
    with pytest.raises(UnsupportedOperation, match=said) as caught:
        capture(module, SHAPE)
    assert re.search(rf"{call} in line \d+ of {PLACE}", str(caught.value))


class Calling(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


VECTORS = {
    "squeezed": lambda x: x[:, :1].squeeze(1),
    "one of them": lambda x: x[:, 0],
    "flat": lambda x: x[:, :1].flatten(),
    "mean of all": lambda x: x[:, :, None, None].mean((1, 2, 3)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_one_number_without_an_axis_says_how_to_keep_the_axis(name):
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Calling(VECTORS[name])).eval()
    is_refused(module, r"output 0 of the network is \[N\], one number for each image without an axis; return \[N, 1\], so leave")


def test_code_that_cannot_be_found_is_not_quoted():
    """As of modules that were made by exec, or of torch alone."""
    made = {"torch": torch}
    exec("def function(x):\n    return x.cumprod(1)\n", made)
    module = around(Calling(made["function"]))
    is_refused(module, r"it is called as self\.function\(x\) in line \d+ of")
    only_torch = around(nn.AdaptiveMaxPool2d(5))
    is_refused(only_torch, r"the windows for \[5, 5\] differ in size$")


def test_a_module_that_fails_when_it_is_run_again_keeps_its_error():
    calls = []

    def function(x):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("once only")
        return x.cumprod(1)

    is_refused(around(Calling(function)), r"running products, maxima and minima are not supp")


def test_a_long_call_is_cut():
    call = called_from.CallSite("f", "/a/net.py", 3, "x" * 9, "b")
    assert call.in_words() == "xxxxxxxxx in line 3 of net.py"
    assert call.with_layer() == "xxxxxxxxx in line 3 of net.py, layer 'b'"
