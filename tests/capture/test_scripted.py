"""TorchScript layers are captured like the layers they were compiled from."""

import operator
from types import SimpleNamespace

import pytest
import torch
from hand_networks import SIZE, Net, conv, trained
from torch import Tensor, nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.capture.agreement import captured_network
from paretrim.capture.script_code import run
from paretrim.errors import UnsupportedOperation
from paretrim.network.network import Network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SHAPE = (3, SIZE, SIZE)
IMAGES = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Branches, loops, methods, sizes and functions of torch."""

    factors: list[float]

    def __init__(self):
        super().__init__()
        self.c, self.norm = conv(8, 8), nn.BatchNorm2d(8)
        self.parts = nn.ModuleList([nn.Sequential(conv(8, 8), nn.ReLU()), conv(8, 8)])
        self.factors, self.wide = [0.5, 2.0], False
        self.register_buffer("shift", torch.linspace(-1, 1, 8).view(1, 8, 1, 1))

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        return x * factor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = F.dropout(x, 0.5)
        y = F.relu(self.norm(self.c(x)))
        for part in self.parts:
            y = part(y)
        for factor in self.factors:
            y = self.scaled(y, factor)
        n, c, h, w = y.shape
        y = y.view(n, c, h * w).view(y.size(0), -1, h, w)
        if y.dim() != 4 or c + 1 == h // 2:
            raise ValueError("no images")
        left, right = y.chunk(2, 1)
        y = torch.cat([left, F.silu(right)], 1) + self.shift
        return F.interpolate(y, scale_factor=2.0, mode="nearest") if x.size(1) > 1 and not self.wide else y


class Straight(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.norm = conv(8, 8), nn.BatchNorm2d(8)

    def forward(self, x):
        return F.relu(self.norm(self.c(x))) + x


def network(part):
    class Custom(Net):
        def build(self):
            self.block = part

        def body(self, x):
            return self.block(x)

    torch.manual_seed(0)
    return trained(Custom())


def scripted(part):
    module = network(part())
    module.block = torch.jit.script(module.block)
    return module


def traced(part):
    module = network(part())
    module.block = torch.jit.trace(module.block, torch.zeros(1, 8, SIZE, SIZE))
    return module


def frozen(part):
    module = network(part())
    module.block = torch.jit.freeze(torch.jit.script(module.block))
    return module


MADE = {
    "plain": lambda: network(Block()),
    "scripted": lambda: scripted(Block),
    "traced": lambda: traced(Straight),
    "frozen": lambda: frozen(Straight),
    "inside of another": lambda: nn.Sequential(scripted(Block)),
    "all of it": lambda: torch.jit.script(network(nn.Sequential(Block(), Straight()))),
}


@pytest.mark.parametrize("name", MADE)
def test_scripted_layers_are_captured(name):
    module = MADE[name]().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    graph = capture(module, SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(Network(graph).eval()(IMAGES), module(IMAGES), rtol=1e-5, atol=1e-5)
    captured_network(module, SHAPE)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_layers_have_the_names_of_those_they_were_made_from():
    plain, script = (capture(module, SHAPE) for module in (network(Block()), scripted(Block)))
    assert [(node.name, node.op, node.layer) for node in script.nodes] == [
        (node.name, node.op, node.layer) for node in plain.nodes
    ]


def own(x: Tensor) -> Tensor:
    return x * 2


class CallsOwn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return own(x)


class Folds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, -1, x.size(2), x.size(3)).view(x.size(0), -1, x.size(2), x.size(3))


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) == 8:
            raise ValueError("eight")
        return x


REFUSED = {
    "function": (
        CallsOwn,
        r"a scripted layer calls the function '.*own', whose code it does not contain.* load the weights into it",
    ),
    "error": (Raises, r"a scripted layer raises an error for these images: eight"),
    "export": (Folds, r"free batch size: .* If a TorchScript layer is the cause, build the network with the module"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_script_does_not_keep_is_named(name):
    part, message = REFUSED[name]
    with pytest.raises(UnsupportedOperation, match=message):
        capture(scripted(part), SHAPE)


CODE = """def forward(s, x: Tensor, y: int) -> Tensor:
  total = annotate(int, 0)
  p, q, = (1, -2)
  while torch.lt(total, y):
    total = torch.add(total, 2)
  for i in range(3):
    if bool(p):
      total: int = torch.add(total, [q, i][1])
    else:
      pass
  return (total if bool(x) else uninitialized(int))
"""


@pytest.mark.parametrize(("x", "expected"), [(1, 9), (0, None)])
def test_script_code_is_run(x, expected):
    assert run(CODE, (None, x, 5), {"torch": SimpleNamespace(add=operator.add, lt=operator.lt)}) == expected


@pytest.mark.parametrize("line", ["del x", "x.y = 1", "return lambda: 1", "return open", "import os"])
def test_other_code_is_refused(line):
    with pytest.raises(UnsupportedOperation, match=r"a scripted layer contains '.*', which is not supported"):
        run(f"def forward(x):\n  {line}\n", (1,), {})
    with pytest.raises(
        UnsupportedOperation, match="a scripted layer reads the attribute '__class__' of a value, which is not supported"
    ):
        run("def forward(x):\n  return x.__class__\n", (1,), {})
