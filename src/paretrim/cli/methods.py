"""Every method of the package, and the command ``methods``."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from paretrim.cli.exits import DONE
from paretrim.cli.output import emit, result_console, say, show_rows
from paretrim.method import Method
from paretrim.network import (
    clipped,
    clipped_means,
    codebook,
    dorefa,
    float_weights,
    formats,
    grids,
    grouped,
    offset,
    powers,
    ternary,
    trained_ternary,
    uniform,
)
from paretrim.run import combinations
from paretrim.search import ladder
from paretrim.stages import finetune, together
from paretrim.stages.distill import contrast, criteria, features, joint_teacher, logits, relations, review
from paretrim.stages.distill import stage as distill
from paretrim.stages.prune import (
    acdc,
    allocation,
    channel_scores,
    gates,
    gsm,
    lottery,
    measured,
    movement,
    patterns,
    regroup,
    rigl,
    saliency,
    schedule,
    score_table,
    second_order,
    selection,
    sensitivity,
    straight_through,
    teacher_score,
    thin,
    thinet,
)
from paretrim.stages.prune import stage as prune
from paretrim.stages.quantize import adjustments, calibrators, clipq, mixed, rate
from paretrim.stages.quantize import stage as quantize
from paretrim.stages.stage_table import STAGES


@dataclass(frozen=True)
class Kind:
    """Methods of one kind: the registered names, and the ``stage.setting`` by which a recipe chooses one of them.

    The setting is empty if the name is that of a stage or of a setting (``option``), if the method combines several settings
    (``combination``), or if no recipe chooses it.
    """

    names: tuple[str, ...] = ()
    setting: str = ""


KINDS: Mapping[str, Kind] = {
    "stage": Kind(tuple(STAGES)),
    "score": Kind((*score_table.SCORES, score_table.SECOND_ORDER), "prune.score"),
    "channel score": Kind(tuple(score_table.CHANNEL_SCORES), "prune.score"),
    "allocation": Kind(get_args(allocation.Allocation), "prune.allocation"),
    "pattern": Kind((*(pattern.text for pattern in patterns.FREE), "n:m", patterns.CHANNEL), "prune.pattern"),
    "schedule": Kind(get_args(schedule.Schedule), "prune.schedule"),
    "weight grid": Kind((*formats.WEIGHT_GRIDS, *formats.FLOAT_WEIGHTS), "quantize.formats"),
    "activation grid": Kind(tuple(formats.ACTIVATION_GRIDS), "quantize.activations"),
    "scales": Kind(get_args(grids.Scales), "quantize.scales"),
    "calibrator": Kind(get_args(calibrators.Calibrator), "quantize.calibrator"),
    "adjustment": Kind((*adjustments.BEFORE, *adjustments.AFTER), "quantize.adjust"),
    "mixture": Kind(tuple(mixed.MIXTURES), "quantize.mixed"),
    "loss": Kind(tuple(criteria.CRITERIA), "distill.criteria"),
    "option": Kind(),
    "combination": Kind(),
    "search": Kind(),
}
"""Every kind of method, in display order."""

_HOLDERS = (
    prune,
    quantize,
    distill,
    finetune,
    together,
    rigl,
    acdc,
    thinet,
    gates,
    gsm,
    thin,
    clipq,
    measured,
    straight_through,
    movement,
    lottery,
    score_table,
    saliency,
    second_order,
    channel_scores,
    teacher_score,
    allocation,
    sensitivity,
    patterns,
    schedule,
    selection,
    regroup,
    formats,
    grouped,
    float_weights,
    ternary,
    dorefa,
    codebook,
    powers,
    trained_ternary,
    clipped_means,
    clipped,
    offset,
    uniform,
    calibrators,
    adjustments,
    mixed,
    logits,
    features,
    relations,
    contrast,
    review,
    joint_teacher,
    rate,
    combinations,
    ladder,
)
"""The modules that register methods."""

METHODS: tuple[Method, ...] = tuple(
    method for kind in KINDS for holder in _HOLDERS for method in holder.METHODS if method.kind == kind
)
"""Every method, by kind."""


TABLE = 110
"""Columns from which on the methods are shown as a table. In fewer its cells are a word or two wide."""


def recipe_path(method: Method) -> str | None:
    """The path of its recipe in the repository."""
    return f"recipes/methods/{method.recipe}.toml" if method.recipe else None


def methods(parsed: argparse.Namespace) -> int:
    """List every method by kind."""
    if parsed.json:
        emit([dataclasses.asdict(method) | {"recipe": recipe_path(method)} for method in METHODS])
        return DONE
    width = result_console().width
    if width < TABLE:
        say("\n".join(_listed(width)))
    else:
        show_rows(
            ("kind", "name", "what it does", "source", "recipe"),
            [(method.kind, method.name, method.what, method.source, method.recipe) for method in METHODS],
            words=True,
        )
    say("\nrecipes are in recipes/methods; formulas and settings in docs/methods")
    return DONE


def _listed(width: int) -> Iterator[str]:
    """Lines for a narrow terminal: the methods of each kind below its name."""
    wrapped = textwrap.TextWrapper(
        max(width, 20), initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    for kind, of_kind in itertools.groupby(METHODS, key=lambda method: method.kind):
        yield f"\n{kind}"
        for method in of_kind:
            recipe = f"; recipe {method.recipe}" if method.recipe else ""
            yield from wrapped.wrap(f"{method.name}: {method.what} ({method.source}{recipe})")
