"""Networks of torchvision with random weights, for ``--networks torchvision_networks:NAME`` of the other benchmarks.

Needs torchvision, which the package itself does not need.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from types import ModuleType

import torch
from torch import nn


@functools.cache
def models() -> ModuleType:
    """``torchvision.models``.

    torchvision built for CUDA lacks two operators next to a CPU build of torch; it can be imported once their schemas exist.

    Raises:
        ImportError: torchvision is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("torchvision.models")
        except RuntimeError:
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            for operator in ("nms", "qnms"):
                _DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
            return importlib.import_module("torchvision.models")


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
"""Declarations last as long as this object."""


def _network(name: str, classes: int = 1000, channels: int = 3) -> nn.Module:
    assert channels == 3, "torchvision's networks take three channels"
    network: nn.Module = getattr(models(), name)(weights=None, num_classes=classes)
    return network.eval()


densenet121 = functools.partial(_network, "densenet121")
efficientnet_b0 = functools.partial(_network, "efficientnet_b0")
mobilenet_v2 = functools.partial(_network, "mobilenet_v2")
mobilenet_v3_large = functools.partial(_network, "mobilenet_v3_large")
regnet_y_400mf = functools.partial(_network, "regnet_y_400mf")
shufflenet_v2_x1_0 = functools.partial(_network, "shufflenet_v2_x1_0")
