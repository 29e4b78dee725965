"""Provenance of a network as stored in its file: recipe digest, what the stages did, what was measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paretrim.errors import CorruptFile
from paretrim.graph.structure import parse_strictly
from paretrim.history import LATER, StageOutcome, stage_of
from paretrim.metric import Metric

FORMAT = 1
"""Version of the text; a reader refuses a newer one."""

DEEPEST = 64
"""Deepest nesting of lists and mappings."""

MEAN, STD, RESIZE = "mean", "std", "resize"
"""Names under which files keep how images were prepared: the normalisation, in files that take floats, and the short side that
images were resized to before the central square was cropped."""

_STAGE = {
    field.metadata.get("earlier", field.name): field.name for field in dataclasses.fields(StageOutcome) if field.metadata != LATER
}
"""Fields of a stage in a file, by their names there: readers of every version refuse other keys, so files keep the first names of
fields. Bits by layer follow from the settings."""

_NUMBERS = {"seconds", "sparsity", "accuracy_before", "accuracy_after"}
_COUNTS = {"epochs", "bits"}

TASK, METRIC, METRIC_UNIT, METRIC_RISES = "task", "metric", "metric_unit", "metric_higher_is_better"
"""Names under which files keep the task and the metric of its history, beside what was measured, if they are not classification
and accuracy."""


@dataclass(frozen=True)
class Provenance:
    """What is known about how a network was made. Every field is optional.

    ``recipe`` is the digest of the recipe, ``measured`` plain numbers and texts about the network (accuracy as a fraction of the
    test set, latency in ms, the machine).
    """

    recipe: str = ""
    history: tuple[StageOutcome, ...] = ()
    measured: Mapping[str, float | int | str] = field(default_factory=dict)


def normalisation_facts(mean: Sequence[float], std: Sequence[float]) -> dict[str, str]:
    """The normalisation of the images a network was trained on, as files that take normalised images keep it; {} if unknown."""
    return {MEAN: ",".join(map(repr, mean)), STD: ",".join(map(repr, std))} if std else {}


def image_facts(mean: Sequence[float], std: Sequence[float], resize: int, *, pixels: bool) -> dict[str, str]:
    """How the images of a network were prepared, as its files keep it: one that takes pixels normalises them itself."""
    return {**({} if pixels else normalisation_facts(mean, std)), **({RESIZE: str(resize)} if resize else {})}


OF_TASK = (TASK, METRIC, METRIC_UNIT, METRIC_RISES)


def task_facts(name: str, metric: Metric) -> dict[str, str]:
    """What a network is for and judged by, as its files keep it."""
    return {TASK: name, **_metric_facts(metric)}


def metric_of(measured: Mapping[str, object]) -> Metric | None:
    """The metric that a file keeps; None, for accuracy, if it keeps none."""
    if not isinstance(measured.get(METRIC), str):
        return None
    rises = str(measured.get(METRIC_RISES, 1)) != "0"
    return Metric(str(measured[METRIC]), str(measured.get(METRIC_UNIT, "")), higher_is_better=rises)


def encode(provenance: Provenance) -> str:
    """One line of JSON, the same for equal provenance; empty if nothing is known.

    Raises:
        CorruptFile: a number is not finite or beyond int64, or a setting is not a plain value.
    """
    if provenance == Provenance():
        return ""
    facts = {
        "format": FORMAT,
        "recipe": provenance.recipe,
        "history": [{key: getattr(stage, name) for key, name in _STAGE.items()} for stage in provenance.history],
        "measured": {**_metric_facts(_judged_by(provenance.history)), **provenance.measured},
    }
    try:
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CorruptFile(f"provenance: {error}; it holds finite numbers, texts, truth values, lists and mappings") from error
    decode(text)  # never write what readers refuse
    return text


def decode(text: str) -> Provenance:
    """What :func:`encode` wrote.

    Raises:
        CorruptFile: the text is not provenance, or is of a newer format.
    """
    if not text:
        return Provenance()
    facts = parse_strictly(text, "record provenance: it")
    if _depth(facts) > DEEPEST:
        raise CorruptFile(f"record provenance: it is nested more than {DEEPEST} deep")
    if not isinstance(facts, dict) or not _is_count(facts.get("format")) or facts["format"] != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise CorruptFile(f"record provenance: its format is {found!r} and this version reads {FORMAT}; update paretrim")
    if set(facts) != {"format", "recipe", "history", "measured"}:
        raise CorruptFile(f"record provenance: it has the keys {sorted(facts)}; it has format, recipe, history and measured")
    recipe, history, measured = facts["recipe"], facts["history"], facts["measured"]
    if not isinstance(recipe, str) or not isinstance(history, list) or not isinstance(measured, dict):
        raise CorruptFile("record provenance: recipe is a text, history a list and measured a mapping")
    if not all(isinstance(value, str | int | float) for value in measured.values()):
        raise CorruptFile("record provenance: what was measured is numbers and texts")
    metric = metric_of(measured)
    return Provenance(recipe, tuple(dataclasses.replace(_stage(stage), metric=metric) for stage in history), measured)


def _judged_by(history: Sequence[StageOutcome]) -> Metric | None:
    return next((stage.metric for stage in history if stage.metric is not None), None)


def _metric_facts(metric: Metric | None) -> dict[str, str]:
    if metric is None:
        return {}
    return {METRIC: metric.name, METRIC_UNIT: metric.unit, METRIC_RISES: str(int(metric.higher_is_better))}


def _stage(facts: object) -> StageOutcome:
    if not isinstance(facts, dict) or set(facts) != set(_STAGE):
        raise CorruptFile(f"record provenance: a stage of the history has exactly {sorted(_STAGE)}")
    right = isinstance(facts["name"], str) and isinstance(facts["settings"], dict)
    right = right and all(_is_number(facts[name]) for name in _NUMBERS)
    if not right or not all(_is_count(facts[name]) for name in _COUNTS):
        raise CorruptFile("record provenance: a stage of the history has a name, settings, whole epochs and bits, and numbers")
    return stage_of(facts)


def _depth(value: object) -> int:
    """How deeply lists and mappings are nested."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
