"""Latency of INT8 against FP32: one network, its two deployed files, batch 1, in ONNX Runtime and OpenVINO.

    python benchmarks/inference.py [--network resnet18] [--weights FILE] [--size 32] [--threads 1,2] [--effort standard] [--json]

The network has random weights unless a file is given, and is quantized without training on random images: the time of a call does
not depend on the values of the weights. Both files take pixels. They are timed by the protocol of ``docs/measurement.md``,
interleaved in fresh processes, and the ratio is from paired rounds, with its 95 % interval. Also printed is how many
convolutions the runtime reports to compute in int8. Run it on a quiet machine.

Goals for resnet18 (CIFAR stem, 32x32), one thread: 2.0 in OpenVINO and 3.5 in ONNX Runtime, on a CPU with VNNI.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from estimates import Goal, verdict
from networks import prepare, random_pixels

from paretrim.bench.effort import EFFORTS
from paretrim.bench.machine import describe
from paretrim.bench.types import Latency
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.report import IntegerReport
from paretrim.deploy.runnable import integer_share
from paretrim.models.spec import ModelSpec
from paretrim.results.timing import RuntimeSetting, time_files

FP32, INT8 = "fp32", "int8"
GOALS = {("resnet18", "onnxruntime", 1): Goal(3.5), ("resnet18", "openvino", 1): Goal(2.0)}


def deployed(model: ModelSpec, *, size: int, classes: int, folder: Path) -> dict[str, Path]:
    """The float file and the integer file of one network, by name."""
    prepared = prepare(model, size=size, classes=classes)
    files = {FP32: folder / "fp32.onnx", INT8: folder / "int8.onnx"}
    for name, path in files.items():
        export_onnx(prepared.graph(quantized=name == INT8), path)
    return files


def goal_verdict(network: str, int8: Latency) -> str:
    """Whether the interval shows that the goal is reached; empty if there is none."""
    return verdict(int8.speedup, GOALS.get((network, int8.runtime, int8.threads)))


def row(network: str, size: int, fp32: Latency, int8: Latency, executed: IntegerReport) -> dict[str, object]:
    """One setting as plain values; estimates have value, low and high."""
    return {
        "network": network,
        "size": size,
        "runtime": int8.runtime,
        "version": int8.runtime_version,
        "threads": int8.threads,
        "fp32_ms": dataclasses.asdict(fp32.p50_ms),
        "int8_ms": dataclasses.asdict(int8.p50_ms),
        "ratio": dataclasses.asdict(int8.speedup),
        "floor": dataclasses.asdict(int8.floor),
        "convolutions": executed.convolutions,
        "convolutions_in_int8": executed.in_int8,
        "goal": goal_verdict(network, int8),
        "noise": list(int8.noise),
        "cpu": describe().cpu,
    }


def show(network: str, fp32: Latency, int8: Latency, executed: IntegerReport) -> None:
    """One setting in a line, and below it the noise of its session."""
    ratio, floor = int8.speedup, int8.floor
    print(
        f"{network:18} {int8.runtime:12} {int8.threads} thread{' ' if int8.threads == 1 else 's'} "
        f"{fp32.p50_ms.value:7.3f} -> {int8.p50_ms.value:7.3f} ms   {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] x   "
        f"A/A [{floor.low:.3f}, {floor.high:.3f}]   {executed.in_int8}/{executed.convolutions} convolutions in int8   "
        f"{goal_verdict(network, int8)}".rstrip()
    )
    for remark in int8.noise:
        print(f"    not quiet: {remark}")


def main() -> None:
    """Write the files, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18", help="a catalog name, or package.module:factory")
    parser.add_argument("--weights", help="a weights file for it")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--runtimes", default="onnxruntime,openvino")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--effort", choices=tuple(EFFORTS), default="standard")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    given = parser.parse_args()
    images = random_pixels(given.size)
    with tempfile.TemporaryDirectory() as folder:
        spec = ModelSpec(given.network, given.weights)
        files = deployed(spec, size=given.size, classes=given.classes, folder=Path(folder))
        for runtime in given.runtimes.split(","):
            executed = integer_share(files[INT8], runtime)
            for threads in map(int, given.threads.split(",")):
                setting = RuntimeSetting(runtime, threads)
                found = time_files(files, images, baseline=FP32, settings=[setting], effort=EFFORTS[given.effort])
                fp32, int8 = found[FP32][0], found[INT8][0]
                if given.json:
                    print(json.dumps(row(given.network, given.size, fp32, int8, executed)), flush=True)
                else:
                    show(given.network, fp32, int8, executed)


if __name__ == "__main__":
    main()
