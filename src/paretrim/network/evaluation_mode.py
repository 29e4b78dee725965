"""Looking at a network while it may be training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Networks in evaluation mode (BatchNorm uses its statistics, dropout is off); afterwards each is in the mode it had.

    A stage that looks at its network between two steps must not leave it in evaluation mode: the epoch would go on with
    statistics that no longer follow the weights.
    """
    modes = [(network, network.training) for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, training in modes:
            network.train(training)
