"""Sparsity as a function of progress in [0, 1]."""

from __future__ import annotations

from typing import Literal

from paretrim.errors import InvalidRecipe
from paretrim.method import Method

Schedule = Literal["one_shot", "cubic"]

METHODS = (
    Method(
        name="one_shot",
        kind="schedule",
        source="Li et al. 2017, arXiv 1608.08710 (prune once and retrain)",
        what="prune once, before the stage trains",
        formula="s(t) = sparsity for all t",
        recipe="magnitude",
    ),
    Method(
        name="cubic",
        kind="schedule",
        source="Zhu & Gupta 2017, arXiv 1710.01878, equation 1",
        what="sparsity rises while the stage trains, fast at first and slowly at the end",
        formula="s(t) = sparsity - sparsity (1 - (t - start) / (end - start))^3 from start to end, t the progress in [0, 1]",
        recipe="cubic",
        settings=("prune.start", "prune.end"),
    ),
)


def cubic(progress: float, *, start: float, end: float, initial: float, final: float) -> float:
    """Sparsity that rises from ``initial`` at ``start`` to ``final`` at ``end``, fast at first and slowly at the end.

    ``final + (initial - final) * (1 - (progress - start) / (end - start)) ** 3`` between ``start`` and ``end``, constant outside.
    With ``start == end`` it is a step.

    Args:
        progress: completed share of the stage, in [0, 1].
        start: progress at which pruning begins.
        end: progress from which the sparsity is ``final``; at least ``start``.
        initial: sparsity before ``start``, in [0, 1].
        final: sparsity from ``end`` on, in [0, 1].

    Raises:
        InvalidRecipe: an argument is outside [0, 1] or ``end`` is before ``start``.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", equation 1, arXiv 1710.01878.
    """
    for name, value in (("progress", progress), ("start", start), ("end", end), ("initial", initial), ("final", final)):
        if not 0 <= value <= 1:
            raise InvalidRecipe(
                f"{name} {value} of the pruning schedule is not in [0, 1]; give a share, not a percentage or a step"
            )
    if end < start:
        raise InvalidRecipe(f"the pruning schedule ends at {end}, before its start at {start}; set end to at least start")
    if progress >= end:
        return final
    if progress <= start:
        return initial
    return final + (initial - final) * (1 - (progress - start) / (end - start)) ** 3
