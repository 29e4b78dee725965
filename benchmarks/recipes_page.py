"""The page of the recipes, and what docs/which-recipe.md says about them, made only from the lines of ``recipes.py``.

python benchmarks/recipes_page.py
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from page_parts import Line, read, with_part
from recipe_baselines import parts_of
from recipe_lines import BETTER, FEWEST, IMAGES, NEITHER, ONE_SEED, WORSE, Measured, by_recipe, percent, points, verdict

from paretrim.run.recipe import Recipe, read_recipe
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.clipq import ClipQ
from paretrim.stages.quantize.stage import Quantize

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "recipes.jsonl"
AGAIN = ROOT / "results" / "recipes-again.jsonl"
RECIPES = ROOT / "recipes" / "methods"
PAGE = ROOT / "docs" / "studies" / "recipes.md"
WHICH = ROOT / "docs" / "which-recipe.md"

PRUNING, UNTRAINED, QUANTIZED = "Pruning", "Without training", "Quantization with training"
TAUGHT, COMBINED = "Teachers and losses", "Combinations"
GROUPS: Mapping[str, str] = {
    PRUNING: "The files are in float32.",
    UNTRAINED: "Nothing is trained after the dense network.",
    QUANTIZED: "",
    TAUGHT: "Half of the channels are removed first. Then the rest trains, in float32.",
    COMBINED: "",
}
"""The tables, and a sentence for each."""

CLOSE, FAR = 4, 10
"""Differences in images that the page calls small and large."""

SAME_GOAL: Mapping[str, Sequence[str]] = {
    "Half of the channels, then 10 epochs": (
        *("kd", "logit-standardisation", "dkd", "hint", "hint-two-stages", "attention-transfer", "mimic", "rkd", "crd"),
        *("crd-simplified", "reviewkd", "sparse-logits", "label-smoothing", "teacher-larger", "teacher-independent"),
        *("teacher-other-family", "teacher-augmented", "teacher-quantized", "several-teachers"),
    ),
    "90 % of the weights pruned, 10 epochs": (
        *("prune-while-distilling", "prune-then-distill", "distill-then-prune", "movement-distill", "movement"),
        *("straight-through", "several-losses", "prune-other-teacher"),
    ),
    "4-bit weights, 10 epochs": ("qat-while-distilling", "quantize-then-distill", "both-quantized"),
}
"""Recipes with the same goal and as many epochs; the others are compared with the first."""

REASONS: Mapping[str, str] = {
    "random": "the control, which every score must beat",
    "cost": "at equal zeros it removes those blocks that cost most time; at equal time see [allocations](allocations.md)",
    "uniform": "equal shares take as much from small layers as from large ones",
    "magnitude": "its baseline is not pruned",
    "finetune": "its baseline is not pruned",
    "channels": "its baseline keeps all channels",
}
"""Why a recipe falls behind its baseline, if it does."""

HEAD = """<!-- Written by benchmarks/recipes_page.py from results/recipes.jsonl; do not edit. -->

# Every recipe, as it is written

Each recipe of [recipes/methods/](../../recipes/methods) is carried out as `paretrim run` does it, on scikit-learn's
digits. Accuracy is that of the `.trim` file on the 360 test images, so one image is 0.28 points; bytes are those of the
file, zeros the share of all its weights. With several seeds numbers have Student's interval (95 %).

*Against it* is the difference in points from a plain baseline with the same dense network and seed:

- *the same, labels only*: the same stages without a teacher (*hard labels*: without label smoothing);
- *global magnitude, one shot*: as much pruned by magnitude, in one shot, in the same epochs (*single weights*: instead of
  blocks);
- *dense training, then magnitude*, for methods that prune before or during the first training: as many epochs in all,
  the last fifth of them after pruning;
- *default quantization*: the same bits and epochs with uniform grids and default settings. If the recipe only chooses
  ranges for 8 bits, the full range observed; if it mixes formats, its average bits everywhere, or else its fewest;
- *dense, trained on*: the dense network, trained on with labels for as many epochs, for recipes that are that plain
  themselves (*8 bits*: then quantized without training).

A direction is named only if the interval excludes 0 and the difference is at least {fewest} images over all seeds: fewer
images may all go one way by chance. {verdicts}
Of so many comparisons, about one in twenty excludes 0 by chance. *{neither}* does not mean equal: so few
seeds and images do not decide it. The recipes are short and the task is easy, since the dense network is right on
{dense} %. So this page shows that each recipe works, what its file weighs, and which recipes fall behind when training
is short. It does not show which method is best for your network.

Eight recipes first trained badly here: attention-transfer, mimic, dkd, hkdp, grasp, cubic, movement and movement-soft.
Their settings were changed, and several of the new ones were tried on these test images with seed 0, one to three
variants each. So their lines of seed 0 are a little optimistic.

{apart}

```sh
python benchmarks/recipes.py --out results/recipes.jsonl   # makes the lines that are missing
python benchmarks/recipes.py --out results/recipes-again.jsonl --seeds 1 \\
    --only apprentice-a apprentice-b codebook int4-groups lsq-plus ttq
python benchmarks/recipes_page.py                          # writes this page
```

| dense network | accuracy, % | bytes | in 8 bits without training, % | bytes |
|---|---|---|---|---|
{networks}
"""

MEASURED_AGAIN = """
## Measured later

Since the lines above were made, training changes the values of codebooks, trained ternary weights and LSQ+ by small steps only
([decision 53](../decisions/0053-trained-scales-change-slowly.md)), and the two values of trained ternary weights are the layer's.
These recipes were measured again. A dense network trained today differs a little from those above, so the lines stand apart, each
beside a baseline from the same dense network. `int4-groups` is newer than the lines above.

"""

COLUMNS = """| recipe | seeds | accuracy, % | bytes | zeros, % | epochs | plain baseline | accuracy, % | against it, points | |
|---|---|---|---|---|---|---|---|---|---|
"""


def group_of(recipe: Recipe) -> str:
    """The table of a recipe."""
    parts = parts_of(recipe)
    taught = any(isinstance(part, Distill) for part in parts)
    quantized = [isinstance(part, Quantize | ClipQ) for part in parts]
    if not any(stage.budget.epochs for stage in recipe.stages):
        return UNTRAINED
    first, *rest = recipe.stages
    halved = isinstance(first, Prune) and first.pattern == CHANNEL and not first.budget.epochs
    if halved and all(isinstance(stage, Distill | FineTune) for stage in rest):
        return TAUGHT
    if all(quantized):
        return QUANTIZED
    return COMBINED if taught or any(quantized) else PRUNING


def page(lines: Sequence[Line], recipes: Mapping[str, Recipe], again: Sequence[Line] = ()) -> str:
    """The whole page; ``again`` are later lines, which begin with other dense networks."""
    found = by_recipe(lines)
    verdicts = [verdict(one.against("plain_")) for one in found.values()]
    counts = {name: verdicts.count(name) for name in (BETTER, WORSE, NEITHER, ONE_SEED)}
    first = next(one for one in found.values() if recipes[one.recipe].model.network == "resnet20" and recipes[one.recipe].dense)
    text = HEAD.format(
        verdicts=f"Of {len(found)} recipes {counts[BETTER]} are shown to be better than their baseline and {counts[WORSE]} "
        f"worse;\nfor {counts[NEITHER]} no difference is shown"
        + (f", and {counts[ONE_SEED]} were run with one seed only." if counts[ONE_SEED] else "."),
        apart=_apart(found.values()),
        neither=NEITHER.capitalize(),
        fewest=FEWEST,
        dense=percent(first.values("accuracy", "dense_")),
        networks="\n".join(_networks(found.values(), recipes)),
    )
    for group, sentence in GROUPS.items():
        rows = [_row(one) for one in found.values() if group_of(recipes[one.recipe]) == group]
        text += f"\n## {group}\n\n" + (f"{sentence}\n\n" if sentence else "") + COLUMNS + "".join(rows)
    return text + (MEASURED_AGAIN + COLUMNS + "".join(map(_row, by_recipe(again).values())) if again else "")


def _apart(found: Collection[Measured]) -> str:
    """How many recipes are close to their baseline, and which are far behind or ahead, in images."""
    images = {one.recipe: [IMAGES * gain for gain in one.against("plain_").values()] for one in found}
    means = {name: sum(gains) / len(gains) for name, gains in images.items()}
    close = sum(max(map(abs, gains)) < CLOSE + 0.5 for gains in images.values())
    behind, ahead = ([name for name, mean in means.items() if sign * mean > FAR] for sign in (-1, 1))
    worse = [one.recipe for one in found if verdict(one.against("plain_")) == WORSE or one.recipe in behind]
    reasons = "".join(f"\n  - {name}: {REASONS.get(name, 'the reason is not known')}" for name in worse)
    return (
        f"- At most {CLOSE} images from their baseline in every seed: {close} of {len(images)} recipes\n"
        f"- More than {FAR} images ahead of it on average: {', '.join(ahead) or 'none'}\n"
        f"- More than {FAR} images behind it on average, or shown to be worse: {', '.join(worse) or 'none'}{reasons}"
    )


def _networks(found: Iterable[Measured], recipes: Mapping[str, Recipe]) -> list[str]:
    """A row for every dense network, in the order in which recipes begin with them."""
    rows: dict[str, str] = {}
    for one in found:
        recipe = recipes[one.recipe]
        if recipe.dense is None:
            continue
        name = f"{recipe.model.network}, {recipe.dense.epochs} epochs"
        cells = (f"{percent(one.values('accuracy', of))} | {one.mean('bytes', of):,.0f}" for of in ("dense_", "int8_"))
        rows.setdefault(name, f"| {name} | {' | '.join(cells)} |")
    return list(rows.values())


def _row(one: Measured) -> str:
    against = one.against("plain_")
    cells = [
        f"[{one.recipe}](../../recipes/methods/{one.recipe}.toml)",
        str(len(one.lines)),
        percent(one.values("accuracy")),
        f"{one.mean('bytes'):,.0f}",
        f"{100 * one.mean('zeros'):.1f}",
        f"{one.mean('epochs'):.0f}",
        one.plain,
        percent(one.values("accuracy", "plain_")),
        points(against),
        verdict(against),
    ]
    return f"| {' | '.join(cells)} |\n"


def in_short(one: Measured) -> str:
    """A recipe in a cell: accuracy, and the difference from its baseline."""
    against = one.against("plain_")
    return f"{percent(one.values('accuracy'))} %; against *{one.plain}* {points(against)}: {verdict(against)}"


def same_goal(found: Mapping[str, Measured]) -> str:
    """The tables of recipes with the same goal, each compared with the first of them, and with its own plain baseline."""
    text = []
    for goal, names in SAME_GOAL.items():
        if not found.keys() & set(names):
            continue
        rows = [f"**{goal}**", "", f"| recipe | accuracy, % | against {names[0]}, points | | against its baseline, points | |"]
        rows.append("|---|---|---|---|---|---|")
        for one in (found[name] for name in names if name in found):
            against = one.against_recipe(found[names[0]]) if one.recipe != names[0] and names[0] in found else {}
            first = f"{points(against)} | {verdict(against)}" if against else "– | "
            plain = one.against("plain_")
            cells = (
                f"[{one.recipe}](../recipes/methods/{one.recipe}.toml)",
                percent(one.values("accuracy")),
                first,
                points(plain),
            )
            rows.append(f"| {' | '.join(cells)} | {verdict(plain)} |")
        text.append("\n".join(rows))
    return "\n\n".join(text)


def with_measured(table: str, found: Mapping[str, Measured]) -> str:
    """The table with its last column filled with what was measured of the recipes that each row names."""
    rows = []
    for row in table.strip().splitlines():
        cells = row.strip("| ").split(" | ")
        named = re.findall(r"\(\.\./recipes/methods/([a-z0-9-]+)\.toml\)", cells[1]) if len(cells) > 2 else []
        if named:
            texts = {name: in_short(found[name]) if name in found else "not run yet" for name in named}
            last = " <br> ".join(f"{name}: {text}" if len(named) > 1 else text for name, text in texts.items())
            row = f"| {' | '.join((*cells[:3], last))} |"
        rows.append(row)
    return "\n".join(rows)


def which(text: str, lines: Sequence[Line]) -> str:
    """docs/which-recipe.md with its measured columns and the tables of equal goals."""
    found = by_recipe(lines)
    for name in ("goals", "combinations"):
        begin, end = markers(f"the last column of {name}")
        if text.count(begin) == 1 == text.count(end):
            text = with_part(text, begin, end, with_measured(text.split(begin)[1].split(end)[0], found))
    return with_part(text, *markers("equal goals"), same_goal(found))


def markers(what: str) -> tuple[str, str]:
    """The two comments around a generated part."""
    return f"<!-- {what}: python benchmarks/recipes_page.py -->", f"<!-- end of {what} -->"


def known() -> dict[str, Recipe]:
    """The recipes as they are now."""
    return {path.stem: read_recipe(path) for path in sorted(RECIPES.glob("*.toml"))}


if __name__ == "__main__":
    stored = read(LINES)
    PAGE.write_text(page(stored, known(), read(AGAIN)), encoding="utf-8")
    WHICH.write_text(which(WHICH.read_text(encoding="utf-8"), stored), encoding="utf-8")
