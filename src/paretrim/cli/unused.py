"""Refuses options that would have no effect."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from paretrim.cli.arguments import DENSE_RATE
from paretrim.cli.parser import build_parser
from paretrim.errors import InvalidRecipe

_ALWAYS = ("command", "json")

_LEAST = {"compress": ("--model", "a network", "--data", "a name")}
"""What a command needs at least, where that is not a file."""

WITH_A_RECIPE = ("recipe", "folder", "seed", "device", "effort", "threads", "runtimes")
"""Options that may be combined with a recipe."""

BY_THE_RECIPE = "the recipe sets it; change it there, or use --model and --data instead of a recipe"

OF_COMPRESSION = frozenset({"epochs", "learning_rate", "candidates", "max_drop", "max_latency_ms", "max_bytes"})
"""Options about how a network is compressed, and the targets."""


def refuse_unused(parsed: argparse.Namespace, used: Collection[str], reason: str) -> None:
    """Reject every option that is neither used nor at its default.

    Raises:
        InvalidRecipe: there are such options; the message names them and gives ``reason``.
    """
    least = [parsed.command, *_LEAST.get(parsed.command, ("a file",))]
    defaults = vars(build_parser(least).parse_args(least))
    kept = {*_ALWAYS, *used}
    unused = [name for name, value in vars(parsed).items() if name not in kept and value != defaults[name]]
    if unused:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise InvalidRecipe(f"{options} would have no effect: {reason}")


def dense_rate(parsed: argparse.Namespace) -> float:
    """The learning rate for training the dense network.

    Raises:
        InvalidRecipe: one is given but no dense network is trained.
    """
    given: float | None = parsed.dense_learning_rate
    if given is not None and not parsed.dense_epochs:
        raise InvalidRecipe("--dense-learning-rate would have no effect: no dense network is trained; add --dense-epochs")
    return DENSE_RATE if given is None else given
