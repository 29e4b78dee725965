"""Bytes of stored sparse logits (TinyViT) against dense ones, and CPU time of a step that reads them against a plain step.

    python benchmarks/sparse_logits.py --data DIR [--network resnet20] [--top 10] [--images 1280] [--rounds 9] [--json]
    python benchmarks/sparse_logits.py --markdown

On training images of CIFAR-100. The teacher is untrained, because sizes and times do not depend on its outputs. Two epochs are
stored; two stages, ``finetune`` and ``distill`` with these logits, then train on the same augmented images for one
whole epoch after the other, so that every epoch opens its file. Reading and augmentation are part of both. A ratio is the CPU
time of both epochs of one stage over those of the other in the same round; printed is the median with its bootstrap interval, one
process. ``--json`` prints a line for ``results/sparse-logits.jsonl``; ``--markdown`` writes a section of docs/training-speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from estimates import median
from sparse_logits_page import PAGE, RESULTS, page_of, stored_share
from turns import seconds_in_turn

from paretrim.bench.machine import describe, source_commit, versions
from paretrim.capture import capture
from paretrim.data.batches import TrainBatches, train_batches
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.split import split
from paretrim.models.spec import ModelSpec, build
from paretrim.network.network import Network
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.fit import Plan, fit
from paretrim.train.resources import Resources
from paretrim.train.sparse_teacher import SparseTeacher, StoreOrigin
from paretrim.train.teacher import StoredTeacher

EPOCHS = 2
CLASSES = 100
LEARNING_RATE = 1e-4
DENSE, REPLAYED = "finetune", "distill"


def blocks(network: Network, resources: Resources, budget: Budget) -> dict[str, Callable[[], None]]:
    """The timed work: two epochs of each stage."""
    stages: Mapping[str, Stage] = {
        DENSE: FineTune(budget=budget),
        REPLAYED: Distill(alpha=1.0, temperature=1.0, budget=budget),
    }
    return {name: _block(network, stage, resources) for name, stage in stages.items()}


def _block(network: Network, stage: Stage, resources: Resources) -> Callable[[], None]:
    training = stage.begin(network, resources)

    def block() -> None:
        fit(training, Plan(stage.name, stage.budget, stage.losses(resources), lambda _: None))

    return block


def training_batches(given: argparse.Namespace) -> TrainBatches:
    """Training images of CIFAR-100, balanced over classes, with the data set's augmentation."""
    spec = DataSpec(name="cifar100", folder=given.data, train_images=given.images)
    return train_batches(split(load(spec), spec), batch_size=given.batch, seed=0, device="cpu")


def line_of(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Everything measured."""
    source = training_batches(given)
    torch.manual_seed(0)
    network = Network(capture(build(ModelSpec(given.network), classes=CLASSES, channels=3), source.sample_shape))
    execution = Execution(device="cpu", precision=given.precision)
    stored = StoredTeacher(network, execution, images=given.images, classes=CLASSES, folder=None)
    teacher = SparseTeacher(stored, StoreOrigin("untrained", "cifar100", 0, given.top), images=given.images, folder=folder)
    calibration = next(source.epoch(0)).inputs[:64]
    resources = Resources(lambda _: source, source, calibration, execution, 0, teacher=teacher)
    budget = Budget(epochs=EPOCHS, batch_size=given.batch, learning_rate=LEARNING_RATE)
    seconds = seconds_in_turn(blocks(network, resources, budget), given.rounds)
    ratio = median([one / other for one, other in zip(seconds[REPLAYED], seconds[DENSE], strict=True)])
    return {
        "network": given.network,
        "data": "CIFAR-100",
        "top": given.top,
        "images": given.images,
        "epochs": EPOCHS,
        "batch": given.batch,
        "threads": given.threads,
        "bfloat16": execution.bfloat16(),
        "stored_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "dense_bytes": 4 * CLASSES * given.images * EPOCHS,
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "plain_cpu_ms": 1000 * median(seconds[DENSE]).value / EPOCHS / len(source),
        "rounds": given.rounds,
        "load": round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
        "cpu": describe().cpu,
        "versions": versions(),
        "commit": source_commit(),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder that holds cifar-100-binary; by default $PARETRIM_DATA")
    parser.add_argument("--network", default="resnet20", help="a catalog name")
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="write the page from the stored lines, and measure nothing")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or write the page."""
    given = parse(arguments)
    if given.markdown:
        text = page_of(PAGE.read_text(encoding="utf-8"), RESULTS.read_text(encoding="utf-8"))
        PAGE.write_text(text, encoding="utf-8")
        return
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        line = line_of(given, Path(folder))
    step = f"{line['ratio']:.3f} [{line['ratio_low']:.3f}, {line['ratio_high']:.3f}]"
    said = f"{stored_share(line):.4f} of dense float32 logits; a step {step}"
    print(json.dumps(line) if given.json else said, flush=True)


if __name__ == "__main__":
    main()
