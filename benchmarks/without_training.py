"""Compression without training: test accuracy with each method, for networks trained on digits or for a pretrained one.

    python benchmarks/without_training.py [--seeds 3] [--steps 1000] [--folder runs/without-training] [--json]
    python benchmarks/without_training.py --network resnet56 --weights FILE [--data DIR] [--only blocks] [--out LINES]

The dense ResNet-20 of every seed trains for 15 epochs on digits; the weights of a pretrained network are for CIFAR-10 images
normalised with the mean and deviation of ImageNet. Everything is in float32 on the CPU. Folders are taken up again. ``--out``
adds an object a case to a file of lines, from which ``benchmarks/without_training_page.py`` makes the page.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import Recipe, parse_recipe, read_recipe
from paretrim.run.start import start_from
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"
EXECUTION = Execution(device="cpu", precision="float32")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
NONE = Budget(epochs=0)
ADJUSTED = (
    ("equalize",),
    ("smooth",),
    ("bias",),
    ("equalize", "bias"),
    ("batchnorm",),
    ("adaround",),
    ("adaround", "bias"),
    ("batchnorm", "adaround", "bias"),
    ("gptq",),
)


CUTS = (("1x4", 0.3), ("1x4", 0.5), ("1x4", 0.7), ("unstructured", 0.5), ("unstructured", 0.7))
"""Patterns and shares of zeros."""


def cases(steps: int) -> dict[str, tuple[Stage, ...]]:
    """Every way of compressing by what it is called."""
    return {name: (stage,) for name, stage in quantized(steps).items()} | pruned()


def pruned() -> dict[str, tuple[Stage, ...]]:
    """Every way of pruning, each followed by quantization to 8 bits."""
    found: dict[str, tuple[Stage, ...]] = {}
    for pattern, share in CUTS:
        cut = Prune(budget=NONE, pattern=pattern, sparsity=share, allocation="uniform")
        ways = {
            "magnitude": cut,
            "magnitude, fitted": replace(cut, compensate=True),
            "obs, fitted": replace(cut, compensate=True, score="obs"),
            "obs over all layers, fitted": replace(cut, compensate=True, score="obs", allocation="global"),
        }
        zeros = f"{share:.0%} of {'blocks' if pattern == '1x4' else 'weights'} gone"
        found |= {f"{zeros}, {way}, 8 bits": (stage, Quantize(budget=NONE)) for way, stage in ways.items()}
        best = ways["obs over all layers, fitted"]
        found[f"{zeros}, obs over all layers, 8 bits by gptq"] = (best, Quantize(budget=NONE, adjust=("gptq",)))
    return found


def quantized(steps: int) -> dict[str, Quantize]:
    """Every way of quantizing."""
    found = {"8 bits": Quantize(budget=NONE), "8 bits, kl": Quantize(budget=NONE, calibrator="kl", weight_calibrator="mse")}
    found["8 bits, percentile"] = Quantize(budget=NONE, calibrator="percentile", weight_calibrator="mse")
    found["8 bits, minmax"] = Quantize(budget=NONE, calibrator="minmax", weight_calibrator="mse")
    for bits in (8, 4, 3):
        if bits < 8:
            found[f"{bits} bits"] = Quantize(budget=NONE, weight_bits=bits)
            found[f"{bits} bits, minmax steps"] = Quantize(budget=NONE, weight_bits=bits, weight_calibrator="minmax")
        for names in ADJUSTED:
            stage = Quantize(budget=NONE, weight_bits=bits, adjust=names, rounding_steps=steps)
            found[f"{bits} bits, {' + '.join(names)}"] = stage
    return found


def recipe_for(given: argparse.Namespace, seed: int) -> Recipe:
    """The network and its data."""
    if given.weights is None:
        return replace(read_recipe(RECIPE), seed=seed, execution=EXECUTION, calibration_images=given.calibration_images)
    data = {"name": "cifar10", **IMAGENET, **({"folder": given.data} if given.data else {})}
    recipe = parse_recipe({"model": {"network": given.network, "weights": given.weights}, "data": data})
    return replace(recipe, seed=seed, execution=EXECUTION, calibration_images=given.calibration_images)


def main() -> None:
    """Compress in every way and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--weights", help="of a network for CIFAR-10; without them one is trained on digits")
    parser.add_argument("--data", help="folder of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=1000, help="of adaround, for each layer")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--folder", type=Path, default=Path("runs/without-training"))
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.add_argument("--out", type=Path, help="file of lines that results are added to")
    given = parser.parse_args()
    chosen = {case: stages for case, stages in cases(given.steps).items() if given.only in case}
    found: dict[str, list[float]] = {case: [] for case in ("float", *chosen)}
    for seed in range(given.seeds):
        folder = given.folder / str(seed)
        start, test = start_from(recipe_for(given, seed))
        if given.weights is None:
            start = train_dense(start, Budget(epochs=15, learning_rate=0.1), folder)
        device = EXECUTION.torch_device()
        found["float"].append(evaluate(start.network, test.batches.epoch(0), device))
        for case, stages in chosen.items():
            last = run_stages(start, stages, folder)[-1]
            found[case].append(evaluate(last.network, test.batches.epoch(0), device, integers=last.integers))
    for case, runs in found.items():
        facts = {"network": given.network, "calibration_images": given.calibration_images, "case": case, "accuracies": runs}
        if given.out:
            with given.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(facts) + "\n")
        if given.json:
            print(json.dumps(facts))
        else:
            each = " ".join(f"{100 * right:.2f}" for right in runs)
            print(f"{case:40} {100 * sum(runs) / len(runs):6.2f} %  ({each})")


if __name__ == "__main__":
    main()
