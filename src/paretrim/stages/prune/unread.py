"""When nothing reads a setting of a pruning stage, so that one that is given is refused."""

from __future__ import annotations

from paretrim.settings import Idle
from paretrim.stages.prune.patterns import CHANNEL, parse_pattern

FIXED_SCORES = ("magnitude", "random")
"""Scores that remain the same while a network is pruned in rounds."""


def is_grouped(pattern: str) -> bool:
    """Whether a pattern is n:m, which sets the sparsity of every layer."""
    return pattern != CHANNEL and parse_pattern(pattern).fixed


def untrained(*names: str) -> Idle:
    """Settings that only training reads."""
    return Idle(
        names,
        lambda stage: stage.budget.epochs == 0,
        "the budget has 0 epochs, so that nothing is trained",
        "give it epochs",
        in_code=False,
    )


OF_GROUPS = Idle(
    ("allocation",),
    lambda stage: is_grouped(stage.pattern),
    "pattern {pattern} sets the sparsity of every layer",
    "set pattern to unstructured or 1x4",
)

OF_PRUNE = (
    OF_GROUPS,
    Idle(
        ("multiple_of",),
        lambda stage: stage.pattern != CHANNEL,
        "pattern {pattern} removes no channels",
        "set pattern to channel",
    ),
    Idle(
        ("first", "last", "depthwise"),
        lambda stage: stage.pattern == CHANNEL,
        "only layers and ignore select the channels that may go",
        "set ignore",
    ),
    Idle(
        ("start", "end"),
        lambda stage: stage.schedule == "one_shot",
        "schedule is one_shot, which prunes before training",
        "set schedule to cubic",
    ),
    Idle(
        ("rounds",),
        lambda stage: stage.score in FIXED_SCORES and stage.allocation != "sensitivity",
        "score '{score}' is the same in every round",
        "choose a score of gradients",
    ),
    untrained("start", "end"),
)
