"""A network with a body of one's own, for tests of what is captured."""

import pytest
import torch
from hand_networks import SIZE, Net, trained

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
