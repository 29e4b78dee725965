"""Networks of torchvision, with random weights, for ``--networks torchvision_networks:NAME`` of the other benchmarks.

Needs torchvision, which the package does not.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from torch import nn

NAMES = (
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
)


@functools.cache
def _models() -> Any:
    """torchvision built for CUDA misses two operators beside a CPU torch; declared, its networks work."""
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    models = importlib.import_module("torchvision.models")
    models.declared = declared  # lives as long as what it declared is used
    return models


def __getattr__(name: str) -> Any:
    """The factory of a network: ``(classes, channels) -> nn.Module``."""
    if name not in NAMES:
        raise AttributeError(f"no network '{name}' here; there are {', '.join(NAMES)}")

    def factory(classes: int = 1000, channels: int = 3) -> nn.Module:
        assert channels == 3, "torchvision's networks take three channels"
        network: nn.Module = getattr(_models(), name)(weights=None, num_classes=classes)
        return network.eval()

    return factory
