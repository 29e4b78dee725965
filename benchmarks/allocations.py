"""Allocations of zero blocks to layers, compared at equal estimated time: one line of JSON per result.

    python benchmarks/allocations.py --out results/allocations.jsonl [--seeds 5] [--folder FOLDER]
    python benchmarks/allocations.py --out results/allocations.jsonl --weights FILE [--data DIR]
    python benchmarks/allocations.py --out results/allocations.jsonl --images ARCHIVE

The first call trains the small ResNet of ``pruning_starts.py`` on digits for 12 epochs, prunes blocks by magnitude in one shot
and trains for 4 epochs; accuracy is on the test images. The others prune a pretrained network by second order and fit the
remaining weights, without training: a ResNet-20 for CIFAR-10, or EfficientNet-Lite0 on the images of ``imagenette.py``; accuracy
is on validation images, because the default is chosen by it.
Every allocation gets the sparsity at which its remaining blocks take as long as those of the reference allocation, with the time
of a block from ``block_costs.py``. Existing lines are kept; ``allocations_page.py`` writes the page.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from imagenette import start_and_test
from pruning_methods import least
from pruning_starts import EXECUTION, seeds_of
from torch import Tensor
from without_training import IMAGENET

from paretrim.data.batches import EvalBatches
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import Start, start_from
from paretrim.stages.prune.allocation import Allocation, allocate, masks
from paretrim.stages.prune.block_costs import counted_costs
from paretrim.stages.prune.patterns import BLOCK_1X4
from paretrim.stages.prune.score_table import by_magnitude
from paretrim.stages.prune.second_order import compensate_, second_order_scores
from paretrim.stages.prune.stage import Prune
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate

SPLITS: Mapping[str, tuple[Allocation, bool | None]] = {
    "global": ("global", None),
    "uniform": ("uniform", None),
    "speed": ("speed", True),
    "cost": ("cost", False),
    "cost, with reading": ("cost", True),
}
"""Allocation, and whether its costs hold the reading of a block; None where costs have no say."""

DIGITS, RESNET, EFFICIENTNET = "small ResNet, digits", "ResNet-20, CIFAR-10", "EfficientNet-Lite0, ten classes of ImageNet"
GLOBAL_ZEROS = (0.8, 0.9)
"""Of the global split, whose time the others have on digits."""

UNIFORM_ZEROS = {RESNET: 0.7, EFFICIENTNET: 0.5}
"""Of equal shares, whose time the others have on a pretrained network."""

CALIBRATION = 256
PARTS = 4096
"""How finely the zeros are chosen at which a split takes the time of the reference."""

BUDGET = Budget(epochs=4, learning_rate=0.05, batch_size=32)
KEYS = ("network", "zeros_of_reference", "split", "seed")
Case = tuple[str, float, str, int]


def costs_of(network: Network, scores: Mapping[str, Tensor], split: str) -> dict[str, float] | None:
    """The costs that an allocation uses."""
    reading = SPLITS[split][1]
    return None if reading is None else counted_costs(network, scores, reading=reading)


def equal_times(
    network: Network, scores: Mapping[str, Tensor], reference: str, zeros: float
) -> Iterator[tuple[str, float, float]]:
    """Every allocation with its sparsity, and the time of its blocks relative to the reference."""
    time = counted_costs(network, scores, reading=True)

    def taken(split: str, share: float) -> float:
        costs = costs_of(network, scores, split)
        kept = allocate(scores, share, method=SPLITS[split][0], pattern=BLOCK_1X4, costs=costs)
        return sum(time[layer] * count for layer, count in kept.items())

    wanted = taken(reference, zeros)

    def fits(split: str, share: float) -> bool:
        return taken(split, share) <= wanted

    for split in SPLITS:
        share = zeros if split == reference else least(functools.partial(fits, split), PARTS)
        yield split, share, taken(split, share) / wanted


def prunable(network: Network, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores of the layers that pruning takes blocks from."""
    return {name: scores[name] for name in Prune(pattern=BLOCK_1X4.text).layers_of(network)}


def trained(start: Start, test: EvalBatches, scores: Mapping[str, Tensor], split: str, zeros: float) -> float:
    """Test accuracy after pruning by magnitude and four epochs."""
    method = SPLITS[split][0]
    stage = Prune(
        pattern=BLOCK_1X4.text, sparsity=zeros, allocation=method, costs=costs_of(start.network, scores, split), budget=BUDGET
    )
    found = run_stage(Candidate(start.network), stage, start.resources(None))
    return evaluate(found.network, test.epoch(0), EXECUTION.torch_device())


def fitted(start: Start, scores: Mapping[str, Tensor], split: str, zeros: float) -> float:
    """Validation accuracy after pruning by second order, with the remaining weights fitted."""
    network = copy.deepcopy(start.network)
    costs = costs_of(network, scores, split)
    for name, mask in masks(scores, zeros, method=SPLITS[split][0], pattern=BLOCK_1X4, costs=costs).items():
        set_mask_(weighted_layers(network)[name], mask)
    compensate_(network, start.network, start.calibration, list(scores))
    return evaluate(network, start.validation.epoch(0), EXECUTION.torch_device())


def on_digits(seeds: int, folder: Path) -> Iterator[tuple[Case, float, float, Callable[[], float]]]:
    """Every case on digits: its sparsity, its time, and the function that measures its accuracy."""
    for seed, (start, test) in enumerate(zip(*seeds_of(seeds, folder), strict=True)):
        scores = prunable(start.network, by_magnitude(start.network, start.resources(None)))
        for share in GLOBAL_ZEROS:
            for split, zeros, time in equal_times(start.network, scores, "global", share):
                run = functools.partial(trained, start, test.batches, scores, split, zeros)
                yield (DIGITS, share, split, seed), zeros, time, run


def on_cifar10(weights: str, folder: str | None) -> Start:
    """The pretrained ResNet-20 and its images."""
    data = {"name": "cifar10", **IMAGENET, **({"folder": folder} if folder else {})}
    recipe = parse_recipe({"model": {"network": "resnet20", "weights": weights}, "data": data})
    return start_from(replace(recipe, execution=EXECUTION, calibration_images=CALIBRATION))[0]


def on_pretrained(name: str, start: Start) -> Iterator[tuple[Case, float, float, Callable[[], float]]]:
    """The same on a pretrained network."""
    layers, zeros_of_reference = list(Prune(pattern=BLOCK_1X4.text).layers_of(start.network)), UNIFORM_ZEROS[name]
    scores = second_order_scores(start.network, start.resources(None), names=layers, pattern=BLOCK_1X4)
    for split, zeros, time in equal_times(start.network, scores, "uniform", zeros_of_reference):
        yield (name, zeros_of_reference, split, 0), zeros, time, functools.partial(fitted, start, scores, split, zeros)


def chosen(given: argparse.Namespace) -> Iterator[tuple[Case, float, float, Callable[[], float]]]:
    """The cases that the options ask for."""
    if given.images:
        return on_pretrained(EFFICIENTNET, start_and_test(given.images, CALIBRATION, EXECUTION)[0])
    return on_pretrained(RESNET, on_cifar10(given.weights, given.data)) if given.weights else on_digits(given.seeds, given.folder)


def main() -> None:
    """Measure every case that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/pruning-methods"))
    parser.add_argument("--weights", help="weights of a ResNet-20 for CIFAR-10")
    parser.add_argument("--data", help="folder of CIFAR-10")
    parser.add_argument("--images", type=Path, help="archive of ImageNet images, for EfficientNet-Lite0")
    given = parser.parse_args()
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    done = {tuple(json.loads(line)[key] for key in KEYS) for line in lines}
    for case, zeros, time, run in chosen(given):
        if case not in done:
            facts = dict(zip(KEYS, case, strict=True)) | {"zeros": zeros, "time": time, "accuracy": run()}
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
