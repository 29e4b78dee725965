"""A score of your own: ``python examples/own_score.py``.

A score says how much every weight matters; pruning removes the weights with the smallest scores. It is a function of the network
and the stage's resources (such as calibration images with labels) that returns a tensor for every layer. A recipe names it:
``score = "own_score:by_connection_sensitivity"``. This one is SNIP (Lee et al. 2019, arXiv 1810.02340): the first-order effect of
a weight on the loss, from summed gradients. The program compares it with magnitude and with random pruning.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from paretrim import (
    Budget,
    Candidate,
    Network,
    Prune,
    Resources,
    calibration_gradients,
    read_recipe,
    run_stage,
    start_from,
    train_dense,
    weighted_layers,
)

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"


def by_connection_sensitivity(network: Network, resources: Resources) -> Mapping[str, Tensor]:
    """``|w dL/dw|`` of the mean loss on calibration images."""
    layers = weighted_layers(network)
    total = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    for gradients in calibration_gradients(network, resources):
        for name, gradient in gradients.items():
            total[name] += gradient
    return {name: (layer.weight.detach() * total[name]).abs() for name, layer in layers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the dense network and of every stage (default: 5)")
    parser.add_argument("--folder", type=Path, default=Path("runs/own-score"))
    arguments = parser.parse_args()

    start, _ = start_from(read_recipe(RECIPE))
    start = train_dense(start, Budget(epochs=arguments.epochs, learning_rate=0.1), arguments.folder)
    for score in ("magnitude", f"{Path(__file__).stem}:by_connection_sensitivity", "random"):
        stage = Prune(sparsity=0.9, score=score, budget=Budget(epochs=arguments.epochs, learning_rate=0.05))
        outcome = run_stage(Candidate(start.network), stage, start.resources(None)).history[-1]
        accuracy = f"{outcome.value_before:.1%} -> {outcome.value_after:.1%}"
        print(f"{score}: {outcome.sparsity:.1%} zeros, {accuracy} of the validation images")


if __name__ == "__main__":
    main()
