"""All losses available in a distill stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from paretrim.stages.distill.contrast import Contrast
from paretrim.stages.distill.features import Attention, Hint, Mimic
from paretrim.stages.distill.joint_teacher import JointTeacher
from paretrim.stages.distill.logits import DecoupledLogits, SoftLogits
from paretrim.stages.distill.relations import Relations
from paretrim.stages.distill.review import Review

AnyCriterion = Annotated[
    SoftLogits | DecoupledLogits | Hint | Mimic | Attention | Relations | Contrast | Review | JointTeacher,
    Field(discriminator="loss"),
]
"""The criteria of a recipe. Add new ones here and below."""

CRITERIA: Mapping[str, type] = {
    kind.loss: kind for kind in (SoftLogits, DecoupledLogits, Hint, Mimic, Attention, Relations, Contrast, Review, JointTeacher)
}
"""The settings class of every loss, by name."""
