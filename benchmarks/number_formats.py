"""Every number format on one pretrained network, without training: accuracy, bytes and latency of the files.

    python benchmarks/number_formats.py --network resnet56 --weights FILE --data DIR --out results/number-formats.jsonl
    python benchmarks/number_formats.py --network resnet56 --out results/number-formats.jsonl --latency [--threads 1]

The first call quantizes to every format with the default settings of the stage, writes the ``.trim`` and the ONNX file under
``--folder`` and adds a line for each: accuracy of the ``.trim`` file on the test images, and bytes of both files, or why there is
no ONNX file. The second, on a quiet machine, times the files of all formats in one interleaved session per runtime, and adds
milliseconds and the ratio to float32 in the same runtime. ``number_formats_page.py`` writes the page. Existing lines are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from imagenette import NETWORK as EFFICIENTNET
from imagenette import start_and_test
from networks import random_pixels

from paretrim.bench.effort import EFFORTS
from paretrim.bench.machine import describe
from paretrim.deploy.runnable import BATCH
from paretrim.deploy.write import write_graph
from paretrim.errors import ExportMismatch
from paretrim.graph.types import Graph
from paretrim.network.freeze import freeze
from paretrim.results.timing import RuntimeSetting, time_files
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import Start, start_from
from paretrim.runtime import load
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution

EXECUTION = Execution(device="cpu", precision="float32")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FLOAT = "float32"
NONE = Budget(epochs=0)
Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
WEIGHTS = Quantize(budget=NONE, activations="float32")
INT8 = Quantize(budget=NONE)
CASES = {
    "float16 weights": replace(WEIGHTS, formats={"*": Format(grid="float16")}),
    "bfloat16 weights": replace(WEIGHTS, formats={"*": Format(grid="bfloat16")}),
    "8-bit weights, float32 activations": WEIGHTS,
    "8 bits": INT8,
    "6-bit weights, 8-bit activations": replace(INT8, weight_bits=6),
    "4-bit weights, 8-bit activations": replace(INT8, weight_bits=4),
    "4-bit weights in groups of 32, 8-bit activations": replace(INT8, formats={"*": Format(grid="grouped", bits=4)}),
    "4-bit weights by GPTQ, 8-bit activations": replace(INT8, weight_bits=4, adjust=("gptq",)),
    "codebooks of 16 values, 8-bit activations": replace(INT8, formats={"*": Format(grid="codebook", bits=4)}),
    "3-bit weights by GPTQ, 8-bit activations": replace(INT8, weight_bits=3, adjust=("gptq",)),
}
"""Every format by its name. Two bits, ternary weights and powers of two need training."""


def folder_of(folder: Path, network: str, case: str) -> Path:
    """The folder of the two files of a case."""
    return folder / network / case.replace(",", "").replace(" ", "-")


def accuracy_of(trim: Path, images: Images, labels: npt.NDArray[np.int64]) -> float:
    """Share of the images [N, C, H, W] that the ``.trim`` file classifies as their labels [N]."""
    session = load(trim, measure=False)
    parts = [session(images[at : at + BATCH]).argmax(1) for at in range(0, len(images), BATCH)]
    return float((np.concatenate(parts) == labels).mean())


def opened(given: argparse.Namespace) -> tuple[Start, Images, npt.NDArray[np.int64]]:
    """The network in float32 with its calibration images, and test images as its files take them, with labels."""
    if given.network == EFFICIENTNET:
        start, batches = start_and_test(Path(given.data), given.calibration_images, EXECUTION)
        images, labels = torch.cat([one.inputs for one in batches]), torch.cat([one.labels for one in batches])
        return start, images.numpy(), labels.numpy()
    data = {"name": "cifar10", **IMAGENET, **({"folder": given.data} if given.data else {})}
    recipe = parse_recipe({"model": {"network": given.network, "weights": given.weights}, "data": data})
    start, test = start_from(replace(recipe, execution=EXECUTION, calibration_images=given.calibration_images))
    return start, test.images, test.labels


def written(graph: Graph, folder: Path) -> dict[str, int | str]:
    """Write both files and return their sizes, or why there is no ONNX file."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, int | str] = {"bytes": write_graph(graph, folder / "model.trim").stat().st_size}
    try:
        return facts | {"onnx_bytes": write_graph(graph, folder / "model.onnx").stat().st_size}
    except ExportMismatch as error:
        return facts | {"onnx_problem": str(error)}


def accuracies(given: argparse.Namespace, done: set[tuple[str, ...]]) -> None:
    """Add missing lines of accuracy and bytes."""
    start, images, labels = opened(given)
    for case, stage in {FLOAT: None, **CASES}.items():
        if given.only not in case:
            continue
        folder = folder_of(given.folder, given.network, case)
        if ("accuracy", given.network, case) in done and (folder / "model.trim").is_file():
            continue
        found = Candidate(start.network)
        if stage is not None:
            found = run_stage(found, stage, start.resources(None))
        facts = written(freeze(found.network, start.spec), folder)
        right = accuracy_of(folder / "model.trim", images, labels)
        if ("accuracy", given.network, case) not in done:
            line = {"kind": "accuracy", "network": given.network, "case": case, "accuracy": right, **facts}
            add(given.out, line | {"images": len(images), "calibration_images": given.calibration_images})


def latencies(given: argparse.Namespace, done: set[tuple[str, ...]]) -> None:
    """Add lines of latency for runtimes that have none for this network."""
    folders = {case: folder_of(given.folder, given.network, case) for case in (FLOAT, *CASES)}
    files = {case: folder / "model.onnx" for case, folder in folders.items() if (folder / "model.trim").is_file()}
    for runtime in given.runtimes.split(","):
        if ("latency", given.network, FLOAT, runtime) in done:
            continue
        setting = RuntimeSetting(runtime, given.threads)
        found = time_files(files, random_pixels(32), baseline=FLOAT, settings=[setting], effort=EFFORTS[given.effort])
        for case, (latency, *_) in ((case, timed) for case, timed in found.items() if timed):
            facts = {"kind": "latency", "network": given.network, "case": case, "runtime": runtime, "threads": given.threads}
            facts |= {"p50_ms": dataclasses.asdict(latency.p50_ms), "speedup": dataclasses.asdict(latency.speedup)}
            facts |= {"floor": dataclasses.asdict(latency.floor), "noise": list(latency.noise), "cpu": describe().cpu}
            add(given.out, facts)


def add(out: Path, facts: Mapping[str, object]) -> None:
    """Add a line to the file."""
    with out.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(facts) + "\n")


def main() -> None:
    """Measure every case that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--weights", help="weights for CIFAR-10 images normalised with ImageNet's mean and deviation")
    parser.add_argument("--data", help="folder of CIFAR-10, or the archive of ImageNet images")
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--only", default="", help="only cases whose names contain this")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/number-formats"))
    parser.add_argument("--latency", action="store_true", help="time the files of an earlier call")
    parser.add_argument("--runtimes", default="paretrim,onnxruntime,openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--effort", choices=tuple(EFFORTS), default="standard")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()] if given.out.exists() else []
    keys = ("kind", "network", "case", "runtime")
    done = {tuple(line[key] for key in keys if key in line) for line in lines}
    (latencies if given.latency else accuracies)(given, done)


if __name__ == "__main__":
    main()
