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
every arm trains for equally long. ``stage`` names the kind where a stage's own name is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretrim.errors import InvalidRecipe
from paretrim.recipe import Recipe, parse_recipe, parse_stage, read_toml
from paretrim.stage import Stage

DENSE = "dense"
"""Label of the arm without stages, which every study has: the baseline of all ratios."""

_KEYS = {"name", "seeds", "epochs", "arms", "base", "stages"}


@dataclass(frozen=True)
class Grid:
    """A study: ``recipes`` by label for any seed. The dense arm comes first."""

    name: str
    seeds: tuple[int, ...]
    epochs: int
    arms: tuple[tuple[str, tuple[Stage, ...]], ...]
    base: Recipe

    def recipe(self, stages: tuple[Stage, ...], label: str, seed: int) -> Recipe:
        """The recipe of one arm with one seed."""
        return replace(self.base, stages=stages, label=label, seed=seed)


def is_study(path: Path) -> bool:
    """Whether a TOML file is meant as a study and not as a recipe: it has arms.

    Raises:
        InvalidRecipe: the file is missing or is no TOML.
    """
    return "arms" in read_toml(path, "recipe")


def read_grid(path: Path) -> Grid:
    """Read a study from a TOML file.

    Raises:
        InvalidRecipe: the file is missing or breaks a rule; the message names the key.
    """
    return parse_grid(read_toml(path, "study"), str(path))


def parse_grid(table: Mapping[str, Any], where: str = "study") -> Grid:
    """A study from nested tables.

    Raises:
        InvalidRecipe: a key is missing or unknown, or the epochs do not divide by the shares.
    """
    if set(table) != _KEYS:
        raise InvalidRecipe(f"{where}: it has the keys {', '.join(sorted(table))}; exactly {', '.join(sorted(_KEYS))} are needed")
    seeds, epochs = table["seeds"], table["epochs"]
    if (
        not isinstance(seeds, list)
        or not seeds
        or not all(isinstance(s, int) and s >= 0 for s in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise InvalidRecipe(f"{where}.seeds is {seeds!r}; list different whole numbers from 0")
    if not isinstance(epochs, int) or epochs < 0:
        raise InvalidRecipe(f"{where}.epochs is {epochs!r}; give a whole number from 0")
    base = parse_recipe(table["base"], f"{where}.base")
    if base.stages:
        raise InvalidRecipe(f"{where}.base has stages; list them under stages and arms")
    arms: list[tuple[str, tuple[Stage, ...]]] = [(DENSE, ())]
    for index, text in enumerate(table["arms"]):
        arms.append(_arm(text, table["stages"], epochs, f"{where}.arms[{index}]"))
    labels = [label for label, _ in arms]
    if len(set(labels)) < len(labels):
        raise InvalidRecipe(f"{where}.arms lists an arm twice: {', '.join(labels)}")
    return Grid(str(table["name"]), tuple(seeds), epochs, tuple(arms), base)


def _arm(text: object, stages: Mapping[str, Mapping[str, Any]], epochs: int, where: str) -> tuple[str, tuple[Stage, ...]]:
    if not isinstance(text, str) or not text.split():
        raise InvalidRecipe(f"{where} is {text!r}; write stage names separated by spaces, or by + where they run at once")
    steps = [step.split("+") for step in text.split()]
    unknown = sorted({name for step in steps for name in step} - set(stages))
    if unknown:
        raise InvalidRecipe(f"{where}: there is no stage {', '.join(unknown)}; known are {', '.join(stages)}")
    shares = [sum(float(stages[name].get("share", 1.0)) for name in step) for step in steps]
    spent = [round(epochs * share / sum(shares)) for share in shares]
    if sum(spent) != epochs:
        raise InvalidRecipe(f"{where}: {epochs} epochs split by {shares} give {spent}, {sum(spent)} in all; choose another total")
    return text, tuple(_step(step, stages, count, where) for step, count in zip(steps, spent, strict=True))


def _step(names: list[str], stages: Mapping[str, Mapping[str, Any]], epochs: int, where: str) -> Stage:
    tables = [_stage_table(name, stages[name]) for name in names]
    if len(tables) == 1:
        budget = {**tables[0].get("budget", {}), "epochs": epochs}
        return parse_stage({**tables[0], "budget": budget}, f"{where}: {names[0]}")
    # The joint arm trains with the budget of the stage with the largest share, that is with most of the epochs elsewhere.
    lead = max(names, key=lambda name: float(stages[name].get("share", 1.0)))
    parts = [{key: value for key, value in table.items() if key != "budget"} for table in tables]
    budget = {**stages[lead].get("budget", {}), "epochs": epochs}
    return parse_stage({"stage": "together", "parts": parts, "budget": budget}, f"{where}: {'+'.join(names)}")


def _stage_table(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    return {"stage": table.get("stage", name), **{key: value for key, value in table.items() if key not in ("share", "stage")}}
