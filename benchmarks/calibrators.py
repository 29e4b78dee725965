"""Every calibrator and every adjustment without training, on one pretrained network: accuracy of the ``.trim`` file.

    python benchmarks/calibrators.py --network resnet20 --weights FILE --data DIR --out results/calibrators.jsonl [--only TEXT]

Weights get 8 and 4 bits, activations 8. A calibrator chooses the ranges of both. Each line has the share of test images that the
native runtime classifies correctly from the file, the share of its decisions that are those of the network in float32, and the
bytes of the file. ``calibrators_page.py`` writes the page. Existing lines are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from number_formats import NONE, Images, add, opened

from paretrim.deploy.runnable import BATCH
from paretrim.deploy.write import write_graph
from paretrim.network.freeze import freeze
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.run.start import Start
from paretrim.runtime import load
from paretrim.stages.quantize.stage import Quantize

FLOAT = "float32"
STEPS = 1000
"""Steps of AdaRound for each layer."""

PLAIN = Quantize(budget=NONE)
CASES = {
    "mse, the default": PLAIN,
    "minmax": replace(PLAIN, calibrator="minmax"),
    "percentile 99.9": replace(PLAIN, calibrator="percentile", percentile=99.9),
    "percentile 99.99": replace(PLAIN, calibrator="percentile", percentile=99.99),
    "kl": replace(PLAIN, calibrator="kl"),
    **{f"mse, {name}": replace(PLAIN, adjust=(name,)) for name in ("joint", "equalize", "smooth", "bias", "batchnorm", "gptq")},
    "mse, adaround": replace(PLAIN, adjust=("adaround",), rounding_steps=STEPS),
}
"""The stage of every row."""

BITS = (8, 4)


def decided(trim: Path, images: Images) -> npt.NDArray[np.int64]:
    """The class [N] that the file gives each image [N, C, H, W]."""
    session = load(trim, measure=False)
    return np.concatenate([session(images[at : at + BATCH]).argmax(1) for at in range(0, len(images), BATCH)])


def candidates(start: Start, wanted: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int | None, Candidate]]:
    """The float network, then every wanted row with its bits, as it is asked for."""
    yield FLOAT, None, Candidate(start.network)
    for case, bits in wanted:
        yield case, bits, run_stage(Candidate(start.network), replace(CASES[case], weight_bits=bits), start.resources(None))


def main() -> None:
    """Measure every row that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument(
        "--weights", required=True, help="weights for CIFAR-10 images normalised with ImageNet's mean and deviation"
    )
    parser.add_argument("--data", help="folder of CIFAR-10")
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--only", default="", help="only rows whose names contain this")
    parser.add_argument(
        "--bits", type=int, nargs="*", default=BITS, help="widths of weights, in the order in which to measure them"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()] if given.out.exists() else []
    done = {(line["network"], line["case"], line["bits"]) for line in lines}
    start, images, labels = opened(given)
    expected: npt.NDArray[np.int64] | None = None
    asked = [(case, bits) for bits in given.bits for case in CASES if given.only in case]
    wanted = [(case, bits) for case, bits in asked if (given.network, case, bits) not in done]
    for case, bits, made in candidates(start, wanted):
        with tempfile.TemporaryDirectory() as folder:
            trim = write_graph(freeze(made.network, start.spec), Path(folder) / "model.trim")
            found, size = decided(trim, images), trim.stat().st_size
        expected = found if expected is None else expected
        line = {"network": given.network, "case": case, "bits": bits, "accuracy": float((found == labels).mean()), "bytes": size}
        line |= {"unchanged": float((found == expected).mean()), "images": len(images)}
        if (given.network, case, bits) not in done:
            add(given.out, line | {"calibration_images": given.calibration_images})


if __name__ == "__main__":
    main()
