"""Small networks as people write them, each with a habit of its own."""

import torch
from torch import nn
from torch.nn import functional as F

SIZE = 8
CLASSES = 5


def conv(inputs, outputs, kernel=3, **settings):
    return nn.Conv2d(inputs, outputs, kernel, padding=settings.pop("padding", kernel // 2), bias=False, **settings)


class Net(nn.Module):
    """A stem, a body given by ``body`` and a head; the body keeps or changes the 8 channels."""

    def __init__(self, channels=8):
        super().__init__()
        self.stem, self.norm = conv(3, 8), nn.BatchNorm2d(8)
        self.build()
        self.head = nn.Linear(channels, CLASSES)

    def build(self):
        pass

    def body(self, x):
        return x

    def forward(self, x):
        x = self.body(F.relu(self.norm(self.stem(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class PreActivation(Net):
    def build(self):
        self.n1, self.c1, self.n2, self.c2 = nn.BatchNorm2d(8), conv(8, 8), nn.BatchNorm2d(8), conv(8, 8)

    def body(self, x):
        out = self.c1(F.relu(self.n1(x)))
        return self.c2(F.relu(self.n2(out))) + x


class Wide(PreActivation):
    """As in wide ResNets: the first activation feeds the shortcut too, and there is dropout."""

    def build(self):
        super().build()
        self.shortcut = conv(8, 8, 1)

    def body(self, x):
        out = F.relu(self.n1(x), inplace=True)
        return self.c2(F.dropout(F.relu(self.n2(self.c1(out))), 0.3, self.training)) + self.shortcut(out)


class OptionA(Net):
    def __init__(self):
        super().__init__(16)

    def build(self):
        self.c1, self.n1 = conv(8, 16, stride=2), nn.BatchNorm2d(16)

    def body(self, x):
        return F.relu(self.n1(self.c1(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))


class SqueezeExcite(Net):
    def build(self):
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def body(self, x):
        batch, channels, _, _ = x.shape
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1).view(batch, channels))))
        return x * torch.sigmoid(gate).view(batch, channels, 1, 1).expand_as(x)


class Shuffle(Net):
    def build(self):
        self.branch = nn.Sequential(conv(4, 4), nn.BatchNorm2d(4), nn.ReLU(inplace=True))

    def body(self, x):
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), 1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width).permute(0, 2, 1, 3, 4).contiguous()
        first, second = torch.split(x.view(batch, -1, height, width), [3, 5], 1)
        return torch.cat([second, first], 1)


class InPlace(Net):
    """Overwritten tensors are read again under their old name."""

    def build(self):
        self.c1, self.n1 = conv(8, 8), nn.BatchNorm2d(8)

    def body(self, x):
        y = self.n1(self.c1(x))
        y += x
        z = y.relu_()
        y.add_(x)
        return y + z.mul_(0.5)


class Normalised(Net):
    def build(self):
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1))

    def forward(self, x):
        return super().forward((x - self.mean) / self.std)


class Activations(Net):
    def build(self):
        self.parts = nn.ModuleList([nn.Hardswish(), nn.LeakyReLU(0.1), nn.ELU(), nn.GELU(), nn.Tanh(), nn.SiLU(), nn.Softplus()])
        self.joins = nn.ModuleList([conv(8, 8, 1) for _ in self.parts])

    def body(self, x):
        for join, part in zip(self.joins, self.parts, strict=True):
            x = part(join(x))
        return x * F.relu6(x + 3) / 6


class Clamps(Net):
    def build(self):
        self.c1, self.c2 = conv(8, 8), conv(8, 8)

    def body(self, x):
        x = F.max_pool2d(self.c1(x), 2)
        x = F.relu(x[:, :, :2]).clamp(0.1, 0.9).clamp(max=0.7).clamp(min=0.2)
        return torch.cat((x, F.hardtanh(x), F.relu6(self.c2(x)).clamp(min=0)), 1)[:, 1:9]


class Pools(Net):
    def __init__(self):
        super().__init__(8 * 49)

    def build(self):
        self.c1 = nn.Conv2d(8, 8, (3, 2), padding="same", dilation=(1, 2))

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.stem(x)), 3, 2, 1, ceil_mode=True, count_include_pad=False)
        x = F.max_pool2d(self.c1(x), 3, 2, 1, ceil_mode=True)
        x = F.avg_pool2d(x, 3, 1, 1)
        x = nn.AdaptiveAvgPool2d((7, 7))(F.relu(F.adaptive_avg_pool2d(x, (2, 2))))
        return self.head(x.flatten(1))


class TwoReaders(Net):
    """The convolution is read before and after its BatchNorm, so that it cannot be folded."""

    def build(self):
        self.c1, self.n1 = conv(8, 8), nn.BatchNorm2d(8)

    def body(self, x):
        y = self.c1(x)
        return torch.cat([F.relu(self.n1(y)), F.relu(y), y], 1).mean((2, 3), keepdim=True)[:, 8:16]


class OddNorms(Net):
    """Factors that are negative, zero or tiny beside their bias, and channels without weights."""

    def build(self):
        self.c1, self.n1 = conv(8, 8, groups=2), nn.BatchNorm2d(8)
        with torch.no_grad():
            self.n1.weight.copy_(torch.tensor([-1.0, 0.0, 1e-30, 1e-12, 1.0, -2.0, 1e-7, 3.0]))
            self.n1.bias.copy_(torch.tensor([0.5, 0.3, -0.2, 0.1, 100.0, 0.0, -1.0, 1e-9]))
            self.c1.weight[4:6] = 0

    def body(self, x):
        return self.n1(self.c1(x))


class StandardisedConv(nn.Conv2d):
    """Weights are standardised each time they are used, and scaled by a learned gain."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, self.out_channels).view(-1, 1, 1, 1))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, weight=(self.gain * 0.3).view(-1), training=True, momentum=0.0)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)


class Standardised(Net):
    def build(self):
        self.c1, self.c2 = StandardisedConv(8, 8, 3), conv(8, 8)
        self.c3 = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))

    def body(self, x):
        variance, mean = torch.var_mean(self.c2.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        x = F.conv2d(F.relu(self.c1(x)), (self.c2.weight - mean) / torch.sqrt(variance + 1e-5), padding=1)
        return self.c3(F.relu(x * torch.tensor([0.5, -1.0] * 4).view(1, -1, 1, 1)))


def sequential():
    return nn.Sequential(
        conv(3, 8), nn.BatchNorm2d(8), nn.ReLU6(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    )


NETWORKS = {
    "pre-activation": PreActivation,
    "wide": Wide,
    "option A": OptionA,
    "squeeze-excite": SqueezeExcite,
    "shuffle": Shuffle,
    "in place": InPlace,
    "normalised": Normalised,
    "activations": Activations,
    "clamps": Clamps,
    "pools": Pools,
    "two readers": TwoReaders,
    "odd norms": OddNorms,
    "standardised": Standardised,
    "sequential": sequential,
}


def made(name):
    """A network with weights and statistics that are not at their initial values."""
    torch.manual_seed(sum(map(ord, name)))
    return trained(NETWORKS[name]())


def trained(module):
    """Running statistics and affine parameters as after some training."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
            if not bool((layer.weight != 1).any()):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.2)
    return module.eval()
