"""Programs that a graph cannot express, each rejected in one sentence that says why."""

import pytest
import torch
from hand_bodies import SHAPE, block, body
from hand_networks import CLASSES, conv
from torch import fx, nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.capture.program import _inline
from paretrim.errors import UnsupportedOperation


def reads_a_counter(self, x):
    self.calls += 1
    return x * self.calls


def reads_what_was_computed_from_a_counter(self, x):
    self.calls += 1
    return x * (self.calls.reshape(1) + 1)


def reads_the_last(self, x):
    self.calls.copy_(x.mean())
    return x * self.calls


def cast(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return block(self, x).float()


def decides(_, x):
    return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


def lazy(_):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))


def meta(module):
    with torch.device("meta"):
        return type(module)()


REFUSED = {
    "counter": (reads_a_counter, None, r"it reads 'calls', which the network itself changes at every call; a file has no state"),
    "from a counter": (reads_what_was_computed_from_a_counter, None, r"reads 'calls', which the network itself changes"),
    "last": (reads_the_last, None, r"it reads 'calls', which the network itself changes at every call"),
    "autocast": (
        cast,
        None,
        r"computes in torch.bfloat16 inside torch.autocast, but is captured in float32; use autocast around",
    ),
    "cond": (decides, None, r"the network branches or loops at run time with torch's 'cond', but a file is one fixed list"),
    "random": (
        lambda _, x: x + torch.rand(1),
        None,
        r"\(aten.rand.default\): it draws random numbers even in eval mode, but a file",
    ),
    "noise": (
        lambda _, x: x + torch.randn_like(x),
        None,
        r"\(aten.randn_like.default\): it draws random numbers even in eval mode",
    ),
    "lazy": (
        block,
        lazy,
        r"'0.weight' of the model has no shape yet, as in Lazy... layers before their first call; call the",
    ),
    "meta": (
        block,
        meta,
        r"'stem.weight' of the model is on the device 'meta', where tensors have no values; call model.to_empty",
    ),
    "base below 0": (
        lambda self, x: torch.pow(-2.0, self.c(x).relu()),
        None,
        r"\(aten.pow.Scalar\): it raises -2.0 to the power of an activation; one of the two must be a fixed number, and a base",
    ),
    "two activations": (
        lambda self, x: torch.sigmoid(x) ** self.c(x),
        None,
        r"\(aten.pow.Tensor_Tensor\): it raises sigmoid to the power of an activation; one of the two must be a fixed number",
    ),
    "exponents": (
        lambda _, x: (x - 0.1) ** torch.arange(1.0, 9.0).view(8, 1, 1),
        None,
        r"its exponent '.*' has 8 numbers, some of them whole, and its base may be negative; give all channels one exponent, or",
    ),
    "number of images": (lambda _, x: x.reshape(len(x), -1).view_as(x), None, r"len\(x\) of a tensor \(write x.shape\[0\]\)"),
    "fmax": (
        lambda self, x: torch.fmax(x, self.c(x)),
        None,
        r"\(aten.fmax.default\): use torch.maximum; it is the same if nothing is NaN",
    ),
    "no module": (block, lambda _: "resnet18", r"the model is of type str; it must be an nn.Module"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_what_cannot_be_captured_is_told_in_one_sentence(name):
    function, change, message = REFUSED[name]
    module = body(function, c=conv(8, 8))
    module.register_buffer("calls", torch.zeros(()))
    with pytest.raises(UnsupportedOperation, match=message):
        capture(change(module) if change else module, SHAPE)


def test_blocks_of_an_unknown_kind_are_named():
    graph = fx.Graph()
    graph.output(graph.call_function(torch.ops.higher_order.run_with_rng_state, (graph.placeholder("x"),)))
    with pytest.raises(
        UnsupportedOperation, match="uses torch's 'run_with_rng_state', which is not supported; write its operations out"
    ):
        _inline(fx.GraphModule(nn.Module(), graph))


class Attention(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.inner = kind, nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        if self.kind == "module":
            return self.inner(tokens, tokens, tokens)[0].mean(1)
        if self.kind == "encoder":
            return self.encoder(tokens).mean(1)
        if self.kind == "function":
            return F.scaled_dot_product_attention(tokens, tokens, tokens).mean(1)
        if self.kind == "einsum":
            shares = torch.einsum("nqc,nkc->nqk", tokens, tokens).softmax(-1)
            return torch.einsum("nqk,nkc->nqc", shares, tokens).mean(1)
        return ((tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens).mean(1)


@pytest.mark.parametrize("kind", ["module", "encoder", "function", "einsum", "written out"])
def test_attention_is_called_attention(kind):
    module = nn.Sequential(nn.Conv2d(3, 8, 1), Attention(kind), nn.Linear(8, CLASSES)).eval()
    with pytest.raises(UnsupportedOperation, match=r"layer '1.*this is attention, as in transformers, which is not supported"):
        capture(module, SHAPE)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell])
def test_recurrence_is_called_recurrence(kind):
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.head = kind(24, CLASSES), nn.Flatten()

        def forward(self, x):
            if kind is nn.LSTMCell:
                return self.rows(x.permute(2, 0, 1, 3).flatten(2)[0])[0]
            return self.rows(x.permute(2, 0, 1, 3).flatten(2))[0][-1]

    with pytest.raises(UnsupportedOperation, match=r"layer 'rows' .*this is a recurrent layer, which is not supported"):
        capture(Rows().eval(), SHAPE)
