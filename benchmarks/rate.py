"""What ``rate`` of the quantize stage saves in the ``.trim`` file and costs in accuracy, on CIFAR-10.

    python benchmarks/rate.py --data-folder DIR --weights FOLDER [--network resnet20] [--zeros 0] [--rates 0,0.001,0.002,0.005]
                              [--train-images 0] [--learning-rate 0.005] [--json]

The network is ``cifar10_<network>.safetensors`` of the folder, pruned by magnitude in single weights if ``--zeros`` is
given. Without ``--train-images`` nothing is trained: integers are chosen after training. With it, there is one epoch of
quantization-aware training on that many training images. Accuracy is that of the integers in the file, on all test images; the
bytes are those of the whole file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.data.batches import EvalBatches, TrainBatches
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.types import Dataset
from paretrim.graph.entropy import summarize_weights
from paretrim.graph.types import InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
SHAPE = (3, 32, 32)
CALIBRATION_IMAGES = 512
CPU = torch.device("cpu")


def resources(data: Dataset, train_images: int) -> Resources:
    """The first training images, for training and calibration."""
    first = data.train.select(torch.arange(max(train_images, CALIBRATION_IMAGES)))
    few = EvalBatches(
        images=data.train.select(torch.arange(CALIBRATION_IMAGES)), batch_size=CALIBRATION_IMAGES, mean=MEAN, std=STD
    )

    def batches(size: int) -> TrainBatches:
        return TrainBatches(images=first, batch_size=size, mean=MEAN, std=STD, crop_padding=4, flip=True, seed=0)

    return Resources(batches, few, next(few.epoch(0)).inputs, Execution(device="cpu", precision="float32"), 0)


def line(network: Network, rate: float, given: argparse.Namespace, data: Dataset, ready: Resources) -> dict[str, object]:
    """The numbers of one rate."""
    budget = Budget(epochs=1 if given.train_images else 0, batch_size=64, learning_rate=given.learning_rate, freeze_batchnorm=0.0)
    found = run_stage(Candidate(network), Quantize(budget=budget, rate=rate), ready).network
    graph = freeze(found, InputSpec(SHAPE, MEAN, STD))
    weights = summarize_weights(graph)
    test = EvalBatches(images=data.test, batch_size=500, mean=MEAN, std=STD)
    size = len(trimfile.to_bytes(graph, threads=1))
    return {
        "network": given.network,
        "zeros": given.zeros,
        "rate": rate,
        "train_images": given.train_images,
        "file_bytes": size,
        "bits_per_weight": round(8 * size / sum(one.weights for one in weights), 3),
        "zeros_found": round(sum(one.zeros for one in weights) / sum(one.weights for one in weights), 4),
        "accuracy": evaluate(found, test.epoch(0), CPU),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-folder", required=True, help="folder of CIFAR-10")
    parser.add_argument("--weights", required=True, help="folder with cifar10_<network>.safetensors")
    parser.add_argument("--network", default="resnet20", help="catalog name")
    parser.add_argument("--zeros", type=float, default=0.0, help="percentage of weights to prune first")
    parser.add_argument(
        "--rates", default="0,0.0005,0.001,0.002,0.005,0.01", help="prices of one bit per weight, in nats of loss"
    )
    parser.add_argument("--train-images", type=int, default=0, help="training images of the one epoch; 0 for none")
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    given = parser.parse_args(arguments)
    data = load(DataSpec("cifar10", folder=given.data_folder, mean=MEAN, std=STD))
    ready = resources(data, given.train_images)
    spec = ModelSpec(given.network, weights=str(Path(given.weights, f"cifar10_{given.network}.safetensors")))
    network = Network(capture(build(spec, classes=10, channels=3), SHAPE)).eval()
    if given.zeros:
        network = Prune(budget=Budget(epochs=0), sparsity=given.zeros / 100).begin(network, ready).network.eval()
    for rate in map(float, given.rates.split(",")):
        found = line(network, rate, given, data, ready)
        text = json.dumps(found) if given.json else "  ".join(f"{key} {value}" for key, value in found.items())
        print(text, flush=True)


if __name__ == "__main__":
    main()
