"""Number formats by name, and how a file names them.

To add one: a module whose class is a :class:`paretrim.network.grids.WeightGrid` or ``ActivationGrid``, and the class in a table
here. Recipes may then name it, stages make it and files hold it; a test runs the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from paretrim.errors import CorruptFile, InvalidRecipe
from paretrim.method import Method
from paretrim.network.clipped import ClippedActivations
from paretrim.network.clipped_means import ClippedMeans
from paretrim.network.codebook import Codebook
from paretrim.network.dorefa import DoReFaWeights
from paretrim.network.float_weights import TYPES, Float32Weights, FloatWeights
from paretrim.network.grids import ActivationGrid, Facts, Grid, Scales, WeightGrid, WeightSettings
from paretrim.network.grouped import GroupedWeights
from paretrim.network.offset import OffsetActivations
from paretrim.network.powers import PowersOfTwo
from paretrim.network.ternary import TernaryWeights
from paretrim.network.trained_ternary import TrainedTernaryWeights
from paretrim.network.uniform import ActivationQuantizer, WeightQuantizer
from paretrim.own_code import described, imported
from paretrim.visible import brief

GridKind = TypeVar("GridKind")

UNIFORM = "uniform"
"""The grid of facts that name none: it was the only one when candidates were first stored."""

GROUPED = "grouped"
"""The grid whose steps are by groups of input channels."""

WEIGHT_GRIDS: Mapping[str, type[WeightGrid]] = {
    UNIFORM: WeightQuantizer,
    "ternary": TernaryWeights,
    "dorefa": DoReFaWeights,
    "codebook": Codebook,
    "powers": PowersOfTwo,
    "clip-q": ClippedMeans,
    "trained-ternary": TrainedTernaryWeights,
    GROUPED: GroupedWeights,
}
"""Grids of weights by the name that recipes and their facts give them."""

FLOAT_WEIGHTS: Mapping[str, type[WeightGrid]] = {**dict.fromkeys(TYPES, FloatWeights), "float32": Float32Weights}
"""Formats of weights that have no integers. Such a layer computes in float32, in a float network or beside layers of integers."""

_WEIGHTS = {**WEIGHT_GRIDS, **FLOAT_WEIGHTS}

ACTIVATION_GRIDS: Mapping[str, type[ActivationGrid]] = {
    UNIFORM: ActivationQuantizer,
    "clipped": ClippedActivations,
    "offset": OffsetActivations,
}
"""The same for activations."""

METHODS = (
    Method(
        name=UNIFORM,
        kind="weight grid",
        source="Krishnamoorthi 2018, arXiv 1806.08342",
        what="evenly spaced integers of 2 to 8 bits, symmetric, one scale for each output channel",
        formula="q = clip(round(w / s), -top, top), w' = s q; top = 2^(bits - 1) - 1",
        recipe="qat",
        settings=("quantize.weight_bits", "quantize.formats"),
    ),
    Method(
        name=UNIFORM,
        kind="activation grid",
        source="Jacob et al. 2018, arXiv 1712.05877",
        what="uint8 with one scale and zero point for each tensor, of 2 to 8 bits",
        formula="q = clip(round(x / s) + z, 0, 2^bits - 1), x' = s (q - z)",
        recipe="qat",
        settings=("quantize.activations", "quantize.activation_bits"),
    ),
)


_BEYOND = 3
"""Levels on both sides of a grid at which one of the user's own is tried."""

_OWN: dict[str, type] = {}
"""User-defined grids that settings have named. Reading a file never imports code: a grid that it names must be here already."""


def weight_grid_named(name: str) -> type[WeightGrid]:
    """The grid of weights of the table, or the user's own as ``package.module:Class``.

    Raises:
        InvalidRecipe: there is none of this name.
    """
    return _WEIGHTS[name] if name in _WEIGHTS else _own(name, _WEIGHTS, "formats: grid", WeightGrid)


def activation_grid_named(name: str) -> type[ActivationGrid]:
    """The same for activations.

    Raises:
        InvalidRecipe: there is none of this name.
    """
    return ACTIVATION_GRIDS[name] if name in ACTIVATION_GRIDS else _own(name, ACTIVATION_GRIDS, "activations", ActivationGrid)


def new_weight_grid(name: str, weight: Tensor, settings: WeightSettings) -> WeightGrid:
    """A grid of this name for a weight [Co, ...]; one of the user's own is checked on it.

    Raises:
        InvalidRecipe: there is none of this name, or it lacks members, or trains on other values than its integers stand for.
    """
    grid = weight_grid_named(name).fitted(weight, settings)
    if name not in _WEIGHTS:
        _check_own(name, grid, weight)
    return grid


def _check_own(name: str, grid: WeightGrid, weight: Tensor) -> None:
    place = f"formats: grid {brief(name)}"
    if missing := sorted(_members(WeightGrid) - set(dir(grid))):
        raise InvalidRecipe(f"{place} has no {', '.join(missing)}; add what paretrim.WeightGrid asks for, or inherit PlainGrid")
    if grid.incremental is not None:
        return  # its weights reach the grid while they train
    with torch.no_grad():
        moved, (integers, scale) = grid(weight), grid.integers(weight)
    if integers.dtype != torch.int8 or integers.shape != weight.shape or scale.shape != weight.shape[:1]:
        raise InvalidRecipe(
            f"{place}: integers returns {integers.dtype} {list(integers.shape)} and scales {list(scale.shape)} for a weight "
            f"{list(weight.shape)}; return torch.int8 of the shape of the weight, and a scale for each output channel"
        )
    other = int((moved != integers * scale.reshape(-1, *[1] * (weight.dim() - 1))).sum())
    if other:
        raise InvalidRecipe(
            f"{place}: a call gives other values than its integers times their scales for {other} of {weight.numel()} weights, "
            "so the file would differ from what was trained; return paretrim.straight_through(weight, integers * scale)"
        )
    if bool(integers[weight == 0].any()):
        raise InvalidRecipe(f"{place}: it moves weights that are 0, as pruned ones are; give them the integer 0")


def new_activation_grid(name: str, grid: Grid, scales: Scales) -> ActivationGrid:
    """A grid of this name that begins at a calibrated one; one of the user's own is checked on its levels.

    Raises:
        InvalidRecipe: there is none of this name, or it has another number of bits, or trains on other values than it ships.
    """
    made = activation_grid_named(name).fitted(grid, scales)
    if name not in ACTIVATION_GRIDS:
        _check_own_activations(name, made, grid.bits)
    return made


def _check_own_activations(name: str, made: ActivationGrid, bits: int) -> None:
    place, grid = f"activations {brief(name)}", made.grid()
    if grid.bits != bits:
        raise InvalidRecipe(
            f"{place}: its grid has {grid.bits} bits where {bits} are asked for; give Grid.bits on, or set activation_bits"
        )
    levels = torch.arange(-_BEYOND, grid.top + _BEYOND + 1, dtype=torch.float32)
    with torch.no_grad():
        moved = made(((levels - grid.zero_point) * grid.scale)[None])[0]
    wanted = (levels.clamp(0, grid.top) - grid.zero_point) * grid.scale
    wrong = ~((moved - wanted).abs() <= grid.scale / 4)  # NaN is wrong too
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise InvalidRecipe(
            f"{place}: a call turns {float((levels[at] - grid.zero_point) * grid.scale):.6g} into {float(moved[at]):.6g}, but in "
            f"the file it is {float(wanted[at]):.6g}; round to scale * (q - zero_point) of its grid, with q in 0..top"
        )


def _members(protocol: type) -> set[str]:
    """The public members that a protocol declares."""
    return {member for member in (*vars(protocol), *protocol.__annotations__) if not member.startswith("_")}


def _own(name: str, table: Mapping[str, type[GridKind]], what: str, protocol: type) -> type[GridKind]:
    if ":" not in name:
        known = ", ".join(table)
        raise InvalidRecipe(f"{what} is {brief(name)}; known grids are {known}; for your own write 'package.module:Class'")
    found = imported(name, what)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise InvalidRecipe(f"{what} {brief(name)} is {described(found)}; it must be a class of nn.Module that is a grid")
    instance = {member for member, value in vars(protocol).items() if isinstance(value, property)}  # may be set when one is made
    if missing := sorted(_members(protocol) - instance - set(dir(found))):
        raise InvalidRecipe(f"{what} {brief(name)} has no {', '.join(missing)}; add what paretrim.{protocol.__name__} asks for")
    _OWN[name] = found
    return cast(type[GridKind], found)


def weight_grid(facts: Facts, weight: Tensor, tensors: Mapping[str, Tensor]) -> WeightGrid:
    """The grid with these facts on ``weight`` [Co, ...]; ``tensors`` are its own, by their names in it.

    Raises:
        CorruptFile: there is no grid of this name.
        KeyError, TypeError, ValueError: facts or tensors do not fit.
    """
    known = facts if isinstance(facts, Mapping) else {"grid": facts}
    return _named(_WEIGHTS, known).restored(known, weight, tensors)


def activation_grid(facts: Facts) -> ActivationGrid:
    """The grid of a value with these facts.

    Raises:
        CorruptFile: there is no grid of this name.
        KeyError, ValueError: facts do not fit.
    """
    known = facts if isinstance(facts, Mapping) else {"scales": facts}
    return _named(ACTIVATION_GRIDS, known).restored(known)


def _named(table: Mapping[str, GridKind], facts: Mapping[str, object]) -> GridKind:
    name = str(facts.get("grid", UNIFORM))
    if name in _OWN:
        return cast(GridKind, _OWN[name])
    if name not in table:
        raise CorruptFile(f"its grid is '{name:.100}'; this version knows {', '.join(table)}")
    return table[name]
