"""Lets other stages make masks, and choose layers, as :class:`Prune` does."""

from __future__ import annotations

from paretrim.stages.prune.stage import Prune

_SHARED = ("sparsity", "pattern", "allocation", "score", "first", "last", "depthwise")


def prune_of(stage: object) -> Prune:
    """A :class:`Prune` with the settings that a stage has in common with it.

    Raises:
        InvalidRecipe: as for :class:`Prune`.
    """
    return Prune(**{name: getattr(stage, name) for name in _SHARED if hasattr(stage, name)})
