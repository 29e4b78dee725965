"""All losses that a distill stage can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from paretrim.stages.distill.logits import Decoupled, SoftLogits

AnyCriterion = Annotated[SoftLogits | Decoupled, Field(discriminator="loss")]
"""What a recipe can give. Add yours here and below."""

CRITERIA: Mapping[str, type] = {kind.loss: kind for kind in (SoftLogits, Decoupled)}
"""The settings of every loss by its name."""
