"""Provenance of a network as stored in its file: recipe digest, what the stages did, what was measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paretrim.errors import CorruptFile
from paretrim.graph.structure import parse_strictly
from paretrim.history import StageOutcome, stage_of
from paretrim.metric import Metric
from paretrim.stored_fields import LATER

FORMAT = 1
"""Version of the JSON text; a reader refuses a newer one."""

DEEPEST = 64
"""Maximum nesting of lists and mappings."""

MEAN, STD, RESIZE = "mean", "std", "resize"
"""Keys for the preparation of images: the normalisation, in files that take floats, and the length of the short side to which
images were resized before the centre crop."""

_STAGE = {
    field.metadata.get("earlier", field.name): field.name for field in dataclasses.fields(StageOutcome) if field.metadata != LATER
}
"""Key in the file to field of a stage. Readers of every version refuse other keys, so files keep the original names of fields.
Bits per layer are not stored, because they follow from the settings."""

_NUMBERS = {"seconds", "sparsity", "accuracy_before", "accuracy_after"}
_COUNTS = {"epochs", "bits"}

TASK, METRIC, METRIC_UNIT, METRIC_RISES = "task", "metric", "metric_unit", "metric_higher_is_better"
"""Keys for the task and the metric, in ``measured``, if they are not classification and accuracy."""


@dataclass(frozen=True)
class Provenance:
    """What is known about how a network was made. Every field is optional.

    ``recipe`` is the digest of the recipe; ``measured`` holds numbers and strings about the network (accuracy as a fraction of
    the test set, latency in ms, the machine).
    """

    recipe: str = ""
    history: tuple[StageOutcome, ...] = ()
    measured: Mapping[str, float | int | str] = field(default_factory=dict)


def normalisation_facts(mean: Sequence[float], std: Sequence[float]) -> dict[str, str]:
    """The normalisation of training images, as files that take normalised images store it; {} if unknown."""
    return {MEAN: ",".join(map(repr, mean)), STD: ",".join(map(repr, std))} if std else {}


def image_facts(mean: Sequence[float], std: Sequence[float], resize: int, *, pixels: bool) -> dict[str, str]:
    """The preparation of images, as files store it. A network that takes pixels normalises them itself."""
    return {**({} if pixels else normalisation_facts(mean, std)), **({RESIZE: str(resize)} if resize else {})}


OF_TASK = (TASK, METRIC, METRIC_UNIT, METRIC_RISES)


def task_facts(name: str, metric: Metric) -> dict[str, str]:
    """The task of a network and its metric, as files store them."""
    return {TASK: name, **_metric_facts(metric)}


def metric_of(measured: Mapping[str, object]) -> Metric | None:
    """The metric that a file stores; None, which means accuracy, if it stores none."""
    name = measured.get(METRIC)
    if not isinstance(name, str) or not name.strip():
        return None
    rises = str(measured.get(METRIC_RISES, 1)) != "0"
    return Metric(name, str(measured.get(METRIC_UNIT, "")), higher_is_better=rises)


def encode(provenance: Provenance) -> str:
    """One line of JSON that depends only on the provenance; empty if nothing is known.

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
        raise CorruptFile(f"provenance: {error}; use finite numbers, strings, booleans, lists and mappings") from error
    decode(text)  # never write what readers refuse
    return text


def decode(text: str) -> Provenance:
    """Parse the text that :func:`encode` wrote.

    Raises:
        CorruptFile: the text is not provenance, or is of a newer format.
    """
    if not text:
        return Provenance()
    facts = parse_strictly(text, "record provenance: it")
    if _depth(facts) > DEEPEST:
        raise CorruptFile(f"record provenance: it is nested more than {DEEPEST} deep; write the file again")
    if not isinstance(facts, dict) or not _is_count(facts.get("format")) or facts["format"] != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise CorruptFile(f"record provenance: its format is {found!r}; this version reads {FORMAT}; update paretrim")
    if set(facts) != {"format", "recipe", "history", "measured"}:
        raise CorruptFile(f"record provenance: it has the keys {sorted(facts)}; use format, recipe, history and measured")
    recipe, history, measured = facts["recipe"], facts["history"], facts["measured"]
    if not isinstance(recipe, str) or not isinstance(history, list) or not isinstance(measured, dict):
        raise CorruptFile(
            "record provenance: recipe must be a string, history a list and measured a mapping; write the file again"
        )
    if not all(isinstance(value, str | int | float) for value in measured.values()):
        raise CorruptFile("record provenance: the values of measured must be numbers or strings; write the file again")
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
        raise CorruptFile(
            f"record provenance: a stage of the history must have exactly the keys {sorted(_STAGE)}; write the file again"
        )
    right = isinstance(facts["name"], str) and isinstance(facts["settings"], dict)
    right = right and all(_is_number(facts[name]) for name in _NUMBERS)
    if not right or not all(_is_count(facts[name]) for name in _COUNTS):
        raise CorruptFile(
            "record provenance: a stage of the history must have a string name, settings, integer epochs and bits, and numbers; "
            "write the file again"
        )
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
