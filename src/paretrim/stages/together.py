"""Several stages at once."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field, SkipValidation
from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.method import OURS, Method
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.selection import Selection
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm, modules_under, with_modules
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training
from paretrim.visible import brief

METHODS = (
    Method(
        name="together",
        kind="stage",
        source=OURS,
        what="several stages in one loop: all their constraints from the first step, one budget, the sum of their losses",
        formula="sum of the losses of the parts",
        recipe="together",
    ),
)


@settings()
class Together:
    """Stages that share one budget: all their constraints from the start, all their schedules, the sum of their losses.

    Use it for simultaneous methods: pruning while distilling, quantization-aware training with a teacher, all three at once. The
    parts begin in the order given. Parts without their own loss train with the losses of the others.

    Raises:
        InvalidRecipe: there are no parts, or a part has its own budget.
    """

    name: ClassVar[str] = "together"
    parts: SkipValidation[tuple[Stage, ...]]
    budget: Budget = Field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.parts:
            raise InvalidRecipe("together: there are no parts; name at least one stage")
        for part in self.parts:
            if isinstance(part, type) or not dataclasses.is_dataclass(part):
                raise InvalidRecipe(
                    f"together: parts holds {brief(part)}; it must hold stages, such as paretrim.Prune(sparsity=0.8)"
                )
            if part.budget != Budget():
                raise InvalidRecipe(
                    f"together: part '{part.name}' has its own budget; remove it: the parts share the budget of 'together'"
                )

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """Add every part's constraints to one copy; each part has its own modules under its number.

        Raises:
            InvalidRecipe: a part that restores pruned weights shares layers with another that masks them, or a part cannot begin.
        """
        _require_own_masks(self.parts, network)
        private, extra, dense_gradients = copy.deepcopy(network), nn.ModuleDict(), False
        for number, part in enumerate(self._bound()):
            begun = part.begin(private, resources)
            private, extra[str(number)] = begun.network, begun.extra
            dense_gradients |= begun.dense_gradients
        return Training(private, resources, extra, dense_gradients)

    def advance(self, training: Training, progress: float, /) -> None:
        """Advance every part."""
        for number, part in enumerate(self._bound()):
            part.advance(dataclasses.replace(training, extra=modules_under(training.extra, str(number))), progress)

    def observe(self, training: Training, step: Step, /) -> None:
        """Let every part see the gradients."""
        for number, part in enumerate(self._bound()):
            part.observe(dataclasses.replace(training, extra=modules_under(training.extra, str(number))), step)

    def losses(self, resources: Resources, /) -> tuple[LossTerm, ...]:
        """The losses of all parts; cross-entropy if there are none."""
        parts = enumerate(self._bound())
        return tuple(with_modules(term, str(number)) for number, part in parts for term in part.losses(resources))

    def _bound(self) -> tuple[Stage, ...]:
        """The parts with the shared budget: a part may read it, as distillation reads the label smoothing."""
        return tuple(dataclasses.replace(part, budget=self.budget) for part in self.parts)


def _single(parts: Sequence[Stage]) -> Iterator[Stage]:
    """The parts, with those of a nested ``together`` in its place."""
    for part in parts:
        yield from _single(part.parts) if isinstance(part, Together) else (part,)


def _require_own_masks(parts: Sequence[Stage], network: Network) -> None:
    """Refuse parts of which one restores what another prunes: neither would reach its sparsity."""
    masking = [part for part in _single(parts) if isinstance(part, Selection) and part.pattern != CHANNEL]
    for one, other in itertools.combinations(masking, 2):
        shared = one.layers_of(network).keys() & other.layers_of(network).keys()
        if shared and (one.masks_grow or other.masks_grow):
            raise InvalidRecipe(
                f"together: {one.name} and {other.name} both make the masks of layer '{min(shared)}', and one of them restores "
                "what the other prunes; leave one out, give them different layers, or put one in a stage after the other"
            )


def stage_label(stage: Stage) -> str:
    """The stage's name; for a ``together`` stage the names of its parts, joined by ``+``."""
    return "+".join(stage_label(part) for part in stage.parts) if isinstance(stage, Together) else stage.name
