"""Compression without training: test accuracy with each method, for networks trained on digits or for a pretrained one.

    python benchmarks/without_training.py [--seeds 3] [--steps 1000] [--folder runs/without-training] [--json]
    python benchmarks/without_training.py --network resnet56 --weights FILE [--data DIR] [--only blocks] [--out LINES]
    python benchmarks/without_training.py --network efficientnet-lite0 --data ARCHIVE --seeds 1 [--only blocks] [--out LINES]

The dense ResNet-20 of every seed trains for 15 epochs on digits; the weights of a pretrained network are for CIFAR-10 images
normalised with the mean and deviation of ImageNet, those of ``--candidate`` are what a run of Paretrim trained.
EfficientNet-Lite0 comes with its weights and is judged on ImageNet images, see ``imagenette.py``. Everything is in float32 on the
CPU. An interrupted run continues in its folder. ``--out`` appends one line per case to a file, from which
``without_training_page.py`` makes the page. ``--validation`` judges on validation images instead, to choose settings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from imagenette import NETWORK as EFFICIENTNET
from imagenette import start_and_test

from paretrim.data.batches import Batch
from paretrim.run.candidate import Candidate, load_candidate
from paretrim.run.drop import drop_between
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import Recipe, parse_recipe, read_recipe
from paretrim.run.start import Start, start_from
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.train.evaluate import predictions
from paretrim.train.execution import Execution
from paretrim.train.task import TaskArray

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


CUTS = (
    *(("1x4", share) for share in (0.3, 0.5, 0.7, 0.8, 0.9)),
    *(("unstructured", share) for share in (0.5, 0.7)),
)
"""Patterns and shares of zeros."""


def cases(steps: int) -> dict[str, tuple[Stage, ...]]:
    """Every method, by name."""
    return {name: (stage,) for name, stage in quantized(steps).items()} | pruned()


def pruned() -> dict[str, tuple[Stage, ...]]:
    """Every pruning method, each followed by quantization to 8 bits."""
    found: dict[str, tuple[Stage, ...]] = {}
    for pattern, share in CUTS:
        cut = Prune(budget=NONE, pattern=pattern, sparsity=share, allocation="uniform")
        ways = {
            "magnitude": cut,
            "magnitude, fitted": replace(cut, compensate=True),
            "magnitude over all layers, fitted": replace(cut, compensate=True, allocation="global"),
            "magnitude by speed, fitted": replace(cut, compensate=True, allocation="speed"),
            "obs, fitted": replace(cut, compensate=True, score="obs"),
            "obs over all layers, fitted": replace(cut, compensate=True, score="obs", allocation="global"),
            "obs by speed, fitted": replace(cut, compensate=True, score="obs", allocation="speed"),
        }
        zeros = f"{share:.0%} of {'blocks' if pattern == '1x4' else 'weights'} gone"
        found |= {f"{zeros}, {way}, 8 bits": (stage, Quantize(budget=NONE)) for way, stage in ways.items()}
        best = ways["obs over all layers, fitted"]
        found[f"{zeros}, obs over all layers, 8 bits by gptq"] = (best, Quantize(budget=NONE, adjust=("gptq",)))
    return found


def quantized(steps: int) -> dict[str, Quantize]:
    """Every quantization method."""
    found = {"8 bits": Quantize(budget=NONE), "8 bits, kl": Quantize(budget=NONE, calibrator="kl", weight_calibrator="mse")}
    found["8 bits, percentile"] = Quantize(budget=NONE, calibrator="percentile", weight_calibrator="mse")
    found["8 bits, minmax"] = Quantize(budget=NONE, calibrator="minmax", weight_calibrator="mse")
    for bits in (8, 4, 3):
        if bits < 8:
            found[f"{bits} bits"] = Quantize(budget=NONE, weight_bits=bits)
            found[f"{bits} bits, minmax steps"] = Quantize(budget=NONE, weight_bits=bits, weight_calibrator="minmax")
        for names in ADJUSTED:
            stage = Quantize(budget=NONE, weight_bits=bits, adjust=names)
            found[f"{bits} bits, {' + '.join(names)}"] = replace(stage, rounding_steps=steps) if "adaround" in names else stage
    return found


def recipe_for(given: argparse.Namespace, seed: int) -> Recipe:
    """The network and its data."""
    if given.weights is None and given.candidate is None:
        return replace(read_recipe(RECIPE), seed=seed, execution=EXECUTION, calibration_images=given.calibration_images)
    normalisation = {} if given.candidate else IMAGENET
    data = {"name": "cifar10", **normalisation, **({"folder": given.data} if given.data else {})}
    weights = {"weights": given.weights} if given.weights else {}
    recipe = parse_recipe({"model": {"network": given.network, **weights}, "data": data})
    return replace(recipe, seed=seed, execution=EXECUTION, calibration_images=given.calibration_images)


def opened(given: argparse.Namespace, seed: int) -> tuple[Start, Iterable[Batch]]:
    """The dense network and the images to judge with."""
    if given.network == EFFICIENTNET:
        start, test = start_and_test(Path(given.data), given.calibration_images, EXECUTION)
        return start, list(start.validation.epoch(0)) if given.validation else test
    start, tested = start_from(recipe_for(given, seed))
    if given.candidate is not None:
        start = replace(start, network=load_candidate(given.candidate).network)
    elif given.weights is None:
        start = train_dense(start, Budget(epochs=15, learning_rate=0.1), given.folder / str(seed))
    return start, list((start.validation if given.validation else tested.batches).epoch(0))


def right(candidate: Candidate, images: Iterable[Batch]) -> TaskArray:
    """Whether each image is classified correctly, bool [N]."""
    device = EXECUTION.torch_device()
    found, labels = predictions(candidate.network, images, device, integers=candidate.integers)
    return np.asarray(found == labels)


def tell(given: argparse.Namespace, case: str, dense: list[TaskArray], found: list[TaskArray], seconds: float) -> None:
    """Print one line for a case: accuracies, and the drop with its interval over all images of all seeds."""
    drop = drop_between(np.concatenate(dense), np.concatenate(found))
    runs = [float(one.mean()) for one in found]
    facts = {"network": given.network, "calibration_images": given.calibration_images, "case": case, "accuracies": runs}
    facts |= {"images": len(found[0]), "drop": [drop.value, drop.interval.low, drop.interval.high], "cpu_seconds": round(seconds)}
    if given.out:
        with given.out.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(facts) + "\n")
    each = " ".join(f"{100 * one:.2f}" for one in runs)
    print(json.dumps(facts) if given.json else f"{case:40} {100 * sum(runs) / len(runs):6.2f} %  ({each})", flush=True)


def main() -> None:
    """Run every method and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--weights", help="weights of a network for CIFAR-10; without them, one is trained on digits")
    parser.add_argument("--candidate", type=Path, help="a dense candidate.safetensors of a run on CIFAR-10")
    parser.add_argument("--data", help="folder of CIFAR-10, or the archive of ImageNet images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=1000, help="steps of adaround per layer")
    parser.add_argument("--only", default="", help="run only cases whose names contain this; separate several with semicolons")
    parser.add_argument("--folder", type=Path, default=Path("runs/without-training"))
    parser.add_argument("--validation", action="store_true", help="evaluate on validation images")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--out", type=Path, help="append lines to this file")
    given = parser.parse_args()
    parts = given.only.split(";")
    chosen = {case: stages for case, stages in cases(given.steps).items() if any(part in case for part in parts)}
    opens = [opened(given, seed) for seed in range(given.seeds)]
    dense = [right(Candidate(start.network), images) for start, images in opens]
    tell(given, "float", dense, dense, 0)
    for case, stages in chosen.items():
        began, found = time.process_time(), []
        for seed, (start, images) in enumerate(opens):
            last = run_stages(start, stages, given.folder / str(seed))[-1]
            found.append(right(last, images))
        tell(given, case, dense, found, time.process_time() - began)


if __name__ == "__main__":
    main()
