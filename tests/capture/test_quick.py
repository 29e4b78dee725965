"""The shortcuts of export: one operation per BatchNorm, nothing done twice, and the same graph as without them."""

import gc

import pytest
import torch
from hand_networks import CLASSES, SIZE, Net, conv, trained
from torch import fx, nn
from torch.nn import functional as F

from paretrim.capture import capture, program
from paretrim.capture.private import private_copy
from paretrim.capture.program import program_of
from paretrim.capture.quick import UnusualUse, make_norms_opaque
from paretrim.errors import UnsupportedOperation

SHAPE = (3, SIZE, SIZE)


class Affine(nn.BatchNorm2d):
    """A user-defined BatchNorm."""

    def forward(self, x):
        return super().forward(x) * 2


class WithActivation(nn.BatchNorm2d):
    """Like timm's: it calls the function itself, with its own epsilon here."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, 0.02))


class WithoutBias(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, None)


def frozen(self, x):
    with torch.no_grad():
        return self.one(self.c(x))


def doubled(self, x):
    return self.two(self.d(self.one(self.c(self.one(x)))))


BODIES = {
    "plain": lambda self, x: self.two(self.d(self.one(self.c(x)))),
    "twice": doubled,
    "no_grad": frozen,
    "own kind": lambda self, x: self.own(self.one(x)),
    "with activation": lambda self, x: self.active(self.one(x)),
    "without bias": lambda self, x: self.unbiased(x),
    "no tensors": lambda self, x: self.bare(self.one(x)),
    "in place behind": lambda self, x: torch.relu_(self.one(x)) + x,
    "functional": lambda self, x: F.batch_norm(x, self.two.running_mean, self.two.running_var),
    "reads a weight": lambda self, x: self.one(x) * self.two.weight.view(1, -1, 1, 1),
    "reads a mean": lambda self, x: self.one(x - self.one.running_mean.view(1, -1, 1, 1)),
}
AGAIN = {"without bias", "functional", "reads a weight", "reads a mean"}
"""Those whose export is done again without shortcuts."""


def network(function):
    class Custom(Net):
        def build(self):
            self.c, self.d, self.one, self.two = conv(8, 8), conv(8, 8), nn.BatchNorm2d(8), nn.BatchNorm2d(8, eps=0.1)
            self.own, self.active, self.unbiased = Affine(8), WithActivation(8), WithoutBias(8)

        def body(self, x):
            return function(self, x)

    torch.manual_seed(0)
    module = trained(Custom())
    module.bare = nn.BatchNorm2d(8, affine=False).eval()
    return module


def exports(monkeypatch):
    """How often torch has exported a module, as a list that grows."""
    seen, export = [], torch.export.export

    def counted(*args, **keywords):
        seen.append(args)
        return export(*args, **keywords)

    monkeypatch.setattr(torch.export, "export", counted)
    return seen


@pytest.mark.parametrize("name", BODIES)
def test_the_graph_is_the_same_as_without_shortcuts(name, monkeypatch):
    module, seen = network(BODIES[name]), exports(monkeypatch)
    quick = capture(module, SHAPE)
    assert len(seen) == (2 if name in AGAIN else 1)
    monkeypatch.setattr(program, "make_norms_opaque", lambda _: {})
    plain = capture(module, SHAPE)
    assert [(node.name, node.op, node.inputs, node.type, node.layer, node.attributes) for node in quick.nodes] == [
        (node.name, node.op, node.inputs, node.type, node.layer, node.attributes) for node in plain.nodes
    ]
    for one, other in zip(quick.nodes, plain.nodes, strict=True):
        assert one.tensors.keys() == other.tensors.keys()
        assert all((one.tensors[key] == other.tensors[key]).all() for key in one.tensors)


def test_the_tensors_of_norms_are_not_traced():
    found = program_of(private_copy(network(BODIES["plain"])), SHAPE)
    names = {name for name, _ in found.tensors.values()}
    assert {f"{path}.{name}" for path in ("norm", "one", "two") for name in ("weight", "running_mean", "running_var")} <= names
    assert {name.split(".")[0] for name in found.signature.inputs_to_buffers.values()} == {"bare"}
    traced = {name.split(".")[0] for name in found.signature.inputs_to_parameters.values()}
    assert not {"norm", "one", "two", "own", "unbiased"} & traced
    assert {name for name in found.signature.inputs_to_parameters.values() if "active" in name} == {"active.act.weight"}
    assert all("paretrim" not in str(node.target) for node in found.module.graph.nodes)


def test_a_norm_that_trains_or_lacks_a_tensor_is_left_as_it_is():
    module = network(BODIES["plain"])
    for part in (module.one, module.own, module.active, module.unbiased):
        part.train()
    module.two.bias = None
    del module.norm.num_batches_tracked
    assert make_norms_opaque(module) == {}


@pytest.mark.parametrize("images", [torch.zeros(1, 7, 2, 2), torch.zeros(1, 8, 2, 2, dtype=torch.float64)])
def test_an_opaque_norm_takes_nothing_else(images):
    module = network(BODIES["plain"])
    make_norms_opaque(module)
    one, two = module.one, module.two
    with pytest.raises(UnusualUse, match="'one' is given an input of another type or shape"):
        one(images)
    with pytest.raises(UnusualUse, match=r"'one.num_batches_tracked.add_' is read"):
        one.train()(torch.zeros(1, 8, 2, 2))
    with pytest.raises(UnusualUse, match=r"'one.running_mean.add' is read"):
        one.running_mean.add(1)
    with pytest.raises(UnusualUse, match=r"is given a tensor of a BatchNorm"):
        torch.add(one.weight, 1)
    with pytest.raises(UnusualUse, match=r"'one.weight' is taken as true or false"):
        bool(one.weight)
    with pytest.raises(UnusualUse, match=r"is given a tensor of a BatchNorm"):
        images * one.weight
    with pytest.raises(UnusualUse, match="'one' is given an input of another type or shape"):
        F.batch_norm(torch.zeros(1, 8, 2), one.running_mean, one.running_var, one.weight, one.bias)
    images = torch.zeros(1, 8, 2, 2)
    with pytest.raises(UnusualUse, match="other tensors than those of 'one', or trains"):
        F.batch_norm(images, one.running_mean, two.running_var, one.weight, one.bias)
    with pytest.raises(UnusualUse, match="other tensors than those of 'one', or trains"):
        F.batch_norm(images, one.running_mean, one.running_var, one.weight, one.bias, training=True)


@pytest.mark.parametrize("collecting", [True, False])
def test_settings_are_put_back_also_after_a_failure(collecting):
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    (gc.enable if collecting else gc.disable)()
    try:
        for module in (network(BODIES["plain"]), Fails()):
            try:
                capture(module, SHAPE)
            except UnsupportedOperation:
                assert isinstance(module, Fails)
            assert gc.isenabled() == collecting
            assert fx.config.do_not_emit_stack_traces is False
    finally:
        gc.enable()


def test_a_first_try_that_fails_leaves_no_trace():
    class Keeps(Net):
        def body(self, x):
            x = x + getattr(self, "kept", 0)
            self.kept = x.mean()
            return x * self.norm.weight.mean()

    graph = capture(trained(Keeps()), SHAPE)
    assert graph.nodes[-1].type.shape == (CLASSES,)
