"""What a stage trains, and its view of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from paretrim.data.batches import Batch
from paretrim.network.network import Network
from paretrim.train.resources import Resources


@dataclass(frozen=True, eq=False)
class Training:
    """One stage at work: the private network, the resources that the stage may use, and modules of its own.

    ``extra`` holds modules that train or are remembered beside the network and never ship: projections of a feature loss, memory
    banks, sums of gradients. Its parameters are in the optimizer, and its ``state_dict`` is in every checkpoint. The stage's
    ``begin`` makes all its modules; shapes of their tensors may change later. They must not hold the network's layers, which may
    be replaced.

    ``dense_gradients`` asks for gradients of pruned weights in every :class:`Step`.
    """

    network: Network
    resources: Resources
    extra: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    dense_gradients: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """One training step, after its backward pass and before the optimizer moves anything.

    ``parameter.grad`` of the network's parameters is the gradient of ``loss``, the mean over ``batch``; for pruned weights it is
    0. ``progress`` is that of the stage in [0, 1); ``number`` counts steps from 0 over the whole stage.

    ``dense_gradients`` holds, by layer, the gradient by the weight [Co, ...] as if there were no mask. Methods that grow weights
    or score pruned ones need it. It is empty unless :class:`Training` asks for it.
    """

    batch: Batch
    loss: Tensor
    progress: float
    epoch: int
    number: int
    dense_gradients: Mapping[str, Tensor] = field(default_factory=dict)
