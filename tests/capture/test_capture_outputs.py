"""Modules with several outputs: captured in order and compared one by one; unsupported outputs are rejected by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from paretrim.capture import capture
from paretrim.capture.agreement import captured_network
from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run_outputs
from paretrim.network.network import Network


class Heads(nn.Module):
    """A trunk of five channels, and what ``returns`` makes of it, its mean and a linear layer of that."""

    def __init__(self, returns):
        super().__init__()
        torch.manual_seed(3)
        self.trunk, self.head, self.returns = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 4), returns

    def forward(self, x):
        maps = self.trunk(x).relu()
        mean = maps.mean((2, 3))
        return self.returns(maps, mean, self.head(mean))


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
FORMS = {
    "tuple": lambda maps, mean, head: (head, mean),
    "list": lambda maps, mean, head: [head, mean],
    "dictionary": lambda maps, mean, head: {"head": head, "mean": mean},
    "nested": lambda maps, mean, head: (head, {"mean": [mean]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_come_in_their_order(form):
    module = Heads(FORMS[form])
    network = captured_network(module.eval(), (3, 8, 8))
    assert network.structure.outputs[0] == "head"
    assert network.structure.output_shapes == ((4,), (5,))
    with torch.no_grad():
        found = network.eval()(IMAGES)
        expected = Heads(FORMS["tuple"]).eval()(IMAGES)
    assert isinstance(found, tuple)
    for output, other in zip(found, expected, strict=True):
        torch.testing.assert_close(output, other)


LAST = {
    "added to a product": lambda self, mean: torch.addmm(self.head.bias, mean, self.head.weight.t(), beta=0.5, alpha=2),
    "product over one axis": lambda self, mean: torch.tensordot(mean, self.head.weight.t(), dims=1),
    "length": lambda _, mean: torch.linalg.norm(mean, dim=1, keepdim=True),
}
"""Operations that torch writes out with others."""


@pytest.mark.parametrize("form", LAST)
def test_an_output_may_be_what_is_written_out(form):
    module = Heads(lambda maps, mean, head: None).eval()
    module.returns = lambda maps, mean, head: (head, LAST[form](module, mean))
    found = captured_network(module, (3, 8, 8)).eval()(IMAGES)
    for output, other in zip(found, module(IMAGES), strict=True):
        torch.testing.assert_close(output, other)


NONES = {
    "behind": (
        lambda maps, mean, head: (head, None),
        r"returns None as 'output_1', which is left out: the file returns one value, 'logits'",
    ),
    "by key": (
        lambda maps, mean, head: {"out": head, "aux": None},
        r"returns None as 'aux', which is left out: the file returns one value, 'logits'",
    ),
}


@pytest.mark.parametrize("form", NONES)
def test_a_none_is_left_out_and_said_so(form):
    returns, remark = NONES[form]
    with pytest.warns(UserWarning, match=remark):
        network = captured_network(Heads(returns).eval(), (3, 8, 8), classes=("a", "b", "c", "d"))
    assert network.structure.outputs == ("head",)
    assert network.structure.classes == ("a", "b", "c", "d")


def test_names_stay_with_their_outputs_where_one_is_none():
    with pytest.warns(UserWarning, match=r"returns None as 'aux', .*: the file returns 'out', 'mean'"):
        graph = capture(Heads(lambda maps, mean, head: {"out": head, "aux": None, "mean": mean}), (3, 8, 8))
    assert graph.output_names == ("out", "mean")


def test_a_map_may_be_an_output():
    graph = capture(Heads(lambda maps, mean, head: (head, maps)), (3, 8, 8), classes=("a", "b", "c", "d"))
    validate(graph)
    assert graph.output_shapes == ((4,), (5, 8, 8))
    assert graph.classes == (), "class names are for one output"
    with torch.no_grad():
        found = Network(graph).eval()(IMAGES)
    for output, other in zip(found, run_outputs(graph, IMAGES.numpy()), strict=True):
        np.testing.assert_allclose(output.numpy(), other, rtol=1e-5, atol=1e-6)


def test_a_map_may_be_the_only_output():
    graph = capture(Heads(lambda maps, mean, head: maps), (3, 8, 8), classes=("a", "b", "c", "d", "e"))
    validate(graph)
    assert (graph.output_shapes, len(graph.classes), graph.output_names) == (((5, 8, 8),), 5, ())
    with torch.no_grad():
        found = Network(graph).eval()(IMAGES)
    np.testing.assert_allclose(found.numpy(), run_outputs(graph, IMAGES.numpy())[0], rtol=1e-5, atol=1e-6)


def test_a_module_that_returns_a_tuple_of_one_tensor_has_logits():
    graph = capture(Heads(lambda maps, mean, head: (head,)), (3, 8, 8), classes=("a", "b", "c", "d"))
    assert (graph.output, graph.classes) == ("head", ("a", "b", "c", "d"))


REFUSED = {
    "nothing": (lambda maps, mean, head: (), "the network returns nothing; it must return logits"),
    "a number": (
        lambda maps, mean, head: (head, 3),
        r"output 1 of the network is 3; outputs are tensors \[N, ...\], so leave it out",
    ),
    "numbers": (
        lambda maps, mean, head: head[:, 0],
        r"output 0 of the network is \[N\], one number for each image without an axis; return \[N, 1\], so leave out squeeze",
    ),
    "boxes": (
        lambda maps, mean, head: (head, maps.view(-1, 5, 1, 8, 8)),
        r"output 1 of the network is \[N, 5, 1, 8, 8\]; return",
    ),
    "channels last": (lambda maps, mean, head: maps.permute(0, 2, 3, 1), r"is \[N, 8, 8, 5\] with permuted axes; return vectors"),
    "places": (
        lambda maps, mean, head: maps.flatten(2).mT,
        r"output 0 of the network is \[N, 64, 5\] with permuted",
    ),
    "none at all": (lambda maps, mean, head: None, "the network returns nothing; it must return logits"),
    "number": (lambda maps, mean, head: (head, 7), "output 1 of the network is 7; outputs are tensors"),
    "twice": (lambda maps, mean, head: (head, mean, head), "output 2 of the network is the same as output 0; leave it out"),
    "softmax": (
        lambda maps, mean, head: (head.softmax(1), mean),
        "softmax at the end of one of 2 outputs; return its input",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_output_is_refused(name):
    returns, message = REFUSED[name]
    with pytest.raises(UnsupportedOperation, match=message):
        capture(Heads(returns), (3, 8, 8))


def test_the_images_are_no_output():
    class Echo(Heads):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(UnsupportedOperation, match="output 1 of the network is the images themselves; leave it out"):
        capture(Echo(lambda maps, mean, head: head), (3, 8, 8))


def test_a_second_output_that_is_random_is_noticed():
    class Random(Heads):
        calls = 0

        def forward(self, x):
            head, mean = super().forward(x)
            if torch.compiler.is_exporting():
                return head, mean
            self.calls += 1
            return head, mean * self.calls

    with pytest.raises(UnsupportedOperation, match="two runs of the network on the same images differ"):
        captured_network(Random(FORMS["tuple"]).eval(), (3, 8, 8))


def test_a_second_output_that_is_another_under_capture_is_noticed():
    class Two(Heads):
        def forward(self, x):
            head, mean = super().forward(x)
            return head, mean + 1 if torch.compiler.is_exporting() else mean

    with pytest.raises(UnsupportedOperation, match="computes something different while it is being captured"):
        captured_network(Two(FORMS["tuple"]).eval(), (3, 8, 8))


def test_nan_in_a_second_output_is_noticed():
    module = Heads(lambda maps, mean, head: (head, mean.log().log()))
    with pytest.raises(UnsupportedOperation, match="the network returns NaN or infinity for 2 of 2 images"):
        captured_network(module.eval(), (3, 8, 8))


def test_an_output_named_twice_in_a_graph_is_refused():
    graph = capture(Heads(FORMS["tuple"]), (3, 8, 8))
    with pytest.raises(CorruptFile, match="the output 'head' is named twice; name it once"):
        validate(replace(graph, outputs=("head", "head")))
