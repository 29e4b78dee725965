"""Outputs with made-up features, and a check of a criterion's gradient."""

import pytest
import torch
from tiny import CLASSES
from torch import nn

from paretrim.train.losses import Outputs


class OtherTask:
    """Any task other than classification."""

    name = "other"


def normal(*shape, seed=0, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_gradient(function, x, step=1e-2, tolerance=2e-2):
    """The gradient equals central differences along random directions."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x), x)
    for seed in range(3):
        direction = normal(*x.shape, seed=100 + seed)
        direction /= direction.norm()
        with torch.no_grad():
            slope = float(function(x + step * direction) - function(x - step * direction)) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=tolerance, abs=tolerance * float(gradient.norm()))


def between(student, teacher, *, extra=None):
    """Outputs whose only features are these, at ``x``."""
    images = len(student)
    random = torch.Generator().manual_seed(3)
    return Outputs(
        normal(images, CLASSES),
        torch.randint(CLASSES, (images,), generator=random),
        features={"x": student},
        teacher_features={"x": teacher},
        indices=torch.arange(images),
        extra=nn.ModuleDict(extra or {}),
    )
