"""A loss of your own: ``python examples/own_loss.py``.

A loss is a function of the outputs and features of a network and its teacher for a batch; a stage sums several losses. This one
is a hint (Romero et al. 2015, "FitNets", section 2.2): a student with fewer channels learns to match its teacher's features in
the middle of the network. A 1x1 convolution maps the student's channels to the teacher's. It trains beside the network, is
checkpointed, and does not ship.
"""

import argparse
import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from paretrim import (
    Budget,
    Distill,
    LossTerm,
    Network,
    Outputs,
    Prune,
    Resources,
    Stage,
    Step,
    Training,
    cross_entropy,
    read_recipe,
    run_stages,
    start_from,
    train_dense,
)

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"


@dataclass(frozen=True)
class Hint:
    """Cross-entropy with the labels, and the squared distance to the teacher behind the module ``at``."""

    name: ClassVar[str] = "hint"
    at: str = "layer2"
    weight: float = 1.0
    budget: Budget = field(default_factory=Budget)

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A copy, and the convolution from the student's to the teacher's channels."""
        channels = network.shape_at(self.at)[0]
        assert resources.teacher is not None
        wanted = resources.teacher.shape_at(self.at)[0]
        return Training(copy.deepcopy(network), resources, nn.ModuleDict({"projection": nn.Conv2d(channels, wanted, 1)}))

    def advance(self, training: Training, progress: float, /) -> None:
        """Do nothing: nothing depends on progress."""

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """The labels, and the hint."""
        hint = LossTerm(self._distance, self.weight, features=(self.at,), teacher_features=(self.at,))
        return cross_entropy(self.budget.label_smoothing), hint

    def _distance(self, outputs: Outputs) -> Tensor:
        projected: Tensor = outputs.extra["projection"](outputs.features[self.at])
        return (projected.float() - outputs.teacher_features[self.at]).square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the dense network and of every stage (default: 5)")
    parser.add_argument("--folder", type=Path, default=Path("runs/own-loss"))
    arguments = parser.parse_args()

    start, _ = start_from(read_recipe(RECIPE))
    start = train_dense(start, Budget(epochs=arguments.epochs, learning_rate=0.1), arguments.folder)
    budget = Budget(epochs=arguments.epochs, learning_rate=0.05)
    narrow = Prune(pattern="channel", sparsity=0.5, budget=Budget(epochs=0))
    teaching: tuple[Stage, ...] = (Hint(budget=budget), Distill(budget=budget))
    for stage in teaching:
        outcome = run_stages(start, (narrow, stage), arguments.folder)[-1].history[-1]
        print(f"{stage.name}: {outcome.value_before:.1%} -> {outcome.value_after:.1%} of the validation images")


if __name__ == "__main__":
    main()
