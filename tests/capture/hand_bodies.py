"""A network around a given body, for tests of capture."""

import pytest
import torch
from hand_networks import SIZE, Net, trained
from torch.nn import functional as F

from paretrim.capture import capture
from paretrim.errors import UnsupportedOperation
from paretrim.graph.checks import validate
from paretrim.network.network import Network

SHAPE = (3, SIZE, SIZE)
IMAGES = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def body(function, **parts):
    """A network whose body, of 8 channels of 8 x 8, is ``function``."""

    class Custom(Net):
        def build(self):
            for name, part in parts.items():
                setattr(self, name, part)

        def body(self, x):
            return function(self, x)

    torch.manual_seed(0)
    return trained(Custom())


def untrained_body(function, build=None):
    """The same, untrained; its body finds the result of ``build`` as ``self.extra``."""

    class Custom(Net):
        def build(self):
            if build:
                self.extra = build()

        def body(self, x):
            return function(self, x)

    return Custom()


def is_captured(module):
    """Whether the graph computes what the module does; returns the graph."""
    with torch.no_grad():
        expected = module(IMAGES.clone())
    graph = capture(module, SHAPE)
    validate(graph)
    torch.testing.assert_close(Network(graph).eval()(IMAGES), expected, rtol=1e-5, atol=1e-5)
    return graph


def is_refused(module, message):
    with pytest.raises(UnsupportedOperation, match=message):
        capture(module, SHAPE)


def block(self, x):
    """A body of one convolution, which the network needs as part ``c``."""
    return F.relu(self.c(x))
