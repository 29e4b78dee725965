"""Modules that hold the tensors, or the state, of nodes of a float graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretrim.errors import UnsupportedOperation
from paretrim.graph.functions import SMALLEST
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Array, Node
from paretrim.network.constraints import WeightedLayer

SMALLEST_EPSILON = SMALLEST
"""What torch 2.11, which refuses 0, adds to the variance of 1 of a written-out scale and shift: nothing that float32 holds."""


TensorOf = Callable[[Array], Tensor]
"""Makes the float32 tensor of a layer from an array of its node."""


def copied(array: Array) -> Tensor:
    """The same numbers in float32 and in memory of its own."""
    return torch.from_numpy(np.array(array, dtype=np.float32, copy=True))


def taken_over() -> TensorOf:
    """Makes tensors in the memory of arrays, and copies of arrays that are read-only, not float32, or in memory used before."""
    used = set[int]()

    def tensor_of(array: Array) -> Tensor:
        fit = array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
        place = array.__array_interface__["data"][0]
        if not fit or place in used or not _is_all_of_its_memory(array):
            return copied(array)
        used.add(place)
        return torch.from_numpy(array)

    return tensor_of


def _is_all_of_its_memory(array: Array) -> bool:
    """Whether an array of NumPy or torch shows all the memory that it keeps alive."""
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, Tensor):
        return owner.untyped_storage().nbytes() == array.nbytes
    return isinstance(owner, np.ndarray) and owner.nbytes == array.nbytes


class BatchNorm(nn.Module):
    """Per-channel normalisation with running statistics; tensors named as in the graph."""

    mean: Tensor
    variance: Tensor
    alive: Tensor | None
    """1 for channels that compute, 0 for those silenced ahead of their removal; [C]."""

    def __init__(self, tensors: Mapping[str, Array], epsilon: float, tensor_of: TensorOf = copied) -> None:
        super().__init__()
        self.gamma = nn.Parameter(tensor_of(tensors["gamma"]))
        self.beta = nn.Parameter(tensor_of(tensors["beta"]))
        self.register_buffer("mean", tensor_of(tensors["mean"]))
        self.register_buffer("variance", tensor_of(tensors["variance"]))
        self.register_buffer("alive", None)
        self.epsilon = epsilon
        self.momentum = 0.1
        self.gate: Callable[[bool], Tensor] | None = None
        """A stage's factors for the channels, [C], given whether the network trains. They never ship."""
        self.frozen = False
        """With frozen statistics the running ones are used and left alone, even while training."""

    def forward(self, x: Tensor) -> Tensor:
        """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` over [N, C, ...]."""
        batch_statistics = self.training and not self.frozen and self.epsilon > 0
        gamma, beta = (self.gamma, self.beta) if self.alive is None else (self.gamma * self.alive, self.beta * self.alive)
        if self.gate is not None:
            scale = self.gate(self.training)
            gamma, beta = gamma * scale, beta * scale
        epsilon = max(self.epsilon, SMALLEST_EPSILON)
        return F.batch_norm(x, self.mean, self.variance, gamma, beta, batch_statistics, self.momentum, epsilon)

    def affine(self) -> tuple[Tensor, Tensor]:
        """What it is in evaluation: factor and offset [C], float64."""
        alive = 1.0 if self.alive is None else self.alive.double()
        factor = self.gamma.detach().double() * alive / (self.variance.double() + self.epsilon).sqrt()
        return factor, self.beta.detach().double() * alive - self.mean.double() * factor


def is_fixed(node: Node) -> bool:
    """Whether a weighted node is fixed arithmetic, such as a mean over channels, and not a layer to train or prune."""
    return bool(settings_of(node).values.get("fixed", 0))


def weighted(node: Node, tensor_of: TensorOf) -> WeightedLayer:
    """Weight and bias; those of fixed arithmetic do not train."""
    bias = node.tensors.get("bias")
    layer = WeightedLayer(tensor_of(node.tensors["weight"]), None if bias is None else tensor_of(bias))
    return layer.requires_grad_(not is_fixed(node))


def normalisation(node: Node, tensor_of: TensorOf) -> BatchNorm:
    """Scale, shift and running statistics.

    Raises:
        UnsupportedOperation: a variance is damaged.
    """
    epsilon = settings_of(node).required_number("epsilon")
    smallest = float(node.tensors["variance"].min())
    if smallest < 0 or smallest + epsilon <= 0:
        raise UnsupportedOperation(
            f"layer '{node.layer}': a variance of its BatchNorm (running_var) is {smallest:g}; it is never below 0, and "
            f"above it with epsilon {epsilon:g}, so these weights are damaged; load others"
        )
    return BatchNorm(node.tensors, epsilon, tensor_of)


def dropout(node: Node, _: TensorOf) -> nn.Dropout:
    """Without tensors, but it computes something else while training."""
    return nn.Dropout(settings_of(node).required_number("probability"))
