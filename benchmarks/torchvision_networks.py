"""Networks of torchvision with random weights, for ``--networks torchvision_networks:NAME`` of the other benchmarks.

Needs torchvision, which the package does not.
"""

from __future__ import annotations

import functools
import importlib

import torch
from torch import nn


@functools.cache
def _declared() -> torch.library.Library:
    """Two operators that torchvision built for CUDA misses beside a CPU torch; it imports once they have schemas."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _network(name: str, classes: int = 1000, channels: int = 3) -> nn.Module:
    assert channels == 3, "torchvision's networks take three channels"
    _declared()
    network: nn.Module = getattr(importlib.import_module("torchvision.models"), name)(weights=None, num_classes=classes)
    return network.eval()


densenet121 = functools.partial(_network, "densenet121")
efficientnet_b0 = functools.partial(_network, "efficientnet_b0")
mobilenet_v2 = functools.partial(_network, "mobilenet_v2")
mobilenet_v3_large = functools.partial(_network, "mobilenet_v3_large")
regnet_y_400mf = functools.partial(_network, "regnet_y_400mf")
shufflenet_v2_x1_0 = functools.partial(_network, "shufflenet_v2_x1_0")
