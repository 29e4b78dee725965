"""Options that a command was given and would not heed: they are refused, for nobody gives one to no effect."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from paretrim.cli.arguments import DENSE_RATE
from paretrim.cli.parser import build_parser
from paretrim.errors import InvalidRecipe

_ALWAYS = ("command", "json")

WITH_A_RECIPE = ("recipe", "folder", "seed", "device", "effort", "threads", "runtimes")
"""What a recipe leaves open."""

BY_THE_RECIPE = "the recipe says it; change it there, or name --model and --data instead of a recipe"

OF_COMPRESSION = frozenset({"epochs", "learning_rate", "candidates", "max_drop", "max_latency_ms", "max_bytes"})
"""What says how a network is compressed and when that is good enough."""


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


def dense_rate(parsed: argparse.Namespace) -> float:
    """The learning rate of the dense network that is trained.

    Raises:
        InvalidRecipe: one is given, and no dense network is trained.
    """
    given: float | None = parsed.dense_learning_rate
    if given is not None and not parsed.dense_epochs:
        raise InvalidRecipe("--dense-learning-rate would have no effect: no dense network is trained; add --dense-epochs")
    return DENSE_RATE if given is None else given
