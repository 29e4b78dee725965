"""What a stage did, as it goes into checkpoints, results and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from paretrim.metric import ACCURACY, Metric

LATER: Mapping[str, bool] = MappingProxyType({"later": True})
"""Metadata of a field that came after results were first stored with its kind of facts.

At its default, which must mean what was so without it, it is left out of what is stored: earlier results can still be read and
are still found.
"""


@dataclass(frozen=True)
class StageOutcome:
    """What one stage did. ``bits`` are those of the widest weight.

    ``accuracy_before`` and ``accuracy_after`` are values of ``metric`` on the validation images: of accuracy, as a fraction,
    where that is None.

    ``layer_bits`` are those of every layer by name, where layers differ. ``seconds`` are those of pruning or calibration at its
    beginning and of training.
    """

    name: str
    settings: Mapping[str, object]
    epochs: int
    seconds: float
    sparsity: float
    bits: int
    accuracy_before: float
    accuracy_after: float
    layer_bits: Mapping[str, int] | None = field(default=None, metadata=LATER)
    metric: Metric | None = field(default=None, metadata=LATER)

    @property
    def judged_by(self) -> Metric:
        """What the numbers before and after are."""
        return self.metric or ACCURACY

    def facts(self) -> dict[str, object]:
        """As it is stored: what came later is left out at its default."""
        unused = {one.name for one in fields(self) if one.metadata == LATER and getattr(self, one.name) == one.default}
        return {name: value for name, value in asdict(self).items() if name not in unused}


def stage_of(facts: Mapping[str, Any]) -> StageOutcome:
    """The inverse of :meth:`StageOutcome.facts`; a TypeError where the facts are others."""
    metric = facts.get("metric")
    return StageOutcome(**{**facts, "metric": None if metric is None else Metric(**metric)})
