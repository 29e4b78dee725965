"""How small a file becomes by Deep Compression, and by ``rate`` beside it: LeNet-300-100 and LeNet-5 on digits.

    python benchmarks/deep_compression.py [--seeds 3] [--networks lenet_300_100,lenet_5] [--folder runs/deep-compression] [--json]

The stages are those of ``recipes/methods/deep-compression.toml``. The other way prunes alike and then trains 8-bit weights whose
bits have a price. ``times`` is the size of the parameters in float32 over that of the whole ``.trim`` file. Everything is in
float32 on the CPU. Folders are taken up again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from paretrim import trimfile
from paretrim.data.digits import MEAN, STD
from paretrim.graph.types import InputSpec
from paretrim.models.spec import ModelSpec
from paretrim.network.freeze import freeze
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import read_recipe
from paretrim.run.start import start_from
from paretrim.stages.quantize.formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution

RECIPE = Path(__file__).parent.parent / "recipes" / "methods" / "deep-compression.toml"
EXECUTION = Execution(device="cpu", precision="float32")
RATES = (0.001, 0.003, 0.01)


def ways(stages: tuple[Stage, ...], network: str) -> dict[str, tuple[Stage, ...]]:
    """Every way of making the file small, by what it is called."""
    *pruning, shared = stages
    assert isinstance(shared, Quantize)
    formats = {"*": Format(grid="codebook", bits=5)}
    if network == "lenet_5":
        formats |= {name: Format(grid="codebook", bits=8) for name in ("conv1", "conv2")}
    found = {"deep compression": (*pruning, replace(shared, formats=formats))}
    return found | {f"pruned, rate {rate:g}": (*pruning, Quantize(budget=shared.budget, rate=rate)) for rate in RATES}


def main() -> None:
    """Train, compress in every way and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", default="lenet_300_100,lenet_5")
    parser.add_argument("--folder", type=Path, default=Path("runs/deep-compression"))
    parser.add_argument("--json", action="store_true", help="an object a line")
    given = parser.parse_args()
    for name in given.networks.split(","):
        for seed in range(given.seeds):
            recipe = replace(read_recipe(RECIPE), model=ModelSpec(name), seed=seed, execution=EXECUTION)
            start, test = start_from(recipe)
            folder = given.folder / name / str(seed)
            assert recipe.dense is not None
            start = train_dense(start, recipe.dense, folder)
            device = EXECUTION.torch_device()
            size = 4 * sum(parameter.numel() for parameter in start.network.parameters())
            dense = evaluate(start.network, test.batches.epoch(0), device)
            for way, stages in ways(recipe.stages, name).items():
                last = run_stages(start, stages, folder)[-1]
                written = len(trimfile.to_bytes(freeze(last.network, InputSpec((1, 8, 8), MEAN, STD)), threads=1))
                right = evaluate(last.network, test.batches.epoch(0), device, integers=last.integers)
                facts = {"network": name, "seed": seed, "way": way, "float": dense, "accuracy": right, "bytes": written}
                facts |= {"times": round(size / written, 1), "drop_points": round(100 * (dense - right), 2)}
                print(
                    json.dumps(facts) if given.json else "  ".join(f"{key} {value}" for key, value in facts.items()), flush=True
                )


if __name__ == "__main__":
    main()
