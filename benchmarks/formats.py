"""Number formats of layers on digits: test accuracy and bytes of the .trim file after quantization with each, over seeds.

    python benchmarks/formats.py [--seeds 3] [--epochs 6] [--folder runs/formats] [--cases CASE ...] [--json]

The dense ResNet-20 of every seed trains for 15 epochs and is quantized with every mixture of formats, in float32 on the CPU.
"Ends" are the first and the last layer. About 25 minutes on one core. An interrupted run continues in its folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from paretrim import trimfile
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.recipe import read_recipe
from paretrim.run.start import start_from
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution

RECIPE = Path(__file__).parent.parent / "recipes" / "digits.toml"
EXECUTION = Execution(device="cpu", precision="float32")
ENDS = {"conv1": Format(bits=8), "linear": Format(bits=8)}
CHOICES = (Format(bits=2), Format(bits=3), Format(bits=4), Format(bits=6), Format(bits=8))
CASES = {
    "8 bits": Quantize(),
    "8 bits, activations clipped": Quantize(activations="clipped"),
    "4 bits": Quantize(weight_bits=4),
    "ends 8 bits, others 4": Quantize(weight_bits=4, formats=ENDS),
    "ends 8 bits, others 2": Quantize(weight_bits=2, formats=ENDS),
    "ends 8 bits, others ternary": Quantize(formats={**ENDS, "*": Format(grid="ternary")}),
    "all ternary": Quantize(formats={"*": Format(grid="ternary")}),
    "ends 8 bits, others 4, LSQ's first steps": Quantize(weight_bits=4, formats=ENDS, calibrator="lsq"),
    "ends 8 bits, others 4, LSQ+": Quantize(weight_bits=4, formats=ENDS, calibrator="lsq+", activations="offset"),
    "ends 8 bits, others DoReFa, 4 bits": Quantize(formats={**ENDS, "*": Format(grid="dorefa", bits=4)}),
    "codebooks, 4 bits": Quantize(formats={"*": Format(grid="codebook", bits=4)}),
    "powers of two, 5 bits": Quantize(formats={"*": Format(grid="powers", bits=5)}),
    "ends 8 bits, others trained ternary": Quantize(formats={**ENDS, "*": Format(grid="trained-ternary")}),
    "2.02 bits a weight by Hessian trace": Quantize(mixed=Mixture(bits=2.02, choices=CHOICES)),
    "3 bits": Quantize(weight_bits=3),
    "3 bits a weight by Hessian trace": Quantize(mixed=Mixture(bits=3.0, choices=CHOICES)),
    "2, 3 or 4 bits by variance": Quantize(mixed=Mixture(by="variance", choices=CHOICES[:3])),
}


def main() -> None:
    """Train, quantize and print a line for every mixture of formats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of quantization-aware training")
    parser.add_argument("--folder", type=Path, default=Path("runs/formats"))
    parser.add_argument(
        "--cases", nargs="*", default=list(CASES), choices=CASES, metavar="CASE", help="cases to run; all by default"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    given = parser.parse_args()
    found: dict[str, list[tuple[float, int]]] = {case: [] for case in given.cases}
    for seed in range(given.seeds):
        folder = given.folder / str(seed)
        dense, test = start_from(replace(read_recipe(RECIPE), seed=seed, execution=EXECUTION))
        start = train_dense(dense, Budget(epochs=15, learning_rate=0.1), folder)
        device = start.resources(None).execution.torch_device()
        for case in given.cases:
            last = run_stages(start, (replace(CASES[case], budget=Budget(epochs=given.epochs)),), folder)[-1]
            assert last.integers is not None
            right = evaluate(last.network, test.batches.epoch(0), device, integers=last.integers)
            found[case].append((right, len(trimfile.to_bytes(last.integers))))
    for case, runs in found.items():
        if given.json:
            print(json.dumps({"case": case, "accuracies": [right for right, _ in runs], "bytes": [size for _, size in runs]}))
        else:
            mean, size = (sum(values) / len(runs) for values in zip(*runs, strict=True))
            each = " ".join(f"{100 * right:.1f}" for right, _ in runs)
            print(f"{case:42} {100 * mean:6.2f} %  ({each})  {size / 1000:7.1f} kB")


if __name__ == "__main__":
    main()
