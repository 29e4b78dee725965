"""File size after Deep Compression, and with ``rate`` instead: LeNet-300-100 and LeNet-5 on digits.

    python benchmarks/deep_compression.py --out results/deep-compression.jsonl [--seeds 3] [--networks lenet_300_100,lenet_5]

The stages are those of ``recipes/methods/deep-compression.toml``; LeNet-5 needs fewer epochs. The alternative prunes in the same
way and then trains 8-bit weights with a price of bits (``rate``). ``float_bytes`` is the size of the parameters in float32,
``bytes`` that of the whole ``.trim`` file, whose decisions the accuracy counts. Training is in float32 on the CPU. Existing lines
are kept, and an interrupted run continues in its folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

from paretrim import trimfile
from paretrim.models.spec import ModelSpec
from paretrim.network.freeze import freeze
from paretrim.run.judge import decisions
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import Recipe, read_recipe
from paretrim.run.start import Start, TestSet, start_from
from paretrim.runtime import load
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution

RECIPE = Path(__file__).parent.parent / "recipes" / "methods" / "deep-compression.toml"
EXECUTION = Execution(device="cpu", precision="float32")
RATES = (0.001, 0.003, 0.01)


EPOCHS = {"lenet_5": (30, 10, 10, 5)}
"""Epochs of the dense training and of every stage, where they are not those of the recipe."""


def recipe_for(network: str, seed: int) -> Recipe:
    """The recipe for this network."""
    recipe = replace(read_recipe(RECIPE), model=ModelSpec(network), seed=seed, execution=EXECUTION)
    if network not in EPOCHS:
        return recipe
    assert recipe.dense is not None
    first, *others = EPOCHS[network]
    stages = tuple(
        replace(stage, budget=replace(stage.budget, epochs=epochs)) for stage, epochs in zip(recipe.stages, others, strict=True)
    )
    return replace(recipe, dense=replace(recipe.dense, epochs=first), stages=stages)


def ways(stages: tuple[Stage, ...], network: str) -> dict[str, tuple[Stage, ...]]:
    """The stages of every way to make the file small, by name."""
    *pruning, shared = stages
    assert isinstance(shared, Quantize)
    formats = {"*": Format(grid="codebook", bits=5)}
    if network == "lenet_5":
        formats |= {name: Format(grid="codebook", bits=8) for name in ("conv1", "conv2")}
    found = {"deep compression": (*pruning, replace(shared, formats=formats))}
    return found | {f"pruned, rate {rate:g}": (*pruning, Quantize(budget=shared.budget, rate=rate)) for rate in RATES}


def measured(start: Start, test: TestSet, stages: tuple[Stage, ...], folder: Path) -> dict[str, float]:
    """Accuracy of the ``.trim`` file on test images, and its size."""
    last = run_stages(start, stages, folder)[-1]
    file = folder / "measured.trim"
    file.write_bytes(trimfile.to_bytes(freeze(last.network, start.spec), threads=1))
    right = decisions(load(file, measure=False), test.images) == test.labels
    return {"accuracy": float(right.mean()), "bytes": file.stat().st_size}


def main() -> None:
    """Train, compress in every way and add a line for each that is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", default="lenet_300_100,lenet_5")
    parser.add_argument("--folder", type=Path, default=Path("runs/deep-compression"))
    given = parser.parse_args()
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    keys = ("network", "way", "seed")
    done = {tuple(json.loads(line)[key] for key in keys) for line in lines}
    for name, seed in itertools.product(given.networks.split(","), range(given.seeds)):
        recipe = recipe_for(name, seed)
        start, test = start_from(recipe)
        folder = given.folder / name / str(seed)
        assert recipe.dense is not None
        start = train_dense(start, recipe.dense, folder)
        size = 4 * sum(parameter.numel() for parameter in start.network.parameters())
        dense = evaluate(start.network, test.batches.epoch(0), EXECUTION.torch_device())
        for way, stages in ways(recipe.stages, name).items():
            if (name, way, seed) in done:
                continue
            line = {"network": name, "way": way, "seed": seed, "images": len(test.labels), "float": dense, "float_bytes": size}
            line |= measured(start, test, stages, folder)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
