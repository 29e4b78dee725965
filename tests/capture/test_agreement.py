"""Before training: a captured network that differs from its module is detected, and so is a module that is not deterministic."""

import random
from types import MappingProxyType

import pytest
import torch
from agreeing import IMAGES, SHAPE, agrees, body, is_looked_at, wrong_by
from hand_networks import NETWORKS, Net, conv, made, trained
from torch import nn
from torch.nn import functional as F

from paretrim.capture import agreement, driver
from paretrim.capture.agreement import captured_network
from paretrim.capture.elementwise import pointwise
from paretrim.errors import UnsupportedOperation
from paretrim.network.network import Network


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_far_within_the_bound(name, monkeypatch):
    monkeypatch.setattr(agreement, "TOLERANCE", 3e-6)
    monkeypatch.setattr(agreement, "_is_rounding", lambda *_: False)
    agrees(made(name))


def test_nothing_of_the_callers_is_changed():
    module = body(lambda self, x: F.dropout(self.c(x), 0.5, self.training)).train()
    before, state = {key: value.clone() for key, value in module.state_dict().items()}, torch.get_rng_state()
    network = agrees(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_training_the_network_leaves_the_module_alone():
    module = body(lambda self, x: self.act(self.c(x)))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    network = agrees(module)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_the_module_runs_twice_and_the_images_are_few():
    seen = []

    def count(self, x):
        if not torch.compiler.is_exporting():
            seen.append(len(x))
        return x

    agrees(body(count))
    assert seen == [2, 1]


def test_a_large_network_computes_the_first_image_only(monkeypatch):
    seen, outputs = [], Network.outputs
    monkeypatch.setattr(Network, "outputs", lambda self, x: seen.append(x) or outputs(self, x))
    module = body(lambda self, x: self.act(self.c(x)))
    agrees(module)
    monkeypatch.setattr(agreement, "LARGE", 1)
    agrees(module)
    assert [len(images) for images in seen] == [2, 1]
    assert torch.equal(seen[0][:1], seen[1])


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("error", [1.001, 1.01, 2.0])
def test_the_first_layer_that_is_captured_wrongly_is_named(error, large, monkeypatch):
    if large:
        monkeypatch.setattr(agreement, "LARGE", 1)
    right = driver.CONVERTERS["silu"]

    def wrong(work, call):
        return pointwise(work, call, right(work, call), "mul_constant", error)

    module = body(lambda self, x: torch.sigmoid(self.c(self.act(x)) + 1))
    monkeypatch.setattr(driver, "CONVERTERS", MappingProxyType({**driver.CONVERTERS, "silu": wrong}))
    with pytest.raises(UnsupportedOperation, match=r"differs from the module: .* first in layer 'act' \(aten.silu.default\)"):
        agrees(module)


def test_a_class_that_is_ruled_out_does_not_hide_the_others(monkeypatch):
    module = body(lambda self, x: self.act(self.c(x)))
    with torch.no_grad():
        module.head.bias[1] = -1e6
    agrees(module)
    monkeypatch.setattr(driver, "CONVERTERS", wrong_by(0.01))
    with pytest.raises(UnsupportedOperation, match="the captured network differs from the module"):
        agrees(module)


def test_blank_images_in_front_do_not_hide_a_difference(monkeypatch):
    module = body(lambda self, x: self.act(x - x.mean((2, 3), keepdim=True)))
    blank = torch.cat((torch.zeros_like(IMAGES[:2]), IMAGES))
    agrees(module, blank)
    monkeypatch.setattr(driver, "CONVERTERS", wrong_by(0.01))
    with pytest.raises(UnsupportedOperation, match="the captured network differs from the module"):
        agrees(module, blank)


@pytest.mark.parametrize("asks", [torch.compiler.is_compiling, torch.compiler.is_exporting])
@pytest.mark.parametrize("large", [False, True])
def test_a_module_that_asks_whether_it_is_captured_is_told_so(asks, large, monkeypatch):
    if large:
        monkeypatch.setattr(agreement, "LARGE", 1)

    class Asks(nn.Module):
        def forward(self, x):
            return 2 * x if asks() else x

    module = body(lambda self, x: self.asks(self.c(x)))
    module.asks = Asks()
    with pytest.raises(
        UnsupportedOperation,
        match=r"computes something different while it is being captured, first in layer 'asks': it checks torch.compiler",
    ):
        agrees(module)
    assert not asks()


class OnlyWhenExported(Net):
    def build(self):
        self.c, self.d = conv(8, 8), conv(8, 8)

    def body(self, x):
        x = self.c(x)
        return self.d(x) if is_looked_at(x) else x + self.d(x)


class Doubling(nn.Module):
    def forward(self, x):
        return x if is_looked_at(x) else 2 * x


def test_a_module_that_changes_when_it_is_hooked():
    with pytest.raises(
        UnsupportedOperation, match=r"the captured network differs from the module: .* first in layer 'head'; write"
    ):
        agrees(trained(OnlyWhenExported()))
    module = body(lambda self, x: self.act(self.c(x)))
    module.act = Doubling()
    with pytest.raises(
        UnsupportedOperation, match=r"the captured network differs from the module: .* first in layer 'act'; write"
    ):
        agrees(module)


class Hookless(nn.Module):
    def register_forward_hook(self, *_, **__):
        raise RuntimeError("no hooks here")

    def forward(self, x):
        return x if is_looked_at(x) else 2 * x


def test_a_layer_that_takes_no_hooks_is_compared_at_the_output():
    module = body(lambda self, x: self.act(self.c(x)))
    module.act = Hookless()
    with pytest.raises(UnsupportedOperation, match="the captured network differs from the module"):
        agrees(module)


class Noisy(nn.Module):
    def forward(self, x):
        return x if torch.compiler.is_exporting() else x + 0.1 * torch.randn_like(x)


class Moody(nn.Module):
    def forward(self, x):
        return x * random.random()


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class AcrossTheBatch(nn.Module):
    def forward(self, x):
        return x if torch.compiler.is_exporting() else x - x.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Noisy, r"two runs of the network on the same images differ, first in layer 'act': it is random in eval"),
        (Moody, r"two runs of the network on the same images differ, first in layer 'act': it is random in eval"),
        (Remembers, r"two runs of the network on the same images differ, first in layer 'act': .* or keeps state between calls"),
        (AcrossTheBatch, r"the network's result for an image depends on the other images of its batch"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_modules_that_are_not_deterministic_are_refused(layer, message, large, monkeypatch):
    if large:
        monkeypatch.setattr(agreement, "LARGE", 1)
    module = body(lambda self, x: self.act(self.c(x)))
    module.act = layer()
    with pytest.raises(UnsupportedOperation, match=message):
        agrees(module)


def test_numbers_that_overflow_are_told_with_their_first_layer():
    module = body(lambda self, x: self.act(self.c(x)))
    with torch.no_grad():
        module.norm.weight.mul_(1e20)
        module.c.weight.mul_(1e25)
    with pytest.raises(UnsupportedOperation, match="NaN or infinity for 2 of 2 images, first in layer 'c'; check its weights"):
        agrees(module)


@pytest.mark.parametrize("when", ["captured", "compared"])
def test_a_network_that_ends_the_program_is_an_error(when):
    def leave(self, x):
        if torch.compiler.is_exporting() == (when == "captured"):
            raise SystemExit(3)
        return self.c(x)

    with pytest.raises(
        UnsupportedOperation, match=r"the code of Custom ended the program .* \(SystemExit: 3\); remove sys\.exit"
    ):
        agrees(body(leave))


def test_a_network_that_is_stopped_by_its_user_stops():
    def stop(self, x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agrees(body(stop))


def test_there_must_be_something_to_compress():
    with pytest.raises(UnsupportedOperation, match="no convolution and no linear layer, so it has nothing to compress"):
        agrees(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def test_without_images_random_ones_are_compared():
    module = body(lambda self, x: self.act(self.c(x)))
    captured_network(module, SHAPE)
    module.act = AcrossTheBatch()
    with pytest.raises(UnsupportedOperation, match="depends on the other images"):
        captured_network(module, SHAPE)


def test_a_module_that_runs_in_float32_only_is_judged_by_float32():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = body(lambda self, x: (x + 3e3) - 3e3 + self.c(x))

        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError
            return self.inner(x)

    agrees(Single().eval())
