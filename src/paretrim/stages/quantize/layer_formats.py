"""The number format of every layer, set by layer names and wildcards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from paretrim.errors import InvalidRecipe
from paretrim.network.formats import GROUPED, UNIFORM, weight_grid_named
from paretrim.network.grids import GROUP
from paretrim.settings import Idle, settings
from paretrim.stages.layer_names import matches, require_match
from paretrim.stored_fields import LATER

Bits = Annotated[int, Field(ge=2, le=8, strict=True)]

Group = Literal[16, 32, 64, 128]
"""Sizes of groups that the writer of files looks for: :data:`paretrim.graph.groups.SIZES`."""


_IDLE = (Idle(("group",), lambda form: form.grid != GROUPED, "the grid '{grid}' has no groups", f"set grid to '{GROUPED}'"),)


@settings(idle=_IDLE)
class Format:
    """How the weights of a layer are stored: the kind of grid, and bits.

    ``uniform``: evenly spaced integers of ``bits`` bits, 2 to 8; by default the stage's ``weight_bits``.
    ``ternary``: -1, 0 and 1 (Li & Liu 2016), in 2 bits.
    ``dorefa``: weights transformed by tanh, then rounded (Zhou et al. 2016), 2 to 7 bits.
    ``codebook``: ``2^bits`` values per layer, initialised by k-means and trained (Han et al. 2016), 2 to 8 bits.
    ``powers``: 0 and powers of two, fixed step by step (INQ, Zhou et al. 2017), 2 to 5 bits.
    ``grouped``: 2 to 6 bits, with a step for each ``group`` of 16, 32, 64 or 128 input channels (Dai et al. 2021).
    ``trained-ternary``: 0, and one trained value of each sign (TTQ, Zhu et al. 2017), in 2 bits.
    ``float16`` and ``bfloat16``: 16-bit floats; ``float32``: no rounding. The layer computes in float32, in a network whose
    ``activations`` are float32 or beside integer layers.
    Your own as ``package.module:Class``, a :class:`paretrim.network.grids.WeightGrid` with this name in its facts.

    Raises:
        InvalidRecipe: there is no such grid, or it does not have this width.
    """

    bits: Bits | None = None
    grid: str = UNIFORM
    group: Group = dataclasses.field(default=GROUP, metadata=LATER)

    def __post_init__(self) -> None:
        widths = weight_grid_named(self.grid).widths
        if self.bits is not None and self.bits not in widths:
            raise InvalidRecipe(f"formats: bits is {self.bits}; for the grid '{self.grid}' it must be {_words(widths)}")

    def width(self, usual: int) -> int:
        """Its bits; ``usual`` is the number for layers without their own format."""
        widths = weight_grid_named(self.grid).widths
        return max(widths[0], min(usual, widths[-1])) if self.bits is None else self.bits


def _words(widths: range) -> str:
    return str(widths[0]) if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"


def formats_of(names: Sequence[str], wanted: Mapping[str, Format], usual: Format) -> dict[str, Format]:
    """The format of every layer.

    A name takes precedence over patterns (``layer1.*``, as in a shell), a longer pattern over a shorter one.

    Args:
        names: of all layers.
        wanted: formats by name or pattern.
        usual: the format of layers that match none of them.

    Raises:
        InvalidRecipe: a pattern matches no layer, or a layer matches two patterns of equal length with different formats.
    """
    found = dict.fromkeys(names, usual)
    for pattern in wanted:
        require_match(names, pattern, "quantize: formats")
    for name in names:
        matching = sorted((pattern for pattern in wanted if matches(name, pattern)), key=lambda one: (one == name, len(one)))
        if not matching:
            continue
        best, rivals = matching[-1], [one for one in matching[:-1] if one != name and len(one) == len(matching[-1])]
        if best != name and any(wanted[one] != wanted[best] for one in rivals):
            raise InvalidRecipe(
                f"quantize: layer '{name}' matches '{rivals[0]}' and '{best}' of formats, which differ; name the layer"
            )
        found[name] = wanted[best]
    return found
