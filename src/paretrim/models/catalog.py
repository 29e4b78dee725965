"""Every network that a recipe can name. A factory takes ``classes`` and ``channels`` by keyword.

``*_imagenet`` and ``*_224`` are torchvision's forms for large images; the others are for small ones (32x32; all but VGG
also take 8x8). ``*_quarter`` have a quarter of the channels, for short trials.
:func:`paretrim.models.wide_resnet.wide_resnet` makes any other depth and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

from torch import nn

from paretrim.models.lenet import lenet_5, lenet_300_100
from paretrim.models.resnet import resnet18, resnet18_imagenet, resnet50, resnet50_imagenet
from paretrim.models.resnet_cifar import resnet20, resnet32, resnet56
from paretrim.models.speed_cnn import speed_cnn
from paretrim.models.vgg import vgg
from paretrim.models.wide_resnet import wide_resnet_16_2, wide_resnet_22_2, wide_resnet_28_10, wide_resnet_40_2


class Factory(Protocol):
    """Makes a freshly initialised network."""

    def __call__(self, *, classes: int, channels: int = 3) -> nn.Module:
        """Take [B, channels, H, W] to logits [B, classes]."""


NETWORKS: Mapping[str, Factory] = MappingProxyType(
    {
        "lenet_300_100": lenet_300_100,
        "lenet_5": lenet_5,
        "resnet18": resnet18,
        "resnet18_imagenet": resnet18_imagenet,
        "resnet20": resnet20,
        "resnet32": resnet32,
        "resnet50": resnet50,
        "resnet50_imagenet": resnet50_imagenet,
        "resnet56": resnet56,
        "speed_cnn": speed_cnn,
        "vgg11": partial(vgg, 11, batch_norm=False, head="small"),
        "vgg11_224": partial(vgg, 11, batch_norm=False, head="imagenet"),
        "vgg11_bn": partial(vgg, 11, batch_norm=True, head="small"),
        "vgg11_bn_224": partial(vgg, 11, batch_norm=True, head="imagenet"),
        "vgg11_bn_quarter": partial(vgg, 11, batch_norm=True, head="small", width=0.25),
        "vgg13": partial(vgg, 13, batch_norm=False, head="small"),
        "vgg13_224": partial(vgg, 13, batch_norm=False, head="imagenet"),
        "vgg13_bn": partial(vgg, 13, batch_norm=True, head="small"),
        "vgg13_bn_224": partial(vgg, 13, batch_norm=True, head="imagenet"),
        "vgg16": partial(vgg, 16, batch_norm=False, head="small"),
        "vgg16_224": partial(vgg, 16, batch_norm=False, head="imagenet"),
        "vgg16_bn": partial(vgg, 16, batch_norm=True, head="small"),
        "vgg16_bn_224": partial(vgg, 16, batch_norm=True, head="imagenet"),
        "vgg16_bn_quarter": partial(vgg, 16, batch_norm=True, head="small", width=0.25),
        "vgg19": partial(vgg, 19, batch_norm=False, head="small"),
        "vgg19_224": partial(vgg, 19, batch_norm=False, head="imagenet"),
        "vgg19_bn": partial(vgg, 19, batch_norm=True, head="small"),
        "vgg19_bn_224": partial(vgg, 19, batch_norm=True, head="imagenet"),
        "wide_resnet_16_2": wide_resnet_16_2,
        "wide_resnet_22_2": wide_resnet_22_2,
        "wide_resnet_28_10": wide_resnet_28_10,
        "wide_resnet_40_2": wide_resnet_40_2,
    }
)
