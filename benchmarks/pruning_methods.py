"""Every pruning method that trains, on the same networks with equal epochs: one line of JSON for each result.

    python benchmarks/pruning_methods.py --out results/pruning-methods-digits.jsonl [--seeds 3] [--folder FOLDER]
    python benchmarks/pruning_methods.py --data cifar10 --weights FILE --out results/pruning-methods-cifar10.jsonl
    python benchmarks/pruning_methods.py --out results/pruning-methods-digits.jsonl --latency FILE [--effort published]

``--data digits``: a ResNet of three blocks trains on digits for 12 epochs. ``--data cifar10``: a pretrained ResNet-20, whose
weights are for images normalised with the mean and deviation of ImageNet. Every method then has the same epochs on that network,
and the result is quantized to 8 bits without training. Accuracy is that of the ``.trim`` file on all test images, bytes are its
own. The plain smaller network trains from scratch for as many epochs as dense training and a method take together. Where the
dense network is not trained here it is left out, and so are lottery tickets, which go back to an epoch of that training.
Existing lines are kept. About 15 minutes on one core for digits, an hour a seed for CIFAR-10; one seed is finished after the
other.

The last call, on a quiet machine, times all files of a seed in the native runtime in one interleaved session, and adds a line
for each to a file of its own. Missing files are made again; since a later version may train or
code slightly differently, a line of latency also has the size of the timed file.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pruning_starts import DENSE, SETTINGS, seeds_of

from paretrim.bench.effort import EFFORTS
from paretrim.bench.machine import describe
from paretrim.deploy.runnable import BATCH, NATIVE
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.settle import settle_
from paretrim.results.run_folder import ONNX_FILE, TRIM_FILE
from paretrim.results.timing import RuntimeSetting, time_files
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.start import Start, TestSet
from paretrim.runtime import load
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.acdc import AcDc
from paretrim.stages.prune.gates import Gates
from paretrim.stages.prune.gsm import Gsm
from paretrim.stages.prune.lottery import Lottery
from paretrim.stages.prune.movement import Movement
from paretrim.stages.prune.rigl import RigL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.straight_through import StraightThrough
from paretrim.stages.prune.thin import Thin
from paretrim.stages.prune.thinet import ThiNet
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.trimfile.file import write

SPARSITIES = (0.8, 0.9)
PATTERNS = ("1x4", "unstructured")
CHANNELS = "channel"
CHANNEL_SCORES = {
    "channels by L1": "l1",
    "channels by L2": "magnitude",
    "channels by BatchNorm scale": "batchnorm",
    "channels by Taylor": "taylor",
    "channels by NISP": "nisp",
}
LOTTERY = "lottery ticket, 2 rounds"
THIN = "plain smaller network, from scratch"
DENSE_NAME = "dense"
KEYS = ("method", "pattern", "sparsity", "seed")
Case = tuple[str, str, float, int]
"""Method, pattern, share of weights gone and seed."""

UNTRAINED = Budget(epochs=0)
SOFT: Mapping[str, Any] = {"threshold": 0.3, "score_rate": 0.05, "end": 0.6}
TRIALS = 5
"""Penalties tried for soft movement, which names no sparsity, and shares of channels tried for gates."""


def methods(sparsity: float, pattern: str, budget: Budget) -> dict[str, tuple[Stage, ...]]:
    """Every method that makes masks of exact sparsity, by name."""
    cut = Prune(sparsity=sparsity, pattern=pattern, budget=budget)
    half = replace(budget, epochs=budget.epochs // 2)
    share = 1 - (1 - sparsity) ** 0.5

    def gsm(budget: Budget) -> Stage:
        return Gsm(sparsity=sparsity, pattern=pattern, budget=replace(budget, learning_rate=0.01, momentum=0.98))

    acdc = AcDc(sparsity=sparsity, pattern=pattern, phase=0.15, budget=budget)
    straight = StraightThrough(sparsity=sparsity, pattern=pattern, every=4, budget=budget)
    rewound = Lottery(share=share, epoch=1, pattern=pattern, budget=replace(half, learning_rate=0.1))
    return {
        "magnitude, one shot": (cut,),
        "magnitude, cubic": (replace(cut, schedule="cubic"),),
        "second order, one shot, fitted": (replace(cut, score="obs", compensate=True),),
        "magnitude, uniform, one shot": (replace(cut, allocation="uniform"),),
        "magnitude, uniform, cubic": (replace(cut, allocation="uniform", schedule="cubic"),),
        "SNIP": (replace(cut, score="snip"),),
        "GraSP": (replace(cut, score="grasp"),),
        "SynFlow": (replace(cut, score="synflow"),),
        "Fisher": (replace(cut, score="fisher"),),
        "Taylor": (replace(cut, score="taylor"),),
        "movement, hard": (Movement(sparsity=sparsity, pattern=pattern, every=4, end=0.6, budget=budget),),
        "straight-through": (straight,),
        "straight-through, by LAMP": (replace(straight, allocation="lamp"),),
        "RigL": (RigL(sparsity=sparsity, pattern=pattern, every=10, score="magnitude", budget=budget),),
        "GSM": (gsm(half), FineTune(budget=half)),
        "GSM, no fine-tuning": (gsm(budget),),
        "AC/DC": (acdc,),
        "AC/DC, by LAMP": (replace(acdc, allocation="lamp"),),
        LOTTERY: (rewound, rewound),
        "learning-rate rewinding, 2 rounds": (Lottery(share=share, rewind="learning_rate", pattern=pattern, budget=half),) * 2,
    }


def channels(start: Start, sparsity: float, score: str, budget: Budget) -> tuple[Stage, ...]:
    """Whole channels: the fewest that leave no more weights than the masks do."""
    cut = Prune(pattern=CHANNELS, score=score, allocation="uniform", budget=budget)
    share = least(lambda share: zeros_of(start, replace(cut, score="magnitude", sparsity=share)) >= sparsity)
    return (replace(cut, sparsity=share),)


def thinet(start: Start, sparsity: float, budget: Budget) -> tuple[Stage, ...]:
    """ThiNet on all channels, with as many removed in every layer as by :func:`channels`."""
    (plain,) = channels(start, sparsity, "magnitude", budget)
    assert isinstance(plain, Prune)
    return (ThiNet(sparsity=plain.sparsity, coupled=True, budget=budget),)


def thin(start: Start, sparsity: float, budget: Budget) -> tuple[Stage, ...]:
    """The network with fewer channels everywhere, trained from scratch for the epochs that dense and pruned training have."""
    stage = Thin(budget=replace(DENSE, epochs=DENSE.epochs + budget.epochs))
    share = least(lambda share: zeros_of(start, replace(stage, sparsity=share)) >= sparsity)
    return (replace(stage, sparsity=share),)


def least(is_enough: Callable[[float], bool], parts: int = 256) -> float:
    """The smallest sufficient multiple of 1 / ``parts`` in [0, 1), by bisection; ``parts`` is a power of two."""
    low, high = 0.0, 1 - 1 / parts
    while high - low > 1 / parts:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def zeros_of(start: Start, stage: Stage) -> float:
    """Share of the dense network's weights that are removed when the stage begins."""
    training = stage.begin(start.network, start.resources(None))
    return gone(start, Candidate(training.network))


def gone(start: Start, candidate: Candidate) -> float:
    """Share of the prunable weights that a candidate has lost."""
    names = list(weighted_layers(start.network))[1:-1]
    before = sum(weighted_layers(start.network)[name].weight.numel() for name in names)
    layers = weighted_layers(candidate.network)
    return 1 - sum(int((layers[name].masked_weight() != 0).sum()) for name in names) / before


def soft_movement(start: Start, sparsity: float, pattern: str, budget: Budget) -> Stage:
    """Soft movement pruning with the penalty that comes closest to this sparsity on this network."""

    def made(exponent: float) -> Stage:
        return Movement(selection="soft", pattern=pattern, every=4, penalty=10**exponent, budget=budget, **SOFT)

    return nearest(start, sparsity, made, -8.0, -1.0)


def gates(start: Start, sparsity: float, budget: Budget) -> Stage:
    """Gates with the share of channels that comes closest to this sparsity; training decides which layers lose them."""
    return nearest(start, sparsity, lambda share: Gates(sparsity=share, budget=budget), 0.0, 1.0)


def nearest(start: Start, sparsity: float, made: Callable[[float], Stage], low: float, high: float) -> Stage:
    """Of :data:`TRIALS` stages with a number between the bounds, the one that removes closest to this share of the weights."""
    stages = {}
    for _ in range(TRIALS):
        middle = (low + high) / 2
        stage = made(middle)
        found = gone(start, run_stage(Candidate(start.network), stage, start.resources(None)))
        stages[abs(found - sparsity)] = stage
        low, high = (low, middle) if found > sparsity else (middle, high)
    return stages[min(stages)]


def cases(
    starts: list[Start], budget: Budget, *, scratch: bool
) -> Iterator[tuple[str, str, float, int, Callable[[], tuple[Stage, ...]]]]:
    """Method, pattern, sparsity, seed and a function that makes the stages; ``scratch``: dense networks are trained here."""
    half = replace(budget, epochs=budget.epochs // 2)

    @cache
    def softly(sparsity: float, pattern: str) -> tuple[Stage, ...]:
        return (soft_movement(starts[0], sparsity, pattern, budget),)

    @cache
    def gated(sparsity: float, budget: Budget, then: tuple[Stage, ...] = ()) -> tuple[Stage, ...]:
        return gates(starts[0], sparsity, budget), *then

    for seed, start in enumerate(starts):
        for pattern, sparsity in itertools.product(PATTERNS, SPARSITIES):
            for name, stages in methods(sparsity, pattern, budget).items():
                if name == LOTTERY and not scratch:
                    continue
                yield name, pattern, sparsity, seed, partial(tuple, stages)
            yield "movement, soft", pattern, sparsity, seed, partial(softly, sparsity, pattern)
        for sparsity in SPARSITIES:
            for name, score in CHANNEL_SCORES.items():
                yield name, CHANNELS, sparsity, seed, partial(channels, start, sparsity, score, budget)
            yield "channels by ThiNet", CHANNELS, sparsity, seed, partial(thinet, start, sparsity, budget)
            yield "channels by gates", CHANNELS, sparsity, seed, partial(gated, sparsity, half, then=(FineTune(budget=half),))
            yield "channels by gates, no fine-tuning", CHANNELS, sparsity, seed, partial(gated, sparsity, budget)
            if scratch:
                yield THIN, CHANNELS, sparsity, seed, partial(thin, start, sparsity, budget)


def measured(start: Start, test: TestSet, stages: tuple[Stage, ...], file: Path) -> dict[str, float]:
    """Write the file; return the accuracy of its integers on test images, its bytes and the share of removed weights."""
    resources, found = start.resources(None), Candidate(start.network)
    for stage in stages:
        found = run_stage(found, stage, resources)
    zeros = gone(start, found)
    shipped = run_stage(found, Quantize(budget=UNTRAINED), resources)
    settle_(shipped.network)
    file.parent.mkdir(parents=True, exist_ok=True)
    write(freeze(shipped.network, start.spec), file)
    session = load(file, measure=False)
    decided = [session(test.images[at : at + BATCH]).argmax(1) for at in range(0, len(test.images), BATCH)]
    right = float((np.concatenate(decided) == test.labels).mean())
    return {"accuracy": right, "zeros": zeros, "bytes": file.stat().st_size, "epochs": found.epochs}


def file_of(folder: Path, case: Case) -> Path:
    """The path of the file of a case."""
    return folder / "files" / "-".join(map(str, case)).replace(",", "").replace(" ", "-").replace(":", "-") / TRIM_FILE


def read(path: Path) -> dict[Case, Mapping[str, object]]:
    """The lines of a file by case; none if there is no file."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return {(line["method"], line["pattern"], line["sparsity"], line["seed"]): line for line in lines}


def add(path: Path, case: Case, facts: Mapping[str, object]) -> None:
    """Add a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**dict(zip(KEYS, case, strict=True)), **facts}) + "\n")


def times(files: Mapping[Case, Path], tests: Sequence[TestSet], effort: str) -> Iterator[tuple[Case, dict[str, object]]]:
    """The latency of every file in the native runtime on one thread, all files of a seed in one session."""
    for seed, test in enumerate(tests):
        names = {str(case): case for case in files if case[-1] == seed}
        places = {name: files[case].with_name(ONNX_FILE) for name, case in names.items()}
        dense = next(name for name, case in names.items() if case[0] == DENSE_NAME)
        found = time_files(places, test.images, baseline=dense, settings=[RuntimeSetting(NATIVE, 1)], effort=EFFORTS[effort])
        for name, (latency,) in found.items():
            facts: dict[str, object] = {key: dataclasses.asdict(getattr(latency, key)) for key in ("p50_ms", "speedup", "floor")}
            facts["bytes"] = files[names[name]].stat().st_size
            yield names[name], facts | {"noise": list(latency.noise), "cpu": describe().cpu}


def main() -> None:
    """Measure every case that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", choices=SETTINGS, default="digits")
    parser.add_argument("--weights", help="the weights of the pretrained network")
    parser.add_argument("--folder", type=Path, default=Path("runs/pruning-methods"))
    parser.add_argument("--latency", type=Path, help="time the files and append lines to this file")
    parser.add_argument("--effort", choices=EFFORTS, default="standard", help="how thoroughly to time")
    given = parser.parse_args()
    setting = SETTINGS[given.data]
    if (given.weights is None) != (setting.dense is not None):
        parser.error(
            f"--data {given.data} {'trains its dense networks; leave --weights out' if setting.dense else 'needs --weights'}"
        )
    starts, tests = seeds_of(given.seeds, given.folder, setting, given.weights)
    done = read(given.out)
    files: dict[Case, Path] = {}
    listed = cases(starts, setting.budget, scratch=setting.dense is not None)
    dense = ((DENSE_NAME, "", 0.0, seed, tuple[Stage, ...]) for seed in range(given.seeds))
    for method, pattern, sparsity, seed, stages in itertools.chain(dense, listed):
        case = (method, pattern, sparsity, seed)
        files[case] = file_of(given.folder, case)
        if case in done and (not given.latency or files[case].is_file()):
            continue
        found = measured(starts[case[-1]], tests[case[-1]], stages(), files[case])
        if case not in done:
            add(given.out, case, found)
    if given.latency:
        timed = read(given.latency)
        for case, facts in times(files, tests, given.effort):
            if case not in timed:
                add(given.latency, case, facts)


if __name__ == "__main__":
    main()
