"""Comparisons, choices by masks, and ``torch.einsum``."""

import pytest
import torch
from deployed import is_deployed
from hand_bodies import body, is_refused
from torch import nn

from paretrim.capture.einsum import einsum


def without_negatives(x):
    x = x - 0.3
    x[x < 0] = 0.1
    return x


CHOICES = {
    "leaky": lambda _, x: torch.where(x - 0.3 > 0, x - 0.3, 0.1 * x),
    "numbers": lambda _, x: torch.where(x > 0.3, 1.0, -1.0) * x,
    "number and value": lambda _, x: torch.where(x < 0.3, 0.5, x),
    "of pixels": lambda _, x: torch.where(x >= x.mean((2, 3), keepdim=True), x, 0.0),
    "of whole channels": lambda _, x: torch.where(x.mean((2, 3), keepdim=True) <= 0.3, 2 * x, x.mean(1, keepdim=True)),
    "bound of every channel": lambda self, x: torch.where(x > self.bound, self.bound, x),
    "product with a mask": lambda _, x: x * (x > 0.2) + x * (x > 0.1).type_as(x) + (x < 0.5).float(),
    "masks joined": lambda _, x: torch.where((x > 0.1) & ~(x > 0.5) | (x < 0.02), x, 2 * x),
    "masks moved": lambda _, x: x * torch.cat([x[:, 4:] > 0.1, x[:, :4] > 0.2], 1) * (x[:, 0] > 0.1).unsqueeze(1),
    "filled": lambda _, x: (x - 0.3).masked_fill_(x < 0.3, 0).masked_fill(x > 1, torch.tensor(1.0)),
    "written by a mask": lambda _, x: without_negatives(x),
    "sign": lambda _, x: x * torch.sign(x - 0.3),
    "fixed channels": lambda self, x: torch.where(self.chosen, x, -x) + x.masked_fill(self.chosen, 0.5),
    "fixed channels and means": lambda self, x: torch.where(self.chosen, x, x.mean(1, keepdim=True)),
    "fixed channels and constants": lambda self, x: torch.where(self.chosen, x, self.bound),
    "einsum: one pixel": lambda self, x: torch.einsum("nchw,oc->nohw", x, self.matrix),
    "einsum: dots": lambda self, x: torch.einsum("...chw, co -> ...ohw", x, self.matrix),
    "einsum: vector": lambda self, x: torch.einsum("nc,oc", x.mean((2, 3)), self.matrix)[:, :, None, None],
    "einsum: channels last": lambda self, x: torch.einsum("bhwc,co->bhwo", x.permute(0, 2, 3, 1), self.matrix).permute(
        0, 3, 1, 2
    ),
    "einsum: gate": lambda _, x: torch.einsum("nchw,nc->nchw", x, x.mean((2, 3)).sigmoid()),
    "einsum: three": lambda self, x: torch.einsum("nchw,c,nhw->nchw", x, self.bound[:, 0, 0], x.mean(1).sigmoid()),
    "einsum: product summed": lambda _, x: x + torch.einsum("nchw,nchw->nc", x, x.sigmoid())[:, :, None, None] / 64,
    "einsum: products of channels": lambda _, x: x + torch.einsum("nchw,ndhw->ncd", x, x).flatten(1)[:, :8, None, None] / 64,
    "einsum: products of maps": lambda _, x: torch.einsum("nchk,nckw->nchw", x, x.sigmoid()),
    "einsum: products of turned maps": lambda _, x: torch.einsum("nchk,ncwk->nchw", x.sigmoid(), x),
    "einsum: in the other order": lambda _, x: torch.einsum("nckw,nchk->nchw", x, x.sigmoid()),
    "log of sums": lambda _, x: x + torch.logsumexp(x, (2, 3), keepdim=True) * torch.logsumexp(x, 1)[:, None],
    "log of two": lambda _, x: torch.logaddexp(x, -x) + torch.logaddexp(x, x.mean((2, 3), keepdim=True)),
    "log of two powers of 2": lambda _, x: torch.logaddexp2(x, -x) + torch.logaddexp2(x, x.mean((2, 3), keepdim=True)),
    "length of two": lambda _, x: torch.hypot(x, x.mean(1, keepdim=True) + 0.5),
    "product with a logarithm": lambda _, x: torch.xlogy(x.relu(), x.sigmoid()) + torch.special.xlog1py(x, x.relu()),
    "logarithm and number": lambda _, x: torch.xlogy(x.relu(), 2.5) + torch.xlogy(0.5, x.sigmoid()),
    "running sums": lambda _, x: x.cumsum(1) / 8 + x.cumsum(2) / 8 + x.sigmoid().cumsum(-1) / 8,
    "einsum: order": lambda _, x: torch.einsum("nchw->nhwc", x).permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_what_torch_computes(name, tmp_path):
    generator = torch.Generator().manual_seed(0)
    parts = {
        "bound": torch.rand(8, 1, 1, generator=generator),
        "chosen": (torch.arange(8) % 3 == 0)[:, None, None],
        "matrix": nn.Parameter(torch.randn(8, 8, generator=generator)),
    }
    is_deployed(body(CHOICES[name], **parts), tmp_path / "a.trim")


REFUSED = {
    "equal": (lambda _, x: x * (x == 0), r"\(aten.eq.Scalar\): use relu, .* of comparisons >, >=, < and <= are supported"),
    "no number": (lambda _, x: x * x.isnan(), r"\(aten.isnan.default\): use relu"),
    "not of a number": (lambda _, x: x * torch.logical_not(x), r"it asks whether numbers are 0; compare them with >, >="),
    "cast": (lambda _, x: x * x.bool(), r"activations are cast to torch.bool; capture a float32 network"),
    "nothing": (lambda _, x: torch.where(x > 0, 0.0, 0.0) + x, r"a choice between two numbers that are 0 is 0"),
    "added by a mask": (
        lambda _, x: x.index_put([x > 0.3], torch.tensor(1.0), accumulate=True),
        r"accumulate = True: join the parts with torch.cat",
    ),
    "infinite": (
        lambda _, x: torch.where(x > 0, torch.inf, x),
        r"its value is inf; a file contains finite numbers|NaN or inf",
    ),
    "infinite constant": (lambda _, x: x + torch.full((8, 1, 1), torch.inf), r"the constant '.*' holds NaN or infinity; a file"),
    "a matrix of a vector": (
        lambda _, x: torch.diag_embed(x.mean((2, 3))).mean(2)[..., None, None],
        r"it has numbers \[8, 8\] for a value of shape \[8, 8\]; only maps \[C, H, W\] have one for every pixel",
    ),
    "of two products": (
        lambda _, x: torch.einsum("nchw,nkhw,ndhw->nckd", x, x, x).flatten(2)[..., None],
        r"einsum is supported only where it",
    ),
    "diagonal": (lambda _, x: torch.einsum("nchh->nch", x)[..., None], r"einsum is supported only where it is one of these"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_choice_is_refused(name):
    function, message = REFUSED[name]
    is_refused(body(function), message)


def test_a_mask_is_no_output():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Positive())
    is_refused(module.eval(), r"output 0 of the network is of type torch.bool; return the float32 values behind it")


class Positive(nn.Module):
    def forward(self, x):
        return x > 0


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("nchw,oc->nohw", [(2, 3, 4, 5), (6, 3)]),
        ("nchw,co->nhwo", [(2, 3, 4, 5), (3, 6)]),
        ("oc,nhwc->nhwo", [(6, 3), (2, 4, 5, 3)]),
        ("...c,oc->...o", [(2, 4, 5, 3), (6, 3)]),
        ("nc,c", [(2, 3), (3,)]),
        ("nchw,nc,hw->nwc", [(2, 3, 4, 5), (2, 3), (4, 5)]),
        ("nchw->cn", [(2, 3, 4, 5)]),
        ("nchw,ndhw->ncd", [(2, 3, 4, 5), (2, 6, 4, 5)]),
        ("nch,nhwd->ncwd", [(2, 3, 4), (2, 4, 5, 6)]),
        ("nabk,nkc->nabc", [(2, 3, 4, 5), (2, 5, 6)]),
        ("nkc,nabk->nabc", [(2, 5, 6), (2, 3, 4, 5)]),
        ("gnij,gnkj->gnik", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ab...,b...->a...", [(2, 3, 4, 5), (3, 4, 5)]),
    ],
)
def test_einsum_is_written_out_right(equation, shapes):
    """The oracle is torch's own."""
    tensors = [torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    torch.testing.assert_close(einsum(equation, tensors), torch.einsum(equation, tensors))


def test_an_einsum_that_makes_axes_is_not_written_out():
    with pytest.raises(NotImplementedError, match="a product that has more axes than its parts"):
        einsum("na,nb->nab", [torch.ones(2, 3), torch.ones(2, 4)])
    with pytest.raises(NotImplementedError, match="diagonals"):
        einsum("naa->na", [torch.ones(2, 3, 3)])
