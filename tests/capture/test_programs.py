"""Ways in which people write, wrap and keep modules that say nothing about what the network computes."""

import copy
import sys
import threading
import time
import warnings

import pytest
import torch
from hand_bodies import IMAGES, SHAPE, body, is_captured
from hand_networks import CLASSES, SIZE, Net, conv, trained
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from paretrim.capture import capture
from paretrim.capture.private import private_copy
from paretrim.capture.program import _inline
from paretrim.errors import UnsupportedOperation


def block(self, x):
    return F.relu(self.c(x))


def frozen(self, x):
    with torch.no_grad():
        return block(self, x)


def thawed_inside(self, x):
    with torch.no_grad():
        x = self.c(x)
        with torch.enable_grad():
            x = F.relu(x)
        return x + 1


def inference(self, x):
    with torch.inference_mode():
        return block(self, x)


def split_inside(self, x):
    with torch.no_grad():
        left, right = x.chunk(2, 1)
        right = right + left
    return torch.cat([left, right], 1)


def in_place_inside(self, x):
    y = self.c(x)
    with torch.no_grad():
        y.relu_()
    return y + x


def not_cast(device):
    def forward(self, x):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu"):
            return block(self, x)

    return forward


def kept_for(reentrant):
    return lambda self, x: checkpoint(lambda y: block(self, y), x, use_reentrant=reentrant)


BLOCKS = {
    "no_grad": frozen,
    "enable_grad": thawed_inside,
    "inference_mode": inference,
    "several values": split_inside,
    "in place": in_place_inside,
    "autocast switched off": not_cast("cpu"),
    "autocast of another device": not_cast("cuda"),
    "checkpoint": kept_for(False),
    "reentrant checkpoint": kept_for(True),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_blocks_are_opened(name):
    graph = is_captured(body(BLOCKS[name], c=conv(8, 8)))
    assert name == "several values" or "c" in {node.name for node in graph.nodes}


def test_decorated_forwards_are_opened():
    class Decorated(Net):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    graph = is_captured(trained(Decorated()))
    assert [node.name for node in graph.nodes if node.tensors] == ["stem", "norm", "head"]


def test_a_compiled_layer_is_captured():
    is_captured(body(block, c=torch.compile(conv(8, 8), backend="eager")))


class Variadic(Net):
    def forward(self, *args, **kw):
        return super().forward(*args, **kw)


class Optional(Net):
    def forward(self, x, mask=None, *, flag=False):
        return super().forward(x)


@pytest.mark.parametrize("kind", [Variadic, Optional])
def test_forwards_with_further_arguments(kind):
    is_captured(trained(kind()))


WRAPPERS = {
    "averaged": torch.optim.swa_utils.AveragedModel,
    "parallel": nn.DataParallel,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "averaged and parallel": lambda module: torch.optim.swa_utils.AveragedModel(nn.DataParallel(module)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_taken_off(name):
    graph = is_captured(WRAPPERS[name](trained(Net())))
    assert [node.name for node in graph.nodes if node.tensors] == ["stem", "norm", "head"]


def weight_normed(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.stem = nn.utils.weight_norm(module.stem)


def spectral_normed(module):
    module.stem = nn.utils.spectral_norm(module.stem)
    module.train()(IMAGES)
    module.eval()


def pruned(module):
    prune.l1_unstructured(module.stem, "weight", 0.5)
    module(IMAGES).sum().backward()
    module(IMAGES)


def keeps_features(module):
    module.seen = {"stem": [module.stem(IMAGES)]}
    module.last = module(IMAGES)


def hooked(module):
    module.norm.register_forward_hook(lambda _module, _inputs, output: output * 2)


def holds_handles(module):
    module.lock, module.stream = threading.Lock(), (number for number in range(3))
    module.file = sys.__stdout__.buffer
    module.parts = [module.stem, module.lock]


def bound(module):
    original = module.body
    module.body = lambda x: original(x) * 3


class Strange:
    def __deepcopy__(self, memo):
        raise ValueError("not to be copied")


def holds_strange(module):
    module.strange = Strange()


KEPT = [weight_normed, spectral_normed, pruned, keeps_features, hooked, holds_handles, bound, holds_strange]


@pytest.mark.parametrize("change", KEPT)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_modules_that_cannot_be_copied_are_captured_and_left_alone(change):
    module = body(block, c=conv(8, 8))
    change(module)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    is_captured(module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert {key: value.requires_grad for key, value in module.named_parameters()} == dict.fromkeys(
        dict(module.named_parameters()), True
    )


def test_a_copy_shares_no_module_with_the_original():
    module = body(lambda self, x: self.parts[0](x), c=conv(8, 8))
    module.parts = [module.c]
    graph = is_captured(module)
    assert "c" in {node.name for node in graph.nodes}
    copied = private_copy(module)
    assert copied.parts[0] is copied.c
    assert not {id(part) for part in copied.modules()} & {id(part) for part in module.modules()}
    assert not {part.data_ptr() for part in copied.parameters()} & {part.data_ptr() for part in module.parameters()}
    assert module.training is False
    assert isinstance(copy.deepcopy(copied), nn.Module)


def test_modes_and_random_numbers_are_left_alone():
    module = body(block, c=conv(8, 8)).train()
    state = torch.get_rng_state()
    capture(module, SHAPE)
    assert module.training
    assert module.norm.training
    assert torch.equal(torch.get_rng_state(), state)


def counts(self, x):
    self.calls += 1
    self.average.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
    self.last.copy_(x.mean())
    return self.c(x)


def test_buffers_that_change_and_are_not_read_do_not_matter():
    module = body(counts, c=conv(8, 8))
    for name, value in {"calls": torch.zeros((), dtype=torch.int64), "average": torch.zeros(8), "last": torch.zeros(())}.items():
        module.register_buffer(name, value)
    is_captured(module)


def changes_its_input(self, x):
    F.relu_(x)
    x.add_(1)
    return self.c(x)


def test_a_changed_input_counts_and_the_images_of_the_user_stay():
    class Changed(Net):
        def forward(self, x):
            x.mul_(2).sub_(0.5)
            return super().forward(x)

    is_captured(trained(Changed()))
    is_captured(body(changes_its_input, c=conv(8, 8)))


def made_here(self, x):
    scale = torch.ones(8, 1, 1) * 2
    scale[0] = 3
    return F.conv2d(x, self.c.weight.clone().mul_(2), padding=1) * scale + torch.arange(8.0).view(8, 1, 1)


def test_constants_that_are_made_in_forward_are_computed_in_order():
    is_captured(body(made_here, c=conv(8, 8)))


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
    "counter": (reads_a_counter, None, r"it reads 'calls', which the network itself changes at every call; a file keeps nothing"),
    "from a counter": (reads_what_was_computed_from_a_counter, None, r"reads 'calls', which the network itself changes"),
    "last": (reads_the_last, None, r"it reads 'calls', which the network itself changes at every call"),
    "autocast": (
        cast,
        None,
        r"computes in torch.bfloat16 inside torch.autocast, and is captured in float32; enter autocast around",
    ),
    "cond": (decides, None, r"the network decides with torch's 'cond' while it runs, and a file holds one fixed list"),
    "random": (lambda _, x: x + torch.rand(1), None, r"\(aten.rand.default\): it draws random numbers also in eval, and a file"),
    "noise": (lambda _, x: x + torch.randn_like(x), None, r"\(aten.randn_like.default\): it draws random numbers also in eval"),
    "lazy": (
        block,
        lazy,
        r"'0.weight' of the model has no shape yet, as in layers named Lazy... before their first call; call the",
    ),
    "meta": (
        block,
        meta,
        r"'stem.weight' of the model is on the device 'meta', where tensors hold no numbers; call model.to_empty",
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
    "coordinates": (
        lambda _, x: torch.cat([x, torch.linspace(-1, 1, SIZE).expand(x.shape[0], 2, *x.shape[2:])], 1)[:, 2:],
        None,
        r"'linspace' is the same for every image, and is used like an activation; .* like the coordinates of CoordConv",
    ),
    "maximum with a map": (
        lambda _, x: torch.maximum(x, torch.arange(float(SIZE))),
        None,
        r"the constant '.*' of shape \(8,\) is not one number per channel of \(8, 8, 8\)",
    ),
    "fmax": (
        lambda self, x: torch.fmax(x, self.c(x)),
        None,
        r"\(aten.fmax.default\): use torch.maximum; it is the same where nothing is NaN",
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
        UnsupportedOperation, match="uses torch's 'run_with_rng_state', which is not known; write its operations out"
    ):
        _inline(fx.GraphModule(nn.Module(), graph))


def test_a_norm_that_is_used_twice_is_two_layers_with_the_same_numbers():
    graph = is_captured(body(lambda self, x: self.norm(self.d(self.norm(self.c(x)))), c=conv(8, 8), d=conv(8, 8)))
    norms = [node for node in graph.nodes if node.op == "batch_norm"]
    assert [node.name for node in norms] == ["norm", "norm_2", "norm_3"]
    assert all((norm.tensors[name] == norms[0].tensors[name]).all() for norm in norms for name in norm.tensors)


@pytest.mark.parametrize(
    "parts",
    [
        lambda bank: (bank[0], bank[1]),
        lambda bank: bank.unbind(0),
        lambda bank: tuple(part.squeeze(0) for part in bank.chunk(2)),
        lambda bank: (bank.transpose(0, 1)[:, 0], bank.transpose(0, 1)[:, 1]),
    ],
)
def test_parts_of_one_parameter_are_weights_of_their_own(parts):
    def twice(self, x):
        first, second = parts(self.bank)
        return F.conv2d(F.relu(F.conv2d(x, first, padding=1)), second, padding=1)

    graph = is_captured(body(twice, bank=nn.Parameter(torch.randn(2, 8, 8, 3, 3) / 8)))
    assert [node.name for node in graph.nodes if node.op == "conv2d"] == ["stem", "bank", "bank_2"]


def test_overlapping_parts_of_one_parameter_are_shared():
    def twice(self, x):
        return F.conv2d(F.conv2d(x, self.bank[:8], padding=1), self.bank[1:9], padding=1)

    with pytest.warns(UserWarning, match="the weight 'bank' is used more than once"):
        graph = is_captured(body(twice, bank=nn.Parameter(torch.randn(9, 8, 3, 3) / 8)))
    assert [node.name for node in graph.nodes if node.op == "conv2d"] == ["stem", "bank", "bank_2"]


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


EXACT = {
    "crop": lambda _, x: F.pad(F.pad(x, (-1, 0, -2, -1)), (1, 0, 3, 0)),
    "crop and pad": lambda _, x: F.pad(x, (-1, 1, 2, -2)),
    "crop of channels": lambda _, x: torch.cat([F.pad(x, (0, 0, 0, 0, -3, 1)), F.pad(x, (0, 0, 0, 0, 0, -6))], 1),
    "crop for pooling": lambda _, x: F.max_pool2d(F.pad(x, (-1, 1, 0, 1), value=-torch.inf), 3, 2),
    "constant minus": lambda self, x: self.bank - x,
    "constant minus all": lambda self, x: (self.bank[:, :1] - self.c(x)) - self.bank,
    "minus constant minus": lambda self, x: (1 - x) - (self.bank - self.c(x)),
}


def overwritten(change):
    """``change`` overwrites a tensor that has two names, both of which are read afterwards."""

    def forward(self, x):
        x = self.c(x)
        same = F.dropout(x, 0.5, self.training)
        change(self, x)
        return same + 2 * x

    return forward


EXACT |= {
    "two to the power": lambda self, x: torch.pow(2, self.c(x)),
    "a fraction to the power": lambda self, x: 0.3 ** self.c(x),
    "one to the power": lambda self, x: x + 1.0 ** self.c(x),
    "lerp": lambda self, x: torch.lerp(x, self.c(x), 0.3),
    "lerp by channel": lambda self, x: torch.lerp(x, self.c(x), self.bank),
    "lerp by activations": lambda self, x: torch.lerp(x, self.c(x), torch.sigmoid(x)),
    "lerp_": overwritten(lambda self, x: x.lerp_(x * 2 + 1, 0.3)),
    "addcmul_": overwritten(lambda self, x: x.addcmul_(x + 1, torch.sigmoid(x), value=0.5)),
    "addcdiv_": overwritten(lambda self, x: x.addcdiv_(x + 1, torch.sigmoid(x) + 1, value=-2)),
    "square_": overwritten(lambda self, x: x.sigmoid_().square_()),
    "maximum with a constant": lambda self, x: torch.maximum(self.c(x), self.bank),
    "a constant maximum": lambda self, x: torch.maximum(self.bank, self.c(x)),
    "minimum with a constant": lambda self, x: torch.minimum(self.c(x), -self.bank),
    "maximum with a number": lambda self, x: torch.max(self.c(x), torch.tensor(0.25)),
    "gradients on": lambda self, x: self.c(x) if torch.is_grad_enabled() else x * 2,
    "requires gradients": lambda self, x: self.c(x) if self.c(x).requires_grad else x * 2,
}


@pytest.mark.parametrize("name", EXACT)
def test_what_comes_out_is_exact(name):
    is_captured(body(EXACT[name], c=conv(8, 8), bank=nn.Parameter(torch.rand(1, 8, 1, 1))))


def test_copying_takes_time_in_proportion_to_the_layers():
    def seconds(layers):
        module = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(layers)))
        taken = []
        for _ in range(3):
            began = time.process_time()
            private_copy(module)
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(800) < 24 * seconds(100)  # in proportion it is 8 times; by their square it would be 64 times
