"""Small networks in the styles that users write, each with one peculiarity."""

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
    """Tensors are overwritten in place and read again under their old name."""

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


class ChannelAttention(Net):
    """Efficient channel attention in its two spellings."""

    def build(self):
        self.near, self.far = nn.Conv1d(1, 1, 3, padding=1, bias=False), nn.Conv1d(1, 1, 5, padding="same")

    def body(self, x):
        gate = self.near(x.mean((2, 3)).view(x.shape[0], 1, -1))
        x = x * gate.sigmoid().view(x.shape[0], -1, 1, 1).expand_as(x)
        gate = self.far(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(gate).expand_as(x)


class SelectiveKernels(Net):
    def build(self):
        self.paths = nn.ModuleList([conv(8, 8), conv(8, 8, padding=2, dilation=2)])
        self.reduce, self.select = conv(8, 4, 1), conv(4, 16, 1)

    def body(self, x):
        x = torch.stack([F.relu(path(x)) for path in self.paths], dim=1)
        chosen = self.select(F.relu(self.reduce(x.sum(1).mean((2, 3), keepdim=True))))
        batch, channels, height, width = chosen.shape
        chosen = torch.softmax(chosen.view(batch, 2, channels // 2, height, width), dim=1)
        first, second = x[:, 0] * chosen[:, 0], x[:, 1] * chosen[:, 1]
        return torch.sum(x * chosen, dim=1) + 0.5 * (first - second)


class SplitAttention(Net):
    def build(self):
        self.conv, self.fc1, self.fc2 = conv(8, 16, groups=2), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def body(self, x):
        x = F.relu(self.conv(x), inplace=True)
        batch, channels, height, width = x.shape
        x = x.reshape((batch, 2, channels // 2, height, width))
        attention = self.fc2(F.relu(self.fc1(x.sum(dim=1).mean((2, 3), keepdim=True))))
        attention = F.softmax(attention.view(batch, 1, 2, -1).transpose(1, 2), dim=1).reshape(batch, -1).view(batch, -1, 1, 1)
        return (x * attention.reshape((batch, 2, channels // 2, 1, 1))).sum(dim=1).contiguous()


class Resolutions(Net):
    """Maps of several sizes are resized to one."""

    def build(self):
        self.down, self.odd = conv(8, 8, stride=2), conv(8, 8, stride=2, padding=0)

    def body(self, x):
        low = F.relu(self.down(x))
        x = x + F.interpolate(low, scale_factor=2, mode="nearest")
        x = x * F.interpolate(torch.sigmoid(self.odd(x)), size=x.shape[-2:], mode="nearest")
        return x + nn.Upsample(size=(8, 8))(x[:, :, ::4, ::2])


class Decoder(Net):
    """Upsampling as in a U-Net: by transposed convolutions and by pixel shuffle."""

    def build(self):
        self.down, self.up, self.norm2 = conv(8, 12, stride=2), nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.BatchNorm2d(8)
        self.odd = nn.ConvTranspose2d(12, 4, 3, 2, 1, output_padding=1, groups=2, bias=False)
        self.wide, self.join = conv(12, 16, 1), conv(16, 8, 1)

    def body(self, x):
        low = F.relu(self.down(x))
        high = F.relu(self.norm2(self.up(low)))
        blocks = self.wide(low).view(-1, 4, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(-1, 4, 8, 8)
        return x + F.relu(self.join(torch.cat([high, self.odd(low), blocks], 1)))


class SamePadding(Net):
    """TensorFlow's SAME padding: more below and to the right; max pooling pads with values that never win."""

    def build(self):
        self.c1 = conv(8, 8, stride=2, padding=0)

    def body(self, x):
        x = F.max_pool2d(F.pad(1 - x, (0, 1, 0, 1), value=-float("inf")), 3, 2)
        return self.c1(F.pad(x, (0, 1, 0, 1)))


class Means(Net):
    def __init__(self):
        super().__init__(32)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        flat = x.view(x.size(0), x.size(1), -1).mean(-1)
        rows = (1 - torch.sigmoid(x)).mean(3).mean(2)
        whole = torch.relu(-x.flatten(2) + 1).view_as(x).mean([3, 2])
        return self.head(torch.cat([flat, rows, whole, F.avg_pool2d(x, x.shape[-1])[:, :, 0, 0]], 1))


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
    "channel attention": ChannelAttention,
    "selective kernels": SelectiveKernels,
    "split attention": SplitAttention,
    "resolutions": Resolutions,
    "decoder": Decoder,
    "same padding": SamePadding,
    "means": Means,
    "sequential": sequential,
}


def made(name):
    """A network whose weights and statistics are not the initial ones."""
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
