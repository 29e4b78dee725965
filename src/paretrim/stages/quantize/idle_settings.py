"""When nothing reads a setting of the quantize stage, so that one that is given is refused."""

from __future__ import annotations

from collections.abc import Iterable

from paretrim.errors import InvalidRecipe
from paretrim.network.grids import WeightGrid
from paretrim.settings import Idle

FLOAT32 = "float32"
"""Activations that are not quantized."""

OF_QUANTIZE = (
    Idle(
        ("percentile",),
        lambda stage: "percentile" not in (stage.calibrator, stage.weight_calibrator),
        "only 'percentile' reads it",
        "set calibrator or weight_calibrator to 'percentile'",
    ),
    Idle(("smoothing",), lambda stage: "smooth" not in stage.adjust, "only 'smooth' reads it", "set adjust to 'smooth'"),
    Idle(
        ("rounding_steps",),
        lambda stage: "adaround" not in stage.adjust,
        "only 'adaround' reads it",
        "set adjust to 'adaround'",
    ),
    Idle(
        ("activation_bits",),
        lambda stage: stage.activations == FLOAT32,
        "activations is 'float32' and rounds no value",
        "choose a grid of activations",
    ),
    Idle(
        ("calibrator",),
        lambda stage: stage.activations == FLOAT32 and stage.weight_calibrator is not None,
        "activations is 'float32' and weights have weight_calibrator",
        "choose a grid of activations",
    ),
    Idle(
        ("portions",),
        lambda stage: stage.budget.epochs == 0,
        "the budget has 0 epochs, so that all weights are fixed at once",
        "give it epochs",
        in_code=False,
    ),
)


def require_priced(rate: float, grids: Iterable[WeightGrid]) -> None:
    """Refuse a price of bits if no grid has one.

    Raises:
        InvalidRecipe: so it is.
    """
    if rate and all(grid.priced is None for grid in grids):
        raise InvalidRecipe(
            f"quantize: rate is {rate}, but no layer's grid has a price of bits, as 'uniform' has, so it would have no "
            "effect; leave rate at 0, or keep some layers on the grid 'uniform'"
        )


def require_incremental(portions: tuple[float, ...], usual: object, grids: Iterable[WeightGrid]) -> None:
    """Refuse portions other than the usual ones if no grid fixes its weights in portions.

    Raises:
        InvalidRecipe: so it is.
    """
    if portions != usual and all(grid.incremental is None for grid in grids):
        raise InvalidRecipe(
            f"quantize: portions are {list(portions)}, but no layer's grid fixes weights in portions, as 'powers' does, so "
            "they would have no effect; leave portions out, or give some layers the grid 'powers'"
        )
