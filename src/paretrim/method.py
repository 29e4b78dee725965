"""The description of a method, from which ``paretrim methods`` and the pages in ``docs/methods`` are generated."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "Paretrim"
"""The source of a method that is not published elsewhere."""


@dataclass(frozen=True)
class Method:
    """One method. A module that registers methods lists them in its ``METHODS``.

    Attributes:
        name: its name in recipes, unique within its kind.
        kind: one of ``paretrim.cli.methods.KINDS``, which says how a recipe chooses it.
        source: paper, year and arXiv number or venue; :data:`OURS` if there is none.
        what: one line of description, without a full stop.
        formula: the computation, as fixed-width text; several lines are fine.
        recipe: the stem of a file in ``recipes/methods``; empty if no recipe chooses it.
        settings: settings that matter to it, as ``stage.setting``; their defaults are read from the stage.
    """

    name: str
    kind: str
    source: str
    what: str
    formula: str
    recipe: str
    settings: tuple[str, ...] = ()
