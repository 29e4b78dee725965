"""A study as data: arms made of shared stages, equal total epochs, several seeds.

```toml
name = "orders-digits"
seeds = [0, 1, 2]
epochs = 50
arms = ["prune quantize distill", "quantize", "prune+quantize+distill"]

[base]                       # a recipe without stages
model = { network = "resnet20" }
data = { name = "digits" }

[stages.prune]               # settings without epochs, and a share of them
share = 0.2
sparsity = 0.8
budget = { learning_rate = 0.02 }
```

An arm lists stage names; ``+`` joins those that run at once. Its epochs are the study's total, split by the shares of its stages:
every arm trains for equally long. ``stage`` names the kind if the stage itself has another name.

The dense network is the first arm and the baseline. ``dense = false`` leaves it out, for networks that are trained from nothing:
the first arm listed is the baseline then. ``compare = { teacher = "large" }`` compares every network with that teacher
(:class:`paretrim.run.likeness.TeacherComparison`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretrim.errors import InvalidRecipe
from paretrim.files import require_name
from paretrim.run.likeness import TeacherComparison
from paretrim.run.recipe import DENSE, Recipe, parse_recipe, parse_stage, read_toml
from paretrim.settings import checked
from paretrim.stages.stage import Stage
from paretrim.train.budget import LARGEST, MOST
from paretrim.visible import QUOTED, brief

_KEYS = {"name", "seeds", "epochs", "arms", "base", "stages"}
_MORE = {"dense", "compare"}
"""Keys that may be left out."""


@dataclass(frozen=True)
class StudySpec:
    """A study: ``recipes`` by label for any seed.

    The first arm is the baseline of all ratios: the dense one, without stages, unless the study leaves it out. ``compare`` says
    with which teacher the networks are compared, None for no comparison.
    """

    name: str
    seeds: tuple[int, ...]
    epochs: int
    arms: tuple[tuple[str, tuple[Stage, ...]], ...]
    base: Recipe
    compare: TeacherComparison | None = None

    def __post_init__(self) -> None:
        require_name(self.name, "the study's name")

    def recipe(self, stages: tuple[Stage, ...], label: str, seed: int) -> Recipe:
        """The recipe of one arm with one seed."""
        return replace(self.base, stages=stages, label=label, seed=seed)


def is_study(path: Path) -> bool:
    """Whether a TOML file is a study rather than a recipe: it has arms.

    Raises:
        InvalidRecipe: the file is missing or is not TOML.
    """
    return "arms" in read_toml(path, "recipe")


def read_study(path: Path) -> StudySpec:
    """Read a study from a TOML file.

    Raises:
        InvalidRecipe: the file is missing or breaks a rule; the message names the key.
    """
    return parse_study(read_toml(path, "study"), str(path))


def parse_study(table: Mapping[str, Any], where: str = "study") -> StudySpec:
    """A study from nested tables.

    Raises:
        InvalidRecipe: a key is missing or unknown, a value is not allowed, or the epochs do not divide by the shares.
    """
    if set(table) - _MORE != _KEYS:
        raise InvalidRecipe(
            f"{where}: it has the keys {', '.join(sorted(table))}; exactly {', '.join(sorted(_KEYS))} are needed, and "
            f"{' and '.join(sorted(_MORE))} may be given"
        )
    seeds, epochs, stages, listed = table["seeds"], table["epochs"], table["stages"], table["arms"]
    if not isinstance(seeds, list) or not seeds or not all(_whole(s, below=2**32) for s in seeds) or len(set(seeds)) < len(seeds):
        raise InvalidRecipe(f"{where}.seeds is {brief(seeds)}; list different whole numbers from 0 to {2**32 - 1}")
    if not _whole(epochs, below=MOST):
        raise InvalidRecipe(f"{where}.epochs is {brief(epochs)}; give a whole number from 0, below {MOST}")
    if not isinstance(stages, Mapping) or not all(isinstance(one, Mapping) for one in stages.values()):
        raise InvalidRecipe(f"{where}.stages is {brief(stages)}; write each stage as a table [stages.NAME]")
    if not isinstance(listed, list):
        raise InvalidRecipe(f"{where}.arms is {brief(listed)}; list them as texts in brackets")
    base = parse_recipe(table["base"], f"{where}.base")
    if base.stages:
        raise InvalidRecipe(f"{where}.base has stages; list them under stages and arms")
    shares = {name: _share(one, f"{where}.stages.{name[:QUOTED]}") for name, one in stages.items()}
    dense = table.get("dense", True)
    if not isinstance(dense, bool) or not (dense or listed):
        raise InvalidRecipe(f"{where}.dense is {brief(dense)}; write true, or false in a study that lists arms")
    arms: list[tuple[str, tuple[Stage, ...]]] = [(DENSE, ())] if dense else []
    for index, text in enumerate(listed):
        arms.append(_arm(text, stages, shares, epochs, f"{where}.arms[{index}]"))
    _require_budgets_read(stages, shares, listed, where)
    labels = [label for label, _ in arms]
    if len(set(labels)) < len(labels):
        raise InvalidRecipe(f"{where}.arms lists an arm twice: {', '.join(labels)}")
    compare = _comparison(table["compare"], base, f"{where}.compare") if "compare" in table else None
    return StudySpec(require_name(table["name"], f"{where}.name"), tuple(seeds), epochs, tuple(arms), base, compare)


def _require_budgets_read(
    stages: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float], arms: Sequence[str], where: str
) -> None:
    """Refuse the budgets of stages in joint arms with which none of these arms trains."""
    steps = [step.split("+") for arm in arms for step in arm.split()]
    named, trained = {name for step in steps for name in step}, {_lead(step, shares) for step in steps}
    idle = sorted(name for name in named - trained if stages[name].get("budget"))
    if idle:
        raise InvalidRecipe(
            f"{where}.stages.{idle[0]}.budget is {brief(stages[idle[0]]['budget'])}, but a joint arm trains with the budget of "
            "its stage with the largest share, and no arm has this stage alone, so it would have no effect; give it a larger "
            "share, or leave the budget out"
        )


def _lead(names: Sequence[str], shares: Mapping[str, float]) -> str:
    """The stage of a joint arm whose budget it trains with: that with most of the epochs in the other arms."""
    return max(names, key=shares.__getitem__)


def _comparison(table: object, base: Recipe, where: str) -> TeacherComparison:
    if not isinstance(table, Mapping):
        raise InvalidRecipe(f'{where} is {brief(table)}; write {{ teacher = "NAME" }}')
    asked = checked(TeacherComparison, table, where)
    if asked.teacher not in (names := [one.name for one in base.teachers]):
        raise InvalidRecipe(
            f"{where}.teacher is {brief(asked.teacher)}; name one of [[base.teachers]]: {', '.join(names) or 'there are none'}"
        )
    return asked


def _whole(value: object, *, below: int) -> bool:
    return type(value) is int and 0 <= value < below


def _share(table: Mapping[str, Any], where: str) -> float:
    share = table.get("share", 1.0)
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= LARGEST:
        raise InvalidRecipe(f"{where}.share is {brief(share)}; give a number from 0")
    return float(share)


def _arm(
    text: object, stages: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float], epochs: int, where: str
) -> tuple[str, tuple[Stage, ...]]:
    if not isinstance(text, str) or not text.split():
        raise InvalidRecipe(f"{where} is {brief(text)}; write stage names separated by spaces, or by + where they run at once")
    steps = [step.split("+") for step in text.split()]
    unknown = sorted({name for step in steps for name in step} - set(stages))
    if unknown:
        raise InvalidRecipe(f"{where}: there is no stage {', '.join(unknown)[:QUOTED]}; known are {', '.join(stages)}")
    parts = [sum(shares[name] for name in step) for step in steps]
    if not sum(parts):
        raise InvalidRecipe(f"{where}: the shares of its stages are all 0; let at least one be above 0")
    spent = [round(epochs * part / sum(parts)) for part in parts]
    if sum(spent) != epochs:
        raise InvalidRecipe(f"{where}: {epochs} epochs split by {parts} give {spent}, {sum(spent)} in all; choose another total")
    return text, tuple(_step(step, stages, shares, count, where) for step, count in zip(steps, spent, strict=True))


def _step(
    names: list[str], stages: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float], epochs: int, where: str
) -> Stage:
    tables = [_stage_table(name, stages[name]) for name in names]
    lead = _lead(names, shares)
    given = stages[lead].get("budget", {})
    if not isinstance(given, Mapping):
        raise InvalidRecipe(f"{where}: budget of {lead} is {brief(given)}; write it as a table")
    budget = {**given, "epochs": epochs}
    if len(tables) == 1:
        return parse_stage({**tables[0], "budget": budget}, f"{where}: {names[0]}")
    parts = [{key: value for key, value in table.items() if key != "budget"} for table in tables]
    return parse_stage({"stage": "together", "parts": parts, "budget": budget}, f"{where}: {'+'.join(names)}")


def _stage_table(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    return {"stage": table.get("stage", name), **{key: value for key, value in table.items() if key not in ("share", "stage")}}
