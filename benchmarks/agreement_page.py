"""The page of agreement between runtimes, generated only from the lines of ``benchmarks/agreement.py``.

python benchmarks/agreement_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page_parts import Line, read

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "agreement.jsonl"
PAGE = ROOT / "docs" / "studies" / "agreement.md"

HEAD = """<!-- Written by benchmarks/agreement_page.py from results/agreement.jsonl; do not edit. -->

# Do the runtimes agree?

Trained networks, quantized to 8 bits without training, as `model.trim` in the native runtime and as `model.onnx` in ONNX
Runtime and OpenVINO. The column of a runtime shows for how many test images it predicts the same class as the reference
interpreter. *Same bits* says whether all logits of the native runtime equal the interpreter's bit for bit. *Differs at* names the
first node whose integers differ from the interpreter's, and the share of its values that differ; all later nodes inherit the
difference. It is measured on 16 images, including those with another class. To expose its values OpenVINO may fuse fewer
operations than usual. So if a class differs but no node does, a fused operation has rounded once less.

The small networks are trained on 8x8 digits for 30 epochs, with one seed; the residual networks are pretrained on CIFAR-10.
Accuracy is measured on the images in the table.

```sh
python benchmarks/agreement.py --out results/agreement.jsonl
python benchmarks/agreement.py --pretrained DIR --data DIR --images 500 --out results/agreement.jsonl    # adds lines
python benchmarks/agreement_page.py                                                                      # writes this page
```
"""

COLUMNS = ("network", "images", "float", "8 bits", "native", "same bits", "ONNX Runtime", "differs at", "OpenVINO", "differs at")


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    rows = "".join(map(_row, lines))
    versions = sorted({_versions(line) for line in lines})
    head = f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    return HEAD + head + rows + f"\nVersions: {'; '.join(versions)}.\n"


def _row(line: Line) -> str:
    agreeing, first = line["agreeing"], line["first_nodes"]
    assert isinstance(agreeing, dict)
    assert isinstance(first, dict)
    shares = [f"{agreeing[runtime]} of {line['images']}" for runtime in ("native", "onnxruntime", "openvino")]
    where = [_first(first[runtime]) for runtime in ("onnxruntime", "openvino")]
    accuracy = [f"{100 * _number(line[name]):.1f} %" for name in ("dense_accuracy", "accuracy")]
    bits = "yes" if line["same_bits"] else "no"
    cells = [
        f"{line['network']}, {line['data']}",
        str(line["images"]),
        *accuracy,
        shares[0],
        bits,
        shares[1],
        where[0],
        shares[2],
        where[1],
    ]
    return f"| {' | '.join(cells)} |\n"


def _first(node: object) -> str:
    return f"`{node['name']}` ({node['operation']}), {100 * node['share']:.2g} %" if isinstance(node, dict) else "none"


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value


def _versions(line: Line) -> str:
    found = line["versions"]
    assert isinstance(found, dict)
    return f"ONNX Runtime {found['onnxruntime']}, OpenVINO {found['openvino']}"


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
