"""Ways to write and wrap modules that do not change what the network computes."""

import pytest
import torch
from hand_bodies import SHAPE, block, body, is_captured
from hand_networks import Net, conv, trained
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from paretrim.capture import capture


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
def test_overwritten_tensors_are_captured_exactly(name):
    is_captured(body(EXACT[name], c=conv(8, 8), bank=nn.Parameter(torch.rand(1, 8, 1, 1))))
