"""A loss on distances and angles between the features of a batch."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.network.places import PENULTIMATE
from paretrim.settings import Idle, settings
from paretrim.stages.distill.criterion import teacher_of, weightless
from paretrim.stages.distill.features import Path
from paretrim.train.budget import NotNegative
from paretrim.train.losses import LossTerm, Outputs
from paretrim.train.resources import Resources
from paretrim.train.task import Task

METHODS = (
    Method(
        name="rkd",
        kind="loss",
        source="Park et al. 2019 (RKD), arXiv 1904.05068, equations 5 to 9",
        what="match distances and angles between the features of the images in a batch",
        formula="25 Huber(distances) + 50 Huber(cosines of angles), student against teacher",
        recipe="rkd",
        settings=("distill.criteria",),
    ),
)


_IDLE = (
    weightless("distance", "angle", "at", "teacher_at"),
    Idle(
        ("weight", "at", "teacher_at"),
        lambda one: one.distance == one.angle == 0,
        "distance and angle are 0",
        "set one of them above 0",
    ),
)


@settings(kw_only=True, idle=_IDLE)
class Relations:
    """RKD: ``distance`` times the difference of distances of pairs, plus ``angle`` times that of the cosines of triples.

    Distances are divided by their mean over the batch; both are compared by the Huber loss, mean over all pairs and triples. Both
    are invariant to rotation, scale and translation of the features. By default ``at`` is the input of the last layer.

    Source: Park et al. 2019, "Relational knowledge distillation", equations 5 to 9.
    """

    loss: Literal["rkd"] = "rkd"
    weight: NotNegative = 1.0
    distance: NotNegative = 25.0
    angle: NotNegative = 50.0
    at: Path = PENULTIMATE
    teacher_at: str = ""

    def begin(self, network: Network, resources: Resources, /) -> nn.ModuleDict:
        """No modules."""
        network.shape_at(self.at)
        teacher_of(resources).shape_at(self.teacher_at or self.at)
        return nn.ModuleDict()

    def term(self, _task: Task, /) -> LossTerm:
        """Both parts."""
        theirs = self.teacher_at or self.at

        def function(outputs: Outputs) -> Tensor:
            student, teacher = outputs.features[self.at].flatten(1), outputs.teacher_features[theirs].flatten(1)
            pairs = functional.smooth_l1_loss(distances(student), distances(teacher))
            triples = functional.smooth_l1_loss(cosines(student), cosines(teacher))
            return self.distance * pairs + self.angle * triples

        return LossTerm(function, self.weight, features=(self.at,), teacher_features=(theirs,))


def distances(features: Tensor) -> Tensor:
    """Distances of pairs of features [N, D], divided by the mean of the non-zero ones: [N, N]."""
    found = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    apart = (found > 0).sum().clamp(min=1)
    mean = found.sum() / apart
    return found / mean.masked_fill(mean == 0, math.inf)


def cosines(features: Tensor) -> Tensor:
    """Cosines of the angles at i between j and k, for features [N, D]: [N, N, N]; 0 if two points are equal."""
    differences = features[None] - features[:, None]
    lengths = torch.linalg.vector_norm(differences, dim=2, keepdim=True)
    directions: Tensor = differences / lengths.masked_fill(lengths == 0, math.inf)
    return directions @ directions.transpose(1, 2)
