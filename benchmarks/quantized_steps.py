"""CPU time of a training step with every quantization method, against a plain step.

    python benchmarks/quantized_steps.py [--networks resnet20] [--recipes lsq,pact] [--rounds 9] [--steps 2] [--batch 128]
                                         [--threads 1] [--precision auto] [--json]
    python benchmarks/quantized_steps.py --markdown

A workload is a block of training steps in the quantize stage of one recipe of ``recipes/methods``, with its settings; the plain
one is ``finetune``. By default these are the recipes of all grids, of both kinds of scales and of ``rate``. All train on the same
batches in one process, in an order shuffled every round. A ratio is the CPU time of a workload (all threads of the process) over
that of the plain one in the same round; printed are medians with bootstrap intervals, one process. Other
programs disturb CPU time less than wall time, but they do: every line includes the load. ``--json`` prints
lines for ``results/quantized-steps.jsonl``; ``--markdown`` writes the tables of docs/training-speed.md from those.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from estimates import median
from quantized_steps_page import PAGE, RESULTS, ROOT, StepLine, page_of, to_json
from torch import Tensor
from training import MEAN, STD, Few, stage_block
from turns import seconds_in_turn

from paretrim.bench.machine import describe, source_commit, versions
from paretrim.capture import capture
from paretrim.cli.methods import METHODS
from paretrim.data.batches import TrainBatches
from paretrim.data.types import ImageSet
from paretrim.models.spec import ModelSpec, build
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.run.recipe import read_recipe
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

PLAIN = "finetune"

LEARNING_RATE = 1e-4
"""So low that weights hardly move and every block costs the same: batches that come again and again are soon learned by heart."""


def recipes() -> tuple[str, ...]:
    """Every recipe of an integer grid, of a kind of scales, and of ``rate``."""
    kinds = ("weight grid", "activation grid", "scales")
    asked = [method for method in METHODS if method.kind in kinds or method.name == "rate"]
    return tuple(dict.fromkeys(method.recipe for method in asked if not method.name.startswith(("float", "bfloat"))))


def stage_of(recipe: str, network: Network, budget: Budget) -> Quantize:
    """The quantize stage of a recipe, without its budget and without formats of layers that this network does not have."""
    found = read_recipe(ROOT / "recipes" / "methods" / f"{recipe}.toml")
    stage = next(stage for stage in found.stages if isinstance(stage, Quantize))
    names = list(weighted_layers(network))
    formats = {
        pattern: form for pattern, form in (stage.formats or {}).items() if any(fnmatchcase(name, pattern) for name in names)
    }
    return replace(stage, budget=budget, formats=formats or None)


def workloads(network_name: str, names: Sequence[str], given: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """What is timed, by recipe."""
    torch.manual_seed(0)
    count = given.batch * given.steps
    images = ImageSet(torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (count,)))
    source = TrainBatches(images=images, batch_size=given.batch, mean=MEAN, std=STD, crop_padding=4, flip=True)
    few = Few(tuple(source.epoch(0)))
    network = Network(capture(build(ModelSpec(network_name), classes=10, channels=3), (3, 32, 32)))
    take_statistics_(network, few.batches[0].inputs)
    execution = Execution(device="cpu", precision=given.precision)
    resources = Resources(lambda _: few, few, few.batches[0].inputs[:64], execution, 0)
    budget = Budget(epochs=1, batch_size=given.batch, learning_rate=LEARNING_RATE)
    found = {PLAIN: stage_block(network, FineTune(budget=budget), resources)}
    return found | {name: stage_block(network, stage_of(name, network, budget), resources) for name in names}


def take_statistics_(network: Network, images: Tensor) -> None:
    """Set BatchNorm statistics from these images: with initial ones, values of deep networks overflow float32 in evaluation."""
    layers = network.batch_norms().values()
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
    network.eval()


def lines_of(network: str, given: argparse.Namespace) -> list[StepLine]:
    """Everything measured on one network."""
    names = given.recipes.split(",") if given.recipes else recipes()
    seconds = seconds_in_turn(workloads(network, names, given), given.rounds)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    plain = median(seconds[PLAIN]).value
    found = []
    for name in names:
        ratio = median([a / b for a, b in zip(seconds[name], seconds[PLAIN], strict=True)])
        found.append(
            StepLine(
                network=network,
                recipe=name,
                bfloat16=Execution(device="cpu", precision=given.precision).bfloat16(),
                batch=given.batch,
                threads=given.threads,
                ratio=ratio.value,
                ratio_low=ratio.low,
                ratio_high=ratio.high,
                step_cpu_ms=1000 * median(seconds[name]).value / given.steps,
                plain_cpu_ms=1000 * plain / given.steps,
                rounds=given.rounds,
                load=round(load, 2),
                cpu=describe().cpu,
                versions=versions(),
                commit=source_commit(),
            )
        )
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet20", help="catalog names, comma-separated")
    parser.add_argument("--recipes", default="", help="names in recipes/methods; all quantization methods by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="training steps of a block")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--markdown", action="store_true", help="write the page from the stored lines, and measure nothing")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or write the page."""
    given = parse(arguments)
    if given.markdown:
        page: Path = PAGE
        page.write_text(page_of(page.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
        return
    torch.set_num_threads(given.threads)
    for network in given.networks.split(","):
        for line in lines_of(network, given):
            ratio = f"{line.ratio:.3f} [{line.ratio_low:.3f}, {line.ratio_high:.3f}]"
            print(to_json(line) if given.json else f"{network} {line.recipe:16} {line.step_cpu_ms:8.1f} ms  {ratio}", flush=True)


if __name__ == "__main__":
    main()
