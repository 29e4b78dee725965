"""A number format of your own: ``python examples/own_grid.py``.

The grid of a weight says which values it may have: integers times a scale for each output channel. A grid is an ``nn.Module``
with the members of ``paretrim.WeightGrid``; ``paretrim.PlainGrid`` has the optional ones. A recipe names it:
``formats = { "layer*" = { grid = "own_grid:BinaryWeights" } }``. This one is the binary weights of Rastegari et al. 2016
(XNOR-Net, arXiv 1603.05279, section 3.1): -1 and 1 times the mean magnitude of the channel. The program compares it with 8 bits.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from paretrim import (
    Budget,
    Candidate,
    Format,
    PlainGrid,
    Quantize,
    WeightSettings,
    read_recipe,
    run_stage,
    start_from,
    straight_through,
    train_dense,
)

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"
SMALLEST = 1e-30
"""A scale must be above 0, even that of a channel of zeros."""


class BinaryWeights(nn.Module, PlainGrid):
    """``sign(w)`` times the mean of ``|w|`` over the weights of the channel that are not 0. Pruned weights stay 0."""

    widths: ClassVar[range] = range(2, 3)  # with the 0 of pruned weights, there are three values
    bits: int = 2

    @classmethod
    def fitted(cls, _weight: Tensor, _settings: WeightSettings) -> Self:
        """Everything follows from the weight."""
        return cls()

    @classmethod
    def restored(cls, _facts: Mapping[str, object], _weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """The same when a candidate is read from disk."""
        return cls()

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; exactly the integers times their scales, since that is what ships."""
        integers, scale = self.integers(weight)
        return straight_through(weight, integers * scale.reshape(-1, *[1] * (weight.dim() - 1)))

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 and their scales [Co] float32."""
        weight = weight.detach()
        rows = weight.flatten(1).abs()
        scale = rows.sum(1) / (rows > 0).sum(1).clamp_min(1)
        return weight.sign().to(torch.int8), scale.clamp_min(SMALLEST)

    def rows(self, _outputs: Tensor, _inputs: Tensor) -> Self:
        """The same for all channels."""
        return type(self)()

    def facts(self) -> dict[str, object]:
        """The name by which a candidate finds this class."""
        return {"grid": f"{Path(__file__).stem}:BinaryWeights"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the dense network and of every stage (default: 5)")
    parser.add_argument("--folder", type=Path, default=Path("runs/own-grid"))
    arguments = parser.parse_args()

    start, _ = start_from(read_recipe(RECIPE))
    start = train_dense(start, Budget(epochs=arguments.epochs, learning_rate=0.1), arguments.folder)
    budget = Budget(epochs=arguments.epochs, learning_rate=0.01)
    for name, form in (("8 bits", Format(bits=8)), ("binary", Format(grid=f"{Path(__file__).stem}:BinaryWeights"))):
        outcome = run_stage(Candidate(start.network), Quantize(formats={"layer*": form}, budget=budget), start.resources(None))
        done = outcome.history[-1]
        print(f"{name}: {done.value_before:.1%} -> {done.value_after:.1%} of the validation images")


if __name__ == "__main__":
    main()
