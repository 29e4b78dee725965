"""The description of a method; ``paretrim methods`` and the pages in ``docs/methods`` are made from it."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "Paretrim"
"""The source of a method that is not published elsewhere."""


@dataclass(frozen=True)
class Method:
    """One method. A module that registers methods lists them in its ``METHODS``.

    Attributes:
        name: what a recipe calls it; no two methods of one kind share it.
        kind: one of ``paretrim.cli.methods.KINDS``, which says how a recipe chooses it.
        source: paper, year and arXiv number or venue; :data:`OURS` where there is none.
        what: one line in plain words, without a full stop.
        formula: what is computed, as text with fixed width; several lines are fine.
        recipe: the stem of a file in ``recipes/methods``; empty where no recipe chooses it.
        settings: settings that matter to it, as ``stage.setting``; their defaults are read from the stage.
    """

    name: str
    kind: str
    source: str
    what: str
    formula: str
    recipe: str
    settings: tuple[str, ...] = ()
