"""Layers by name or pattern, as settings of stages name them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from paretrim.errors import InvalidRecipe

_FEW = 6
"""Number of layer names that fit into a message."""


def matches(name: str, pattern: str) -> bool:
    """Whether a layer has this name, or a name of this pattern (``layer1.*``, as in a shell)."""
    return name == pattern or fnmatchcase(name, pattern)


def require_match(names: Sequence[str], pattern: str, setting: str) -> None:
    """Raise InvalidRecipe unless a layer matches; ``setting`` says where the pattern stands, such as ``prune: ignore``."""
    if not any(matches(name, pattern) for name in names):
        raise InvalidRecipe(f"{setting} names '{pattern}', but there is no such layer; {_some(names, pattern)}")


def _some(names: Sequence[str], wanted: str) -> str:
    """All names if there are few, else those most similar to ``wanted``."""
    if len(names) <= _FEW:
        return f"layers are {', '.join(names)}"
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.3) or names[:3]
    return f"the network has {len(names)} layers, among them {', '.join(near)}"
