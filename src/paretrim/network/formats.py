"""Number formats by name: which grids there are, and how each is made anew from a file.

To add a grid of weights: a module that is a :class:`paretrim.network.grids.WeightGrid`, a function that makes it from facts and
tensors, and its name in ``WEIGHT_GRIDS``. A test runs the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from paretrim.errors import CorruptFile
from paretrim.network.grids import ActivationGrid, Facts, Grid, WeightGrid
from paretrim.network.ternary import TernaryWeights
from paretrim.network.uniform import ActivationQuantizer, Scales, WeightQuantizer

Restore = TypeVar("Restore")

UNIFORM = "uniform"
"""The grid whose facts name none: it was the only one when candidates were first stored."""

RestoreWeights = Callable[[Mapping[str, object], Tensor, Mapping[str, Tensor]], WeightGrid]
"""From its facts, the weight that it lies on and its tensors by name, as they are in a file."""

RestoreActivation = Callable[[Mapping[str, object]], ActivationGrid]


def _uniform_weights(facts: Mapping[str, object], weight: Tensor, tensors: Mapping[str, Tensor]) -> WeightGrid:
    made = WeightQuantizer(weight, bits=int(str(facts["bits"])), scales=_scales(facts["scales"]))
    made.price = vector(tensors, "price", len(weight))
    made.lengths = vector(tensors, "lengths", made.top + 1)
    return made


def _ternary_weights(_facts: Mapping[str, object], _weight: Tensor, _tensors: Mapping[str, Tensor]) -> WeightGrid:
    return TernaryWeights()


def _uniform_activation(facts: Mapping[str, object]) -> ActivationGrid:
    return ActivationQuantizer(Grid(1.0, 0), scales=_scales(facts["scales"]))


WEIGHT_GRIDS: Mapping[str, RestoreWeights] = {UNIFORM: _uniform_weights, "ternary": _ternary_weights}
"""Grids of weights by the name that their facts give them."""

ACTIVATION_GRIDS: Mapping[str, RestoreActivation] = {UNIFORM: _uniform_activation}
"""The same for activations."""


def weight_grid(facts: Facts, weight: Tensor, tensors: Mapping[str, Tensor]) -> WeightGrid:
    """The grid with these facts on ``weight`` [Co, ...]; ``tensors`` are its own, by their names in it.

    Raises:
        CorruptFile: there is no grid of this name.
        KeyError, TypeError, ValueError: facts or tensors do not fit.
    """
    known = facts if isinstance(facts, Mapping) else {"grid": facts}
    return _named(WEIGHT_GRIDS, known)(known, weight, tensors)


def activation_grid(facts: Facts) -> ActivationGrid:
    """The grid of a value with these facts.

    Raises:
        CorruptFile: there is no grid of this name.
        KeyError, ValueError: facts do not fit.
    """
    known = facts if isinstance(facts, Mapping) else {"scales": facts}
    return _named(ACTIVATION_GRIDS, known)(known)


def vector(tensors: Mapping[str, Tensor], key: str, count: int) -> Tensor | None:
    """So many float32 under ``key``, if there are any.

    Raises:
        ValueError: it is of another type or length.
    """
    found = typed(tensors, key, torch.float32)
    if found is not None and found.shape != (count,):
        raise ValueError(f"'{key}' has shape {tuple(found.shape)} and must have {(count,)}")
    return found


def typed(tensors: Mapping[str, Tensor], key: str, dtype: torch.dtype) -> Tensor | None:
    """The tensor under ``key``, if there is one; of another type it would be calculated with in another way.

    Raises:
        ValueError: it is of another type.
    """
    found = tensors.get(key)
    if found is not None and found.dtype is not dtype:
        raise ValueError(f"'{key}' is {found.dtype} and must be {dtype}")
    return found


def _named(table: Mapping[str, Restore], facts: Mapping[str, object]) -> Restore:
    name = str(facts.get("grid", UNIFORM))
    if name not in table:
        raise CorruptFile(f"its grid is '{name:.100}'; this version knows {', '.join(table)}")
    return table[name]


def _scales(value: object) -> Scales:
    if value not in ("learned", "observed"):
        raise ValueError(f"scales are {value!r} and must be learned or observed")
    return value
