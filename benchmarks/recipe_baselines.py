"""What each recipe of ``recipes/methods`` is compared with: plain ways to the same goal, on the same dense network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paretrim.run.recipe import Recipe
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.lottery import Lottery
from paretrim.stages.prune.movement import Movement
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import MAGNITUDE, Prune, pruning
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.clipq import ClipQ
from paretrim.stages.quantize.idle_settings import FLOAT32
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.stages.together import Together
from paretrim.train.budget import Budget

UNTAUGHT = "the same, labels only"
UNSMOOTHED = "the same, hard labels"
ONE_SHOT = "global magnitude, one shot"
PRUNED_LATER = "dense training, then magnitude"
SINGLE = "single weights"
DEFAULT = "default quantization"
ONE_AFTER_THE_OTHER = "prune, then default quantization"
UNCOMPENSATED = "magnitude, not compensated"
LONGER, LONGER_8 = "dense, trained on", "dense, trained on, 8 bits"
FLOAT = "dense, float32"

FLOATS = ("float32", "float16", "bfloat16")
"""Formats of layers that compute in floats; the baseline has integers in their place."""
PLAINEST: Calibrator = "minmax"
AFTER = 0.2
"""Share of the epochs that follow pruning, where the baseline of a method that prunes before training prunes after it."""
PRUNING_RATE = 0.05
"""Learning rate after pruning, as in the recipes."""


@dataclass(frozen=True)
class Baseline:
    """The plain baseline of a recipe; ``name`` is what tables call it."""

    name: str
    recipe: Recipe


def parts_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages, with the parts of simultaneous ones in their place."""
    return tuple(part for stage in recipe.stages for part in _parts(stage))


def epochs_of(recipe: Recipe) -> int:
    """Epochs after the dense training."""
    return sum(stage.budget.epochs for stage in recipe.stages)


def in_integers(recipe: Recipe) -> bool:
    """Whether the recipe's file computes in integers."""
    return any(
        isinstance(part, ClipQ) or (isinstance(part, Quantize) and part.activations != FLOAT32) for part in parts_of(recipe)
    )


def dense_of(recipe: Recipe) -> Recipe:
    """The dense network that the recipe begins with; of one that begins untrained, the network trained for its epochs."""
    plain = replace(recipe, stages=(), teacher=None, teachers=())
    return plain if recipe.dense else replace(plain, dense=replace(_last_budget(recipe), epochs=epochs_of(recipe)))


def eight_bits_of(recipe: Recipe) -> Recipe:
    """That network in 8 bits, without training."""
    return replace(dense_of(recipe), stages=(Quantize(budget=Budget(epochs=0)),))


def longer_of(recipe: Recipe) -> Recipe:
    """That network trained on with labels for the recipe's epochs; then in 8 bits without training if the recipe quantizes."""
    more = replace(_last_budget(recipe), epochs=epochs_of(recipe), skip=0.0, label_smoothing=0.0)
    trained = (FineTune(budget=more),) if recipe.dense and more.epochs else ()
    return replace(dense_of(recipe), stages=(*trained, *(eight_bits_of(recipe).stages if in_integers(recipe) else ())))


def baseline_of(recipe: Recipe) -> Baseline:
    """The plain baseline.

    With a teacher: the same stages with labels only. Pruned before training: dense training, then magnitude pruning, in as many
    epochs together. Other pruning: as much by magnitude in one shot, in the same epochs. Quantized: the same bits with default
    settings. If the recipe is itself that plain: the dense network, trained on for as many epochs.
    """
    parts = parts_of(recipe)
    if any(isinstance(part, Distill) for part in parts):
        stages = tuple(one for stage in recipe.stages for one in _untaught(stage))
        return Baseline(UNTAUGHT, replace(recipe, stages=stages, teacher=None, teachers=()))
    if any(stage.budget.label_smoothing for stage in recipe.stages):
        hard = tuple(replace(one, budget=replace(one.budget, label_smoothing=0.0)) for one in recipe.stages)
        return Baseline(UNSMOOTHED, replace(recipe, stages=hard))
    if not recipe.dense:
        return Baseline(PRUNED_LATER, _pruned_later(recipe))
    name, stages = _plainer(recipe.stages)
    if stages != recipe.stages:
        return Baseline(name, replace(recipe, stages=stages))
    if not epochs_of(recipe):
        return Baseline(FLOAT, dense_of(recipe))
    return Baseline(LONGER_8 if in_integers(recipe) else LONGER, longer_of(recipe))


def companions(recipe: Recipe) -> Mapping[str, Recipe]:
    """Every recipe that a line has numbers of beside the recipe's own: ``dense``, ``int8`` and ``plain``."""
    return {"dense": dense_of(recipe), "int8": eight_bits_of(recipe), "plain": baseline_of(recipe).recipe}


def _parts(stage: Stage) -> tuple[Stage, ...]:
    return stage.parts if isinstance(stage, Together) else (stage,)


def _last_budget(recipe: Recipe) -> Budget:
    """The budget of the last stage that trains."""
    return next((stage.budget for stage in reversed(recipe.stages) if stage.budget.epochs), Budget(epochs=0))


def _untaught(stage: Stage) -> Sequence[Stage]:
    """A stage without its distillation; a score that needs a teacher becomes magnitude."""
    kept = [part for part in _parts(stage) if not isinstance(part, Distill)]
    if not kept:
        return (FineTune(budget=stage.budget),)
    kept = [replace(part, score=MAGNITUDE) if isinstance(part, Prune) and part.score == "hkdp" else part for part in kept]
    return (replace(stage, parts=tuple(kept)),) if isinstance(stage, Together) else kept


def _pruned_later(recipe: Recipe) -> Recipe:
    """Dense training, then one-shot magnitude pruning of as much, in as many epochs together."""
    (stage,) = recipe.stages
    after = round(AFTER * stage.budget.epochs)
    cut = replace(_one_shot(stage), budget=Budget(epochs=after, learning_rate=PRUNING_RATE))
    return replace(recipe, dense=replace(stage.budget, epochs=stage.budget.epochs - after), stages=(cut,))


def _plainer(stages: tuple[Stage, ...]) -> tuple[str, tuple[Stage, ...]]:
    """The stages with the method taken out, and what that is called; the same stages if there is none to take out."""
    quantized, pruned = (any(isinstance(stage, kind) for stage in stages) for kind in (Quantize, Prune))
    if isinstance(stages[0], Lottery):
        rounds = [stage for stage in stages if isinstance(stage, Lottery)]
        budget = Budget(epochs=sum(one.budget.epochs for one in rounds), learning_rate=PRUNING_RATE)
        return ONE_SHOT, (Prune(sparsity=round(1 - (1 - rounds[0].share) ** len(rounds), 6), budget=budget),)
    if isinstance(stages[0], ClipQ):
        return ONE_AFTER_THE_OTHER, _one_after_the_other(stages[0])
    if quantized and pruned and not any(stage.budget.epochs for stage in stages):
        return UNCOMPENSATED, tuple(_one_shot(stage) for stage in stages)
    if quantized:
        return DEFAULT, tuple(_default(stage) if isinstance(stage, Quantize) else stage for stage in stages)
    plain = tuple(_one_shot(stage) for stage in stages)
    if plain == stages and pruned:
        return SINGLE, tuple(_single(stage) for stage in plain)
    return ONE_SHOT, plain


def _one_shot(stage: Stage) -> Stage:
    """As much of the same layers pruned by magnitude in one shot; stages that prune nothing, or a learned share, as they are."""
    share = getattr(stage, "sparsity", None)
    if share is None or (isinstance(stage, Movement) and stage.selection == "soft"):
        return stage
    multiple = getattr(stage, "multiple_of", 1)
    selected = stage if isinstance(stage, Selection) else Selection(pattern=getattr(stage, "pattern", CHANNEL))
    return replace(pruning(selected, share), multiple_of=multiple if isinstance(multiple, int) else 1, budget=stage.budget)


def _single(stage: Stage) -> Stage:
    """As many single weights in place of blocks."""
    return replace(stage, pattern=Prune().pattern) if isinstance(stage, Prune) and stage.pattern != CHANNEL else stage


def _one_after_the_other(stage: ClipQ) -> tuple[Stage, ...]:
    half = replace(stage.budget, epochs=stage.budget.epochs // 2)
    formats = {name: Format(bits=rate.bits) for name, rate in (stage.rates or {}).items()}
    rest = replace(half, epochs=stage.budget.epochs - half.epochs)
    return Prune(sparsity=stage.share, budget=half), Quantize(weight_bits=stage.bits, formats=formats or None, budget=rest)


def _default(stage: Quantize) -> Quantize:
    """The same epochs and bits with uniform grids and default settings, and without training from the full range observed."""
    if stage.activations == FLOAT32:
        return stage
    if not stage.budget.epochs and not stage.adjust and not stage.formats:
        return replace(stage, calibrator=PLAINEST)
    bits = stage.weight_bits
    if stage.mixed is not None:
        bits = int(stage.mixed.bits or stage.mixed.choices[0].width(stage.weight_bits))
    formats = {name: Format(bits=form.width(bits)) for name, form in (stage.formats or {}).items() if form.grid not in FLOATS}
    plain = Quantize(budget=stage.budget, weight_bits=bits, formats=formats or None)
    return replace(plain, formats=None) if plain == stage else plain
