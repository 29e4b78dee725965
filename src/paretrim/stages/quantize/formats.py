"""The number format of every layer: by the names of layers, with wildcards."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from paretrim.errors import InvalidRecipe
from paretrim.train.budget import STRICT

Bits = Annotated[int, Field(ge=2, le=8, strict=True)]


@dataclass(frozen=True, config=STRICT)
class Format:
    """How the weights of a layer are stored.

    ``uniform``: evenly spaced integers of ``bits`` bits, 2 to 8. ``ternary``: -1, 0 and 1
    (Li & Liu 2016), whatever ``bits`` says.
    """

    bits: Bits = 8
    grid: Literal["uniform", "ternary"] = "uniform"


def formats_of(names: Sequence[str], wanted: Mapping[str, Format], usual: Format) -> dict[str, Format]:
    """The format of every layer.

    A name says more than a pattern (``layer1.*``, as in a shell), a longer pattern more than a shorter one.

    Args:
        names: of all layers.
        wanted: formats by name or pattern.
        usual: of layers that none of them matches.

    Raises:
        InvalidRecipe: a pattern matches no layer, or a layer matches two of equal length that say different things.
    """
    found = dict.fromkeys(names, usual)
    for pattern in wanted:
        if not any(_matches(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
            raise InvalidRecipe(
                f"quantize: formats names '{pattern}' and no layer is called so; layers are {', '.join(near)}, ..."
            )
    for name in names:
        matching = sorted((pattern for pattern in wanted if _matches(name, pattern)), key=lambda one: (one == name, len(one)))
        if not matching:
            continue
        best, rivals = matching[-1], [one for one in matching[:-1] if one != name and len(one) == len(matching[-1])]
        if best != name and any(wanted[one] != wanted[best] for one in rivals):
            raise InvalidRecipe(
                f"quantize: layer '{name}' matches '{rivals[0]}' and '{best}' of formats, which differ; name the layer"
            )
        found[name] = wanted[best]
    return found


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)
