"""The page of number formats, generated only from the lines of ``benchmarks/number_formats.py``.

python benchmarks/number_formats_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page_parts import Line, number, read

from paretrim.intervals import accuracy_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "number-formats.jsonl"
PAGE = ROOT / "docs" / "studies" / "number-formats.md"
RUNTIMES = {"paretrim": "Paretrim", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
IMAGES = 10_000

HEAD = """<!-- Written by benchmarks/number_formats_page.py from results/number-formats.jsonl; do not edit. -->

# Number formats, without training

Pretrained networks in number formats that need no training, with the default settings of the stage. Accuracy is that of the
`.trim` file on the 10,000 test images of CIFAR-10. EfficientNet-Lite0 is judged on images of ImageNet's validation set, of ten
classes, by its logits for these ten ([imagenette.py](../../benchmarks/imagenette.py)). An accuracy of 92 % on 10,000 images has a
95 % interval of ±{half:.1f} points, but files of one network misclassify mostly the same images, so differences between them are
more certain than that. Bytes are those of whole files. Weights of fewer than 8 bits are unpacked to 8 when a file is opened, and
the ONNX files here store them in 8 bits: fewer bits make the `.trim` file smaller, but nothing faster.

```sh
python benchmarks/number_formats.py --network resnet56 --weights FILE --data DIR --out results/number-formats.jsonl
python benchmarks/number_formats.py --network efficientnet-lite0 --data ZIP --calibration-images 64 --out LINES
python benchmarks/number_formats.py --network resnet56 --out results/number-formats.jsonl --latency   # on a quiet machine
python benchmarks/number_formats_page.py                                                              # writes this page
```
"""

TIMED = """
Latency of one image on {threads} thread: speed-up over float32 in the same runtime, with its 95 % interval (above 1 is faster;
float32 is in milliseconds). {cpu}. The three runtimes were measured in separate sessions.
"""


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    typical = accuracy_interval(round(0.92 * IMAGES), IMAGES)
    text = HEAD.format(half=100 * (typical.high - typical.low) / 2)
    for network in dict.fromkeys(str(line["network"]) for line in lines):
        own = [line for line in lines if line["network"] == network]
        timed = [line for line in own if line["kind"] == "latency"]
        text += f"\n## {network}{_images(own[0])}\n" + (_how_timed(timed) if timed else "") + "\n" + _table(own, timed)
    return text


def _images(line: Line) -> str:
    """How many images tested and calibrated, where that is not as usual."""
    if line.get("images", IMAGES) == IMAGES:
        return ""
    return f", {number(line, 'images'):,.0f} test images, {number(line, 'calibration_images'):,.0f} calibration images"


def _table(own: Sequence[Line], timed: Sequence[Line]) -> str:
    found = [line for line in own if line["kind"] == "accuracy"]
    dense = number(found[0], "accuracy")
    runtimes = [name for name in RUNTIMES if any(line["runtime"] == name for line in timed)]
    headings = ["format", "accuracy", "change", "`.trim` bytes", "ONNX bytes", *(RUNTIMES[name] for name in runtimes)]
    rows = [headings, ["---"] * len(headings)]
    for line in found:
        accuracy = number(line, "accuracy")
        onnx = f"{number(line, 'onnx_bytes'):,.0f}" if "onnx_bytes" in line else "none"
        cells = [
            str(line["case"]),
            f"{100 * accuracy:.2f} %",
            f"{100 * (accuracy - dense):+.2f}",
            f"{number(line, 'bytes'):,.0f}",
            onnx,
        ]
        rows.append([*cells, *(_latency(timed, str(line["case"]), name, line is found[0]) for name in runtimes)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _latency(timed: Sequence[Line], case: str, runtime: str, is_baseline: bool) -> str:
    for line in timed:
        if (line["case"], line["runtime"]) == (case, runtime):
            if is_baseline:
                return f"{number(_part(line, 'p50_ms'), 'value'):.3f} ms"
            value, low, high = (number(_part(line, "speedup"), name) for name in ("value", "low", "high"))
            return f"{value:.2f} ({low:.2f} to {high:.2f})"
    return "–"


def _how_timed(timed: Sequence[Line]) -> str:
    text = TIMED.format(threads=timed[0]["threads"], cpu=timed[0]["cpu"])
    remarks = sorted({str(remark) for line in timed for remark in _listed(line, "noise")})
    return text + (f"Not quiet: {'; '.join(remarks)}.\n" if remarks else "")


def _part(line: Line, name: str) -> Line:
    found = line[name]
    assert isinstance(found, dict)
    return found


def _listed(line: Line, name: str) -> list[object]:
    found = line[name]
    assert isinstance(found, list)
    return found


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
