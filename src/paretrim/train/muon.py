"""Muon: a weight moves by the orthogonal matrix nearest to its momentum, a set share of its own norm a step.

A gradient of a layer is mostly a few directions that all images share. Its nearest orthogonal matrix moves the rare directions as
far as the common ones, which shortens training from nothing.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon), with
its coefficients. Weights keep their norm, as in the same author's CIFAR-10 record with Muon: BatchNorm undoes the scale of the
weights before it, so that only the direction learns, and the rate alone says how fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 5
"""Singular values above 0.01 of the norm come out between 0.5 and 1.5."""

COEFFICIENTS = (3.4445, -4.7750, 2.0315)

_BUFFER = "turning"
"""Where an optimizer's state holds the momentum of a weight."""


def orthogonalised(matrix: Tensor) -> Tensor:
    """About the orthogonal matrix nearest to ``matrix``, float32 [rows, columns]; zeros for zeros.

    A Newton-Schulz iteration. It is an odd polynomial of the matrix: singular vectors stay, singular values go towards 1. Its
    products are cast as autocast casts them; bfloat16 is enough.
    """
    norm = torch.linalg.matrix_norm(matrix)
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix) / torch.where(norm > 0, norm, torch.ones_like(norm))
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = found @ found.T
        found = first * found + (third * square + fifth * (square @ square)) @ found
    return (found.T if tall else found).float()


def aim_(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, Tensor]]:
    """Make gradients of weights that turn the directions in which they turn; those weights, and their norms.

    A group whose ``turning`` is set turns, with that momentum (Nesterov's form). A direction is as long as its weight. A weight
    without momentum, such as a pruned one, stays where it is.
    """
    turned = []
    for group in optimizer.param_groups:
        if "turning" not in group:
            continue
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = optimizer.state[weight]
            if _BUFFER not in state:
                state[_BUFFER] = torch.zeros_like(weight)
            state[_BUFFER].mul_(group["turning"]).add_(weight.grad)
            ahead = torch.add(weight.grad, state[_BUFFER], alpha=group["turning"])
            direction = orthogonalised(ahead.flatten(1).float()).view(ahead.shape) * (ahead != 0)
            norm, length = torch.linalg.vector_norm(weight.detach()), torch.linalg.vector_norm(direction)
            weight.grad = torch.empty_like(weight).copy_(direction * torch.where(length > 0, norm / length, length))
            turned.append((weight, norm))
    return turned


def keep_norms_(turned: list[tuple[Tensor, Tensor]]) -> None:
    """Give weights that have turned the norms they had."""
    for weight, norm in turned:
        present = torch.linalg.vector_norm(weight)
        weight.mul_(torch.where(present > 0, norm / present, present))
