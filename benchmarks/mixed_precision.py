"""Mixed precision at equal bits on a pretrained network, without training: which way to choose the bits keeps most accuracy.

    python benchmarks/mixed_precision.py --network resnet56 --weights FILE --data DIR --out results/mixed-precision.jsonl

Layers get their bits by name (the first and the last 8 bits, the others 3), by the variance of their outputs (3, 4 or 6), by
Hessian trace or by divergence. The last two get as many bits as each of the others took, so that every comparison is at the
same number of bits before the file is coded. Activations have 8 bits. A seed chooses the calibration images. Accuracy is that of
the integers on the test images, ``bytes`` is the size of the whole ``.trim`` file. Seeds that have lines are not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from paretrim import trimfile
from paretrim.network.constraints import layer_bits, living_weights, weighted_layers
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import Start, TestSet, start_from
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution

EXECUTION = Execution(device="cpu", precision="float32")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ENDS = {"conv1": Format(bits=8), "linear": Format(bits=8)}
THREE = (Format(bits=3), Format(bits=4), Format(bits=6))
CHOICES = (Format(bits=2), *THREE, Format(bits=8))
"""What Hessian trace and divergence choose from."""

PLAIN = Quantize(budget=Budget(epochs=0))
OTHERS = {
    "8 bits": PLAIN,
    "4 bits": replace(PLAIN, weight_bits=4),
    "by name: ends 8 bits, others 3": replace(PLAIN, weight_bits=3, formats=ENDS),
    "by variance: 3, 4 or 6 bits": replace(PLAIN, mixed=Mixture(by="variance", choices=THREE)),
}
SOLVED = {"by Hessian trace": "hessian", "by divergence": "divergence"}
"""Ways that keep a budget of bits, each of which spends what the others took."""

VALIDATION = 0.02
"""Share of the training images on which every stage is judged; nothing is chosen by it here."""


def solved(by: str, bits: int, weights: int) -> Quantize:
    """The stage with another's bits as its budget."""
    return replace(PLAIN, mixed=Mixture(by=by, bits=bits / weights, choices=CHOICES))


def weight_bits(network: Network) -> tuple[int, int]:
    """Bits of all weights before the file is coded, and how many weights there are; pruned ones do not count."""
    bits, layers = layer_bits(network), weighted_layers(network)
    return sum(bits[name] * living_weights(layer) for name, layer in layers.items()), sum(map(living_weights, layers.values()))


def measured(start: Start, test: TestSet, stage: Quantize) -> tuple[dict[str, float], int, int]:
    """Accuracy of the integers on test images, bits a weight and bytes of the file; all bits and all weights."""
    last = run_stage(Candidate(start.network), stage, start.resources(None))
    assert last.integers is not None
    right = evaluate(last.network, test.batches.epoch(0), EXECUTION.torch_device(), integers=last.integers)
    bits, weights = weight_bits(last.network)
    size = len(trimfile.to_bytes(last.integers))
    return {"accuracy": right, "bits_a_weight": round(bits / weights, 4), "bytes": size}, bits, weights


def cases(start: Start, test: TestSet) -> Iterator[tuple[str, dict[str, float]]]:
    """Every case with its facts, the float network first."""
    yield "float", {"accuracy": evaluate(start.network, test.batches.epoch(0), EXECUTION.torch_device())}
    for case, stage in OTHERS.items():
        facts, bits, weights = measured(start, test, stage)
        yield case, facts
        if stage is not PLAIN:
            for name, by in SOLVED.items():
                yield f"{name}, bits as {case}", measured(start, test, solved(by, bits, weights))[0]


def main() -> None:
    """Measure every seed that has no lines yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet56")
    parser.add_argument(
        "--weights", required=True, help="weights for CIFAR-10 images normalised with ImageNet's mean and deviation"
    )
    parser.add_argument("--data", help="folder of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    done = {(json.loads(line)["network"], json.loads(line)["seed"]) for line in lines}
    for seed in range(given.seeds):
        if (given.network, seed) in done:
            continue
        data = {"name": "cifar10", "validation": VALIDATION, **IMAGENET, **({"folder": given.data} if given.data else {})}
        recipe = parse_recipe({"model": {"network": given.network, "weights": given.weights}, "data": data})
        start, test = start_from(replace(recipe, seed=seed, execution=EXECUTION))
        found = [{"network": given.network, "case": case, "seed": seed, **facts} for case, facts in cases(start, test)]
        with given.out.open(
            "a", encoding="utf-8"
        ) as file:  # all lines of a seed at once, so that an interruption leaves no incomplete pair
            file.writelines(json.dumps(line) + "\n" for line in found)


if __name__ == "__main__":
    main()
