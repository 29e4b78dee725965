"""Cost of a training step: this package's loop against a hand-written one; QAT and distillation against plain training.

    python benchmarks/training.py [--network resnet20] [--rounds 12] [--steps 6] [--batch 128] [--compile] [--json]

Every workload is a block of training steps on the same batches. All run in one process, in an order shuffled every round; printed
are medians of the paired ratios with bootstrap intervals, one process. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from estimates import median
from torch import Tensor, nn
from turns import seconds_in_turn

from paretrim.capture import capture
from paretrim.data.batches import Batch, TrainBatches
from paretrim.data.types import ImageSet
from paretrim.models.spec import ModelSpec, build
from paretrim.network.network import Network
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.fit import Plan, fit
from paretrim.train.resources import Resources
from paretrim.train.teacher import StoredTeacher

MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Few:
    """The first ``steps`` batches of an epoch, made once, so that only training is timed."""

    batches: tuple[Batch, ...]

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.batches[0].inputs.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, _number: int, /) -> Iterator[Batch]:
        """The same batches every time."""
        return iter(self.batches)


def hand_written(module: nn.Module, few: Few, execution: Execution) -> Callable[[], None]:
    """The loop that a practitioner would write: autocast, channels-last, SGD."""
    device = execution.torch_device()
    module = module.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    forward = torch.compile(module) if execution.compile else module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def block() -> None:
        for batch in few.batches:
            with execution.autocast():
                loss = F.cross_entropy(forward(batch.inputs).float(), batch.labels)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        float(loss)

    return block


def stage_block(network: Network, stage: Stage, resources: Resources) -> Callable[[], None]:
    """One block of Paretrim's own loop under the constraints of ``stage``.

    Schedules stay at half progress: a stage updates them only a hundred times in its budget, so they are not part of a step's
    cost.
    """
    training = stage.begin(network, resources)
    stage.advance(training, 0.5)

    def block() -> None:
        fit(training, Plan(stage.name, stage.budget, stage.losses(resources), lambda _: None))

    return block


def workloads(network_name: str, batch: int, steps: int, execution: Execution, folder: Path) -> dict[str, Callable[[], None]]:
    """Everything that is timed, by name."""
    torch.manual_seed(0)
    device = execution.torch_device()
    images = ImageSet(
        torch.randint(0, 256, (batch * steps, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (batch * steps,))
    )
    source = TrainBatches(images=images, batch_size=batch, mean=MEAN, std=STD, crop_padding=4, flip=True, device=device)
    few = Few(tuple(source.epoch(0)))
    module = build(ModelSpec(network_name), classes=10, channels=3)
    network = Network(capture(module, (3, 32, 32)))
    calibration: Tensor = few.batches[0].inputs[:64].cpu()
    resources = Resources(lambda _: few, few, calibration, execution, 0)
    teacher = StoredTeacher(network, execution, images=len(images), classes=10, folder=folder)
    budget = Budget(epochs=1, batch_size=batch)
    return {
        "hand-written loop": hand_written(module, few, execution),
        "fine-tune": stage_block(network, FineTune(budget=budget), resources),
        "quantize (QAT)": stage_block(network, Quantize(budget=budget), resources),
        "distill, stored logits": stage_block(network, Distill(budget=budget), replace(resources, teacher=teacher)),
    }


def _clock() -> float:
    """Wall time in seconds, after the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


COMPARED = (
    ("fine-tune", "hand-written loop"),
    ("quantize (QAT)", "fine-tune"),
    ("distill, stored logits", "fine-tune"),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    execution = Execution(device=given.device, compile=given.compile)
    with tempfile.TemporaryDirectory() as folder:
        blocks = workloads(given.network, given.batch, given.steps, execution, Path(folder))
        seconds = seconds_in_turn(blocks, given.rounds, clock=_clock)
    for name, other in COMPARED:
        ratio = median([a / b for a, b in zip(seconds[name], seconds[other], strict=True)])
        row = {
            "network": given.network,
            "device": str(execution.torch_device()),
            "bfloat16": execution.bfloat16(),
            "compile": given.compile,
            "workload": name,
            "over": other,
            "ratio": ratio.value,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "step_ms": 1000 * float(np.median(seconds[name])) / given.steps,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if given.json:
            print(json.dumps(row))
        else:
            print(f"{name:24} {row['step_ms']:8.1f} ms   {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] x {other}")


if __name__ == "__main__":
    main()
