"""A teacher that trains at the same time as its student."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.distill.criterion import require_classes, teacher_of, weightless
from paretrim.train.budget import NotNegative, Positive
from paretrim.train.losses import LossTerm, Outputs, task_loss
from paretrim.train.resources import Resources
from paretrim.train.task import Task

METHODS = (
    Method(
        name="joint",
        kind="loss",
        source="Mishra & Marr 2018 (Apprentice), arXiv 1711.05852, equation 1, scheme A",
        what="train the teacher together with the student, starting from the teacher's current weights",
        formula="alpha CE(labels, p_teacher) + weight CE(p_teacher, p); the second term trains only the student",
        recipe="apprentice-a",
        settings=("distill.criteria",),
    ),
)


@settings(idle=(weightless("alpha", "temperature"),))
class JointTeacher:
    """``alpha CE(labels, p_teacher) + weight CE(p_teacher, p)``: the teacher learns the labels while the student learns from it.

    The teacher is a copy of the recipe's teacher and continues from its weights, which are initial weights if it was not trained.
    It trains with the budget of the stage, is checkpointed and never ships. The second term has no gradient for the teacher. The
    beta of the paper, 0.5 there, is ``labels`` of the stage.

    Source: Mishra & Marr 2018, "Apprentice", equation 1 with alpha 1 and gamma 0.5 and temperature 1.
    """

    loss: Literal["joint"] = "joint"
    weight: NotNegative = 0.5
    alpha: NotNegative = 1.0
    temperature: Positive = 1.0

    def begin(self, _network: Network, resources: Resources, /) -> nn.ModuleDict:
        """The teacher."""
        require_classes(resources, self.loss)
        return nn.ModuleDict({"teacher": teacher_of(resources).trainable()})

    def term(self, task: Task, /) -> LossTerm:
        """Both terms."""
        labels = task_loss(task).function

        def function(outputs: Outputs) -> Tensor:
            assert outputs.inputs is not None  # the training loop provides them
            teacher: Tensor = outputs.extra["teacher"](outputs.inputs).float()
            soft = (teacher.detach() / self.temperature).softmax(1)
            taught = functional.cross_entropy(outputs.logits.float() / self.temperature, soft) * self.temperature**2
            own = labels(Outputs(teacher, outputs.labels))
            return self.alpha * own + self.weight * taught

        return LossTerm(function)
