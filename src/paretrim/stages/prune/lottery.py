"""Lottery tickets: one round of pruning the trained network, rewinding the remaining weights, and training them again."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field

from paretrim.errors import InvalidRecipe
from paretrim.method import Method
from paretrim.network.constraints import hold_masks_, weighted_layers
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.prune.allocation import Allocation
from paretrim.stages.prune.patterns import CHANNEL, block_alive, parse_pattern
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import MAGNITUDE, Prune, pruning
from paretrim.stages.stage import Stage
from paretrim.stages.together import Together
from paretrim.train.budget import Budget, Count, Fraction
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="lottery",
        kind="stage",
        source=(
            "Frankle & Carbin 2019, arXiv 1803.03635; rewinding: Frankle et al. 2020, arXiv 1912.05671, and Renda et al. 2020, "
            "arXiv 2003.02389"
        ),
        what="one round: prune the smallest weights, reset the others to an early epoch, and train again",
        formula="prune share of the remaining weights by |w_T|\nthen w = mask * w_k or mask * w_T, with the same learning rates",
        recipe="lottery",
    ),
)


_IDLE = (
    Idle(
        ("epoch",),
        lambda stage: stage.rewind == "learning_rate",
        "rewind learning_rate does not rewind weights",
        "set skip in the budget",
    ),
)


@settings(idle=_IDLE)
class Lottery(Selection):
    """One round of iterative magnitude pruning: prune ``share`` of the remaining weights or blocks, rewind, and train again.

    ``rewind = "weights"`` resets everything that is left to its value after ``epoch`` epochs of the dense training, including
    BatchNorm and biases. ``"learning_rate"`` keeps the trained values. Both then train with this stage's budget. Set its ``skip``
    to the share of the learning-rate schedule that was over at that epoch, so that the rest of it is repeated. For n rounds,
    write the stage once with ``times = n``: they leave ``(1 - share)^n`` of the weights.

    ``pattern`` (``unstructured`` or ``1x4``), ``allocation``, ``score`` and the choice of layers (``first`` to ``ignore``)
    are those of :class:`Prune`. What an earlier stage pruned stays pruned.

    Sources: Frankle & Carbin 2019, "The lottery ticket hypothesis", arXiv 1803.03635, strategy 1, with 20 % a round and
    ``epoch = 0``; Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis", arXiv 1912.05671 (deeper
    networks have to go back to a later point, such as 3 % of training); Renda et al. 2020, "Comparing rewinding and fine-tuning
    in neural network pruning", arXiv 2003.02389 (learning rates).

    Raises:
        InvalidRecipe: the pattern has no share to prune, or ``prune`` refuses a setting.
    """

    name: ClassVar[str] = "lottery"
    budget: Budget = Field(default_factory=Budget)
    share: Fraction = 0.2
    rewind: Literal["weights", "learning_rate"] = "weights"
    epoch: Count = 0
    allocation: Allocation = "global"
    score: str = MAGNITUDE

    def __post_init__(self) -> None:
        if self.pattern == CHANNEL or parse_pattern(self.pattern).fixed:
            raise InvalidRecipe(
                f"lottery: pattern {self.pattern} cannot be pruned by a share in every round; choose unstructured or 1x4"
            )
        self._prune(0.0)

    def _prune(self, sparsity: float) -> Prune:
        """Makes the masks."""
        return pruning(self, sparsity, allocation=self.allocation, score=self.score)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with fewer weights, rewound as configured.

        Raises:
            InvalidRecipe: the early weights are unknown, or do not fit.
        """
        private = copy.deepcopy(network).to(resources.execution.torch_device())
        prune = self._prune(self._sparsity_of(private))
        prune.mask_(private, prune.sparsity, resources)
        if self.rewind == "weights":
            if resources.early is None:
                raise InvalidRecipe(UNKNOWN)
            rewind_(private, resources.early(self.epoch))
        return Training(private, resources)

    def _sparsity_of(self, network: Network) -> float:
        """The share of zero blocks after this round."""
        pattern = parse_pattern(self.pattern)
        blocks = living = 0
        for layer in self.layers_of(network).values():
            mask = torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask
            alive = block_alive(mask, pattern)
            blocks, living = blocks + alive.numel(), living + int(alive.sum())
        gone = math.ceil(self.share * living - _SLACK)
        return (blocks - living + gone) / blocks

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: nothing depends on progress."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()


UNKNOWN = (
    "lottery: weights are rewound to an epoch of the dense training, but this recipe has no dense training; give it a [dense] "
    'budget, or set rewind = "learning_rate"'
)

_SLACK = 1e-9
"""Rounding error allowed in a share of a count."""


def rewind_(network: Network, early: Network) -> None:
    """Set parameters and statistics to their values in ``early``; masks and their zeros are kept.

    Raises:
        InvalidRecipe: the layers of the network have changed since.
    """
    values = early.state_dict()
    own = {name: tensor for name, tensor in network.state_dict(keep_vars=True).items() if name in values}
    for name, tensor in values.items():
        if name not in own or own[name].shape != tensor.shape:
            raise InvalidRecipe(
                f"lottery: the dense network had '{name}' of shape {tuple(tensor.shape)}, but the network now has "
                + (f"shape {tuple(own[name].shape)}" if name in own else "none")
                + "; rewind before stages that change layers"
            )
    with torch.no_grad():
        for name, tensor in values.items():
            own[name].copy_(tensor)
    hold_masks_(weighted_layers(network).values())


def rewound(stages: Iterable[Stage]) -> Iterator[int]:
    """The epochs of the dense training to which stages rewind."""
    for stage in stages:
        if isinstance(stage, Together):
            yield from rewound(stage.parts)
        elif isinstance(stage, Lottery) and stage.rewind == "weights":
            yield stage.epoch


def require_early(stages: Iterable[Stage], dense: Budget | None) -> None:
    """Reject rewinding to an epoch that the dense training does not have.

    Raises:
        InvalidRecipe: a stage rewinds to an epoch that does not exist.
    """
    for epoch in rewound(stages):
        if dense is None:
            raise InvalidRecipe(UNKNOWN)
        if epoch > dense.epochs:
            raise InvalidRecipe(f"lottery: epoch is {epoch}, but the dense training has {dense.epochs}; name an earlier one")
