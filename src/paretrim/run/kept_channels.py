"""Channels that pruning leaves although its sparsity asks for their removal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from paretrim.graph.channels import channel_groups
from paretrim.network.network import Network
from paretrim.stages.prune.stage import Prune
from paretrim.stages.stage import Stage
from paretrim.stages.together import Together

MISSED = 0.5
"""With ``multiple_of`` a warning is due below this part of the share that was asked for; without it, beyond rounding."""


def said_of_kept_channels(stages: Sequence[Stage], networks: Sequence[Network]) -> tuple[str, ...]:
    """A warning for every stage that removes clearly fewer channels than its sparsity says.

    ``networks`` are those before, between and after the stages.
    """
    pairs = itertools.pairwise(networks)
    said = (_said(stage, before, after) for stage, (before, after) in zip(stages, pairs, strict=True))
    return tuple(warning for warning in said if warning)


def _said(stage: Stage, before: Network, after: Network) -> str:
    """The warning about one stage, "" if there is none; ``layers`` and ``ignore`` choose a share of their own, so none then."""
    asked = next((one for one in _parts(stage) if isinstance(one, Prune) and one.pattern == "channel"), None)
    if asked is None or asked.layers or asked.ignore:
        return ""
    sets = channel_groups(before.graph()).sets
    total = sum(map(len, sets))
    removed = total - sum(map(len, channel_groups(after.graph()).sets))
    least = asked.sparsity * total - len(sets) / 2 if asked.multiple_of == 1 else MISSED * asked.sparsity * total
    if asked.sparsity == 0 or (removed > 0 and removed >= least):
        return ""
    rounded = "" if asked.multiple_of == 1 else f" and multiple_of ({asked.multiple_of}) rounds the remaining ones up"
    return (
        f"warning: {stage.name} removes {removed} of {total} channels ({100 * removed / total:.3g} %), but its sparsity is "
        f"{asked.sparsity:g}: channels that depend on each other go together, every set of them keeps at least one{rounded}; "
        "choose a sparsity that the network can reach"
    )


def _parts(stage: Stage) -> tuple[Stage, ...]:
    return stage.parts if isinstance(stage, Together) else (stage,)
