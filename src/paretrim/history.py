"""What a stage did, as it goes into checkpoints, results and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from paretrim.metric import ACCURACY, Metric, accuracy_of
from paretrim.stored_fields import LATER, once_called, under_todays_names


@dataclass(frozen=True)
class StageOutcome:
    """What one stage did. ``bits`` is the width of the widest weights.

    ``value_before`` and ``value_after`` are values of ``metric`` on the validation images; if that is None, of
    accuracy as a fraction.

    ``layer_bits`` has the width of every layer by name if layers differ. ``seconds`` include pruning or calibration at the
    start of the stage.
    """

    name: str
    settings: Mapping[str, object]
    epochs: int
    seconds: float
    sparsity: float
    bits: int
    value_before: float = field(metadata=once_called("accuracy_before"))
    value_after: float = field(metadata=once_called("accuracy_after"))
    layer_bits: Mapping[str, int] | None = field(default=None, metadata=LATER)
    metric: Metric | None = field(default=None, metadata=LATER)

    @property
    def judged_by(self) -> Metric:
        """What the numbers before and after are."""
        return self.metric or ACCURACY

    @property
    def accuracy_before(self) -> float:
        """``value_before`` where the metric is accuracy; AttributeError where it is another."""
        return accuracy_of(self.value_before, self.judged_by)

    @property
    def accuracy_after(self) -> float:
        """``value_after`` where the metric is accuracy; AttributeError where it is another."""
        return accuracy_of(self.value_after, self.judged_by)

    def facts(self) -> dict[str, object]:
        """As stored: fields that were added later are left out at their defaults."""
        unused = {one.name for one in fields(self) if one.metadata == LATER and getattr(self, one.name) == one.default}
        return {name: value for name, value in asdict(self).items() if name not in unused}


def stage_of(facts: Mapping[str, Any]) -> StageOutcome:
    """The inverse of :meth:`StageOutcome.facts`, under current or earlier names; raises TypeError for anything else."""
    metric = facts.get("metric")
    return StageOutcome(**under_todays_names(facts, StageOutcome) | {"metric": None if metric is None else Metric(**metric)})
