"""Small modules and how to capture them, for the tests that compare a captured network with its module."""

from types import MappingProxyType

import torch
from hand_networks import SIZE, Net, conv, trained
from torch import nn

from paretrim.capture import driver
from paretrim.capture.agreement import captured_network
from paretrim.capture.elementwise import pointwise

SHAPE = (3, SIZE, SIZE)
IMAGES = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def body(function):
    """A network with ``function(self, images)`` between a first convolution and a head; it has a convolution c and a SiLU act."""

    class Custom(Net):
        def build(self):
            self.c, self.act = conv(8, 8), nn.SiLU()

        def body(self, x):
            return function(self, x)

    torch.manual_seed(0)
    return trained(Custom())


def agrees(module, images=IMAGES):
    return captured_network(module, SHAPE, images=images)


def is_looked_at(x):
    """Whether the module is being exported."""
    return type(x) is not torch.Tensor


def wrong_by(share):
    """The converters, with a SiLU that is off by this share."""
    right = driver.CONVERTERS["silu"]

    def wrong(work, call):
        return pointwise(work, call, right(work, call), "mul_constant", 1 + share)

    return MappingProxyType({**driver.CONVERTERS, "silu": wrong})
