"""Options that a command was given and would not heed: they are refused, for nobody gives one to no effect."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from paretrim.cli.parser import build_parser
from paretrim.errors import InvalidRecipe

_ALWAYS = ("command", "json")

WITH_A_RECIPE = ("recipe", "folder", "seed", "device", "effort", "threads", "runtimes")
"""What a recipe leaves open."""

BY_THE_RECIPE = "the recipe says it; change it there, or name --model and --data instead of a recipe"


def refuse_unheeded(parsed: argparse.Namespace, heeded: Collection[str], reason: str) -> None:
    """Refuse every option that is neither among those heeded nor at its default.

    Raises:
        InvalidRecipe: there are some; the message names them and says ``reason``.
    """
    defaults = vars(build_parser().parse_args([parsed.command, "a file"]))
    kept = {*_ALWAYS, *heeded}
    unheeded = [name for name, value in vars(parsed).items() if name not in kept and value != defaults[name]]
    if unheeded:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in unheeded)
        raise InvalidRecipe(f"{options} would have no effect: {reason}")
