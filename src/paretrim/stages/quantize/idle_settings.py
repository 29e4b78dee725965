"""Refuses settings of the quantize stage that nothing would read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from paretrim.errors import InvalidRecipe
from paretrim.network.grids import WeightGrid

READERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "percentile": ("percentile", "calibrator or weight_calibrator"),
        "smoothing": ("smooth", "adjust"),
        "rounding_steps": ("adaround", "adjust"),
    }
)
"""Settings that only one method reads: its name, and the settings that may name it."""


def require_readers(given: Mapping[str, object], usual: Mapping[str, object], chosen: Collection[str | None]) -> None:
    """Refuse a setting of a method that is not among the ``chosen`` ones, unless it has its ``usual`` value.

    Raises:
        InvalidRecipe: there is one.
    """
    for name, (reader, place) in READERS.items():
        if given[name] != usual[name] and reader not in chosen:
            raise InvalidRecipe(
                f"{name} is {given[name]}, but only '{reader}' reads it, so it would have no effect; set {place} to '{reader}', "
                f"or leave {name} out"
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
