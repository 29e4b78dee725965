"""Small networks around one operation each: captured, quantized without training, and deployed."""

import pytest
import torch
from deployed import IMAGES, SHAPE, is_deployed
from hand_networks import Net, conv
from torch import nn
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.capture.agreement import captured_network
from paretrim.network.network import Network


def of(function, *, channels=8, build=None):
    """A network with ``function`` between its stem and its head."""

    class Custom(Net):
        def build(self):
            self.extra = build() if build else None
            self.last = conv(channels, 8, 1)

        def body(self, x):
            return self.last(function(self, x))

    return Custom


def layer(*layers, channels=8):
    """A network with these modules between its stem and its head."""
    return of(lambda self, x: self.extra(x), channels=channels, build=lambda: nn.Sequential(*layers))


def alone(function, **settings):
    """A network with a function of one tensor between its stem and its head."""
    return of(lambda _, x: function(x), **settings)


class Ends(nn.Module):
    """A network whose result is a function of its logits."""

    def __init__(self, function):
        super().__init__()
        self.stem, self.head, self.function = conv(3, 8), nn.Linear(8, 5), function

    def forward(self, x):
        return self.function(self.head(F.relu(self.stem(x)).mean((2, 3))))


def spread_slopes():
    prelu = nn.PReLU(8)
    nn.init.uniform_(prelu.weight, -0.5, 0.9)
    return prelu


def cbam(self, x):
    """Channel and spatial attention. Source: Woo et al. 2018, arXiv 1807.06521."""
    x = x * torch.sigmoid(self.extra[0](x.mean((2, 3), keepdim=True)) + self.extra[2](x.amax((2, 3), keepdim=True)))
    seen = torch.cat([x.mean(1, keepdim=True), torch.max(x, dim=1, keepdim=True)[0]], 1)
    return x * torch.sigmoid(self.extra[1](seen))


def coordinates(self, x):
    """Gates of rows and of columns. Source: Hou et al. 2021, arXiv 2103.02907."""
    return x * self.extra[0](x.mean(3, keepdim=True)).sigmoid() * self.extra[1](x.mean(2, keepdim=True)).sigmoid()


def space_to_depth(x):
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous()
    return x.view(batch, channels * 4, height // 2, width // 2)


def in_place(_, x):
    y = 2 * x
    y.square_().clip_(0.1, 3)
    return y - x


def written_gelu(x):
    return 0.5 * x * (1.0 + torch.erf(x / 2**0.5))


def general_mean(x):
    """Source: Radenovic et al. 2018, arXiv 1711.02512."""
    return F.avg_pool2d(x.clamp(min=1e-6).pow(3), 2).pow(1 / 3)


ALIASES = {
    "concat": lambda x: torch.concat([x, -x], 1)[:, 4:12],
    "concatenate": lambda x: torch.concatenate([x, -x], 1)[:, 4:12],
    "hstack": lambda x: torch.hstack([x, -x])[:, 4:12],
    "clip": lambda x: torch.clip(x, 0.1, 1),
    "multiply": lambda x: torch.multiply(x, -x),
    "divide": lambda x: torch.divide(x, 2),
    "true divide": lambda x: torch.true_divide(x, 2),
    "negative": lambda x: torch.negative(x),
    "subtract": lambda x: torch.subtract(x, x.sigmoid(), alpha=0.5),
    "positive": lambda x: torch.positive(x),
    "absolute": lambda x: torch.absolute(x - 0.5),
    "narrow": lambda x: x.narrow(1, 2, 6),
    "unflatten": lambda x: x.unflatten(1, (2, 4)).flatten(1, 2),
    "tensor split": lambda x: torch.cat(x.tensor_split(3, 1)[::-1], 1),
    "horizontal split": lambda x: torch.cat(x.hsplit(2)[::-1], 1),
    "depth split": lambda x: torch.cat(x.dsplit(2)[::-1], 1)[:, 4:12],
    "unbind": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "swap axes": lambda x: x.reshape(-1, 2, 4, 8, 8).swapaxes(1, 2).reshape(-1, 8, 8, 8),
    "move axis": lambda x: torch.moveaxis(x.reshape(-1, 2, 4, 8, 8), 1, 2).reshape(-1, 8, 8, 8),
    "expit": lambda x: torch.special.expit(x),
    "square": lambda x: torch.square(x),
    "float power of a root": lambda x: x.abs().sqrt(),
    "add and multiply": lambda x: torch.addcmul(x, x, x.sigmoid(), value=0.5),
    "maximum by another name": lambda x: torch.max(x, 1 - x),
    "broadcast to": lambda x: x * x.mean((2, 3), keepdim=True).broadcast_to(x.shape),
    "repeated rows": lambda x: x.repeat_interleave(1, 2),
}

FUNCTIONS = {
    "square": lambda x: (x - 0.5) ** 2,
    "cube": lambda x: (x - 0.5).pow(3),
    "power": lambda x: (x + 0.1) ** 0.7,
    "root": lambda x: torch.sqrt(x + 0.01),
    "inverse root": lambda x: torch.rsqrt(x + 0.5),
    "reciprocal": lambda x: 1 / (x + 0.5),
    "absolute": lambda x: (x - 0.5).abs(),
    "exponential": lambda x: torch.exp(-x),
    "power of 2": lambda x: torch.exp2(-x),
    "expm1": lambda x: torch.expm1(-x),
    "logarithm": lambda x: torch.log(x + 0.1),
    "log1p": lambda x: torch.log1p(x),
    "log2": lambda x: torch.log2(x + 0.5),
    "log10": lambda x: torch.log10(x + 0.5),
    "sine": lambda x: torch.sin(3 * x),
    "cosine": lambda x: torch.cos(3 * x),
    "written GELU": written_gelu,
    "written mish": lambda x: x * torch.tanh(F.softplus(x - 0.5)),
    "softsign": lambda x: F.softsign(x - 0.5),
    "tanhshrink": lambda x: F.tanhshrink(3 * x - 1),
    "general mean": general_mean,
}

MODULES = {
    "mish": nn.Mish(),
    "SELU": nn.SELU(),
    "CELU": nn.CELU(0.7),
    "ELU": nn.ELU(0.5),
    "tanh GELU": nn.GELU("tanh"),
    "softplus": nn.Softplus(2),
    "softsign": nn.Softsign(),
    "softshrink": nn.Softshrink(0.2),
    "hardshrink": nn.Hardshrink(0.2),
    "logsigmoid": nn.LogSigmoid(),
    "threshold": nn.Threshold(0.2, 0),
    "threshold that clamps": nn.Threshold(0.2, 0.2),
    "RReLU": nn.RReLU(),
    "PReLU": nn.PReLU(),
    "identity": nn.Identity(),
    "alpha dropout": nn.AlphaDropout(),
    "feature alpha dropout": nn.FeatureAlphaDropout(),
    "dropout of channels": nn.Dropout2d(),
    "channel shuffle": nn.ChannelShuffle(4),
    "local response": nn.LocalResponseNorm(3, alpha=0.1, k=0.5),
    "reflect": nn.ReflectionPad2d((1, 2, 3, 0)),
    "replicate": nn.ReplicationPad2d((1, 0, 2, 1)),
    "circular": nn.CircularPad2d((2, 1, 0, 3)),
    "zeros": nn.ZeroPad2d(1),
    "bilinear 2": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear 3": nn.UpsamplingNearest2d(scale_factor=3),
    "adaptive maximum": nn.AdaptiveMaxPool2d((4, 2)),
}

SHAPED = {
    "add with alpha": alone(lambda x: torch.add(x, x.sigmoid(), alpha=-0.7)),
    "number with alpha": alone(lambda x: torch.add(x, 2, alpha=0.3)),
    "constant with alpha": of(lambda self, x: torch.sub(x, self.extra, alpha=3), build=lambda: nn.Parameter(torch.rand(8, 1, 1))),
    "reversed with alpha": alone(lambda x: torch.rsub(x, 1, alpha=2)),
    "ratio": alone(lambda x: x / (1 + x.mean((2, 3), keepdim=True))),
    "minimum": alone(lambda x: torch.minimum(x, 1 - x)),
    "maximum": alone(lambda x: torch.maximum(x[:, :4], x[:, 4:]), channels=4),
    "gated": layer(nn.GLU(1), channels=4),
    "gated rows": alone(lambda x: F.glu(x, 2)),
    "PReLU by channel": of(lambda self, x: self.extra(x - 0.5), build=spread_slopes),
    "channel mean": alone(lambda x: x - x.mean(1, keepdim=True)),
    "channel mean of flat planes": alone(lambda x: x.mean(1).unsqueeze(1), channels=1),
    "mean of everything": alone(lambda x: x * x.mean((1, 2, 3), keepdim=True)),
    "channel sum": alone(lambda x: x * x.sum(1, keepdim=True)),
    "sum of pixels": alone(lambda x: x * x.sum((2, 3), keepdim=True)),
    "largest channel": alone(lambda x: x * x.amax(1, keepdim=True)),
    "largest of seven channels": alone(lambda x: x[:, 1:] * x[:, 1:].max(1, keepdim=True)[0], channels=7),
    "smallest channel": alone(lambda x: x + (x - 1).min(1, keepdim=True).values),
    "largest pixel": alone(lambda x: x - x.amax((2, 3), keepdim=True)),
    "largest of flat pixels": alone(lambda x: x * x.flatten(2).max(-1)[0][:, :, None, None]),
    "smallest of rows": alone(lambda x: x + (x - 1).amin(2, keepdim=True)),
    "global maximum": alone(lambda x: x * F.adaptive_max_pool2d(x, 1)),
    "pool with places": alone(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "added mean": alone(lambda x: x + x.mean((2, 3), keepdim=True)),
    "expanded mean": alone(lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1), channels=16),
    "spatial gate": alone(lambda x: x * x[:, 2:3].sigmoid()),
    "outer sum": alone(lambda x: x.mean(3, keepdim=True) + x.mean(2, keepdim=True)),
    "expanded on both sides": alone(lambda x: x.mean(3, keepdim=True).expand_as(x) + x.mean(3, keepdim=True).expand_as(x)),
    "CBAM": of(cbam, build=lambda: nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(2, 1, 7, padding=3), nn.Conv2d(8, 8, 1)])),
    "coordinate attention": of(coordinates, build=lambda: nn.ModuleList([conv(8, 8, 1), conv(8, 8, 1)])),
    "pixel shuffle": alone(lambda x: F.pixel_shuffle(x, 2), channels=2),
    "depth to space": alone(lambda x: x.view(-1, 2, 2, 2, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(-1, 2, 16, 16), channels=2),
    "depth to space, channels last": alone(
        lambda x: x.view(-1, 2, 1, 4, 8, 8).permute(0, 3, 4, 1, 5, 2).reshape(-1, 4, 16, 8), channels=4
    ),
    "there and back": alone(lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2).relu(), 2)),
    "transposed convolution": layer(nn.ConvTranspose2d(8, 6, 4, 2, 1), channels=6),
    "pixel unshuffle": layer(nn.PixelUnshuffle(2), channels=32),
    "space to depth": alone(space_to_depth, channels=32),
    "padded convolution": layer(nn.Conv2d(8, 8, 5, padding=2, padding_mode="reflect")),
    "bilinear 4 by 1": alone(lambda x: F.interpolate(x[:, :, :2], size=(8, 8), mode="bilinear")),
    "bilinear 3": alone(lambda x: F.interpolate(x, scale_factor=3, mode="bilinear", align_corners=False)),
    "bilinear from one pixel": alone(
        lambda x: x * F.interpolate(x.mean((2, 3), True), (8, 8), mode="bilinear", align_corners=True)
    ),
    "in place": of(in_place),
    "mean of stacked maps": alone(lambda x: torch.stack([x, 1 - x, x * x], 1).mean(1)),
    "largest of stacked maps": alone(lambda x: torch.stack([x, 1 - x, x * x], 1).max(1)[0]),
    "maxout": alone(lambda x: x.view(-1, 2, 4, 8, 8).amax(1), channels=4),
    "product with a matrix": of(
        lambda self, x: (x.mean((2, 3)) @ self.extra)[:, :, None, None], build=lambda: nn.Parameter(torch.randn(8, 8))
    ),
    "rows that attend to rows": of(
        lambda self, x: (self.extra[0](x) @ self.extra[1](x).transpose(2, 3) / 8).sigmoid() @ x,
        build=lambda: nn.ModuleList([conv(8, 8, 1), conv(8, 8, 1)]),
    ),
    "product of maps": alone(lambda x: torch.matmul(x[:, :, :4], x[..., :2].mT.contiguous().mT)),
    "product of one channel": alone(lambda x: x + torch.bmm(x[:, 0], x[:, 1:2].squeeze(1).mT)[:, None]),
    "general mean with a parameter": of(
        lambda self, x: F.avg_pool2d(x.clamp(min=1e-6) ** self.extra, 2) ** (1 / self.extra),
        build=lambda: nn.Parameter(torch.tensor([3.0])),
    ),
    "constant minus": of(lambda self, x: self.extra - x, build=lambda: nn.Parameter(torch.rand(8, 1, 1))),
    "constant over": of(lambda self, x: self.extra / (1 + x), build=lambda: nn.Parameter(torch.rand(8, 1, 1))),
    "mean in one dimension": alone(lambda x: x * F.adaptive_avg_pool1d(x.flatten(2), 1)[..., None]),
    "dropout of planes": alone(lambda x: F.dropout1d(x.flatten(2), training=False).view_as(x)),
    "dropout of volumes": alone(lambda x: F.dropout3d(x[:, :, None], training=False)[:, :, 0]),
    "repeated channels": alone(lambda x: x.repeat(1, 2, 1, 1), channels=16),
    "tiled channels": alone(lambda x: x[:, :1].tile(1, 3, 1, 1), channels=3),
    "other order": alone(lambda x: x[:, [2, 1, 0, 3, 4]], channels=5),
    "other order by index": alone(lambda x: x.index_select(1, torch.tensor([7, 0, 1]))[:, [2, 1, 0, 0]], channels=4),
    "reversed channels": alone(lambda x: x.flip(1)),
    "nearest exact": alone(lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact")),
    "half the size": alone(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear")),
}

NETWORKS = (
    {f"alias: {name}": alone(function, channels=6 if name == "narrow" else 8) for name, function in ALIASES.items()}
    | {f"function: {name}": alone(function) for name, function in FUNCTIONS.items()}
    | {f"module: {name}": layer(conv(8, 8, 1), module) for name, module in MODULES.items()}
    | SHAPED
)


def made(name):
    torch.manual_seed(sum(map(ord, name)))
    return NETWORKS[name]().eval()


LAST = {
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "logarithm of softmax": lambda x: torch.log(F.softmax(x, 1)),
    "softmax that is copied": lambda x: x.softmax(1).clone().contiguous(),
}


@pytest.mark.parametrize("name", LAST)
def test_a_softmax_at_the_end_is_left_out_and_said_so(name):
    torch.manual_seed(0)
    module = Ends(LAST[name]).eval()
    with pytest.warns(
        UserWarning, match=r"network ends in (log_)?softmax( and log)?, which is left out: .* returns the logits before it"
    ):
        graph = capture(module, SHAPE)
    bare = capture(Ends(lambda x: x).eval(), SHAPE)
    assert [(node.name, node.op) for node in graph.nodes] == [(node.name, node.op) for node in bare.nodes]
    with pytest.warns(UserWarning, match="is left out"):
        captured_network(module, SHAPE)
    with torch.no_grad():
        logits, chosen = Network(graph).eval()(IMAGES), module(IMAGES)
    torch.testing.assert_close(LAST[name](logits), chosen)


def test_a_division_by_a_power_is_one_function():
    graph = capture(layer(conv(8, 8, 1), nn.LocalResponseNorm(3))().eval(), SHAPE)
    (power,) = [node for node in graph.nodes if node.attributes.get("function") == "power" and node.attributes["constant"] < 0]
    assert power.attributes["constant"] == -0.75


def test_an_alias_is_the_operation_itself():
    first, second = (
        [(node.name, node.op, dict(node.attributes)) for node in capture(alone(function)().eval(), SHAPE).nodes]
        for function in (lambda x: x.clip(0.1, 1), lambda x: x.clamp(0.1, 1))
    )
    assert first == second


@pytest.mark.parametrize("name", NETWORKS)
def test_an_operation_is_what_torch_computes(name, tmp_path):
    """Exactly as a float graph, closely as an integer file, on which native runtime and interpreter agree bit for bit."""
    is_deployed(made(name), tmp_path / "a.trim")
