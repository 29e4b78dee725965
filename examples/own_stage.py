"""A stage of your own: ``python examples/own_stage.py``.

A stage is a frozen dataclass with the members of ``paretrim.Stage``; it inherits from nothing and is not registered.
This one prunes at random: the baseline that every pruning criterion should beat.
"""

import argparse
import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch

from paretrim import (
    Budget,
    Candidate,
    LossTerm,
    Network,
    Prune,
    Resources,
    Stage,
    Step,
    Training,
    read_recipe,
    run_stage,
    set_mask_,
    start_from,
    train_dense,
    weighted_layers,
)

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"


@dataclass(frozen=True)
class PruneAtRandom:
    """Set a random share of every layer's weights to zero, including the first and the last layer."""

    name: ClassVar[str] = "prune_at_random"
    sparsity: float = 0.8
    budget: Budget = field(default_factory=Budget)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy with masks; the given network is not changed."""
        private = copy.deepcopy(network)
        random = torch.Generator().manual_seed(resources.seed)
        for layer in weighted_layers(private).values():
            mask = torch.rand(layer.weight.shape, generator=random) >= self.sparsity
            set_mask_(layer, mask if layer.mask is None else mask & layer.mask.cpu())
        return Training(private, resources)

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: nothing depends on progress."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the dense network and of every stage (default: 5)")
    parser.add_argument("--folder", type=Path, default=Path("runs/own-stage"))
    arguments = parser.parse_args()

    start, _ = start_from(read_recipe(RECIPE))
    start = train_dense(start, Budget(epochs=arguments.epochs, learning_rate=0.1), arguments.folder)
    budget = Budget(epochs=arguments.epochs, learning_rate=0.05)
    stages: tuple[Stage, ...] = (PruneAtRandom(budget=budget), Prune(first=True, last=True, budget=budget))
    for stage in stages:
        outcome = run_stage(Candidate(start.network), stage, start.resources(None)).history[-1]
        accuracy = f"{outcome.value_before:.1%} -> {outcome.value_after:.1%}"
        print(f"{stage.name}: {outcome.sparsity:.1%} zeros, {accuracy} of the validation images")


if __name__ == "__main__":
    main()
