"""The page of calibrators and adjustments, generated only from the lines of ``benchmarks/calibrators.py``.

python benchmarks/calibrators_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page_parts import Line, number, read

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "calibrators.jsonl"
PAGE = ROOT / "docs" / "studies" / "calibrators.md"
FLOAT = "float32"

HEAD = """<!-- Written by benchmarks/calibrators_page.py from results/calibrators.jsonl; do not edit. -->

# Calibrators and adjustments, without training

Every calibrator and every adjustment of the `quantize` stage, on networks with published weights for CIFAR-10
(akamaster/pytorch_resnet_cifar10). Nothing is trained. Weights have 8 or 4 bits, activations 8; the calibrator chooses the ranges
of both, and the rows behind a comma adjust what `mse` has chosen. Accuracy is that of the `.trim` file in the native runtime on
{images:,} test images; *unchanged* is the share of its decisions that are those of float32. One image is {one:.2f} points, and
there is one draw of {calibration} calibration images, so differences below about 0.2 points mean little. `adaround` takes 1,000
steps for each layer. Biases make up for the error of rounded weights, except in the rows that correct means or choose the
rounding themselves ([quantization](../quantization.md#quantizing-without-training)). A dash, or a row that is missing, was not
measured yet.

```sh
python benchmarks/calibrators.py --network resnet20 --weights FILE --data DIR --out results/calibrators.jsonl
python benchmarks/calibrators_page.py   # writes this page
```
"""


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    images, calibration = (int(number(lines[0], name)) for name in ("images", "calibration_images"))
    text = HEAD.format(images=images, one=100 / images, calibration=calibration)
    for network in dict.fromkeys(str(line["network"]) for line in lines):
        own = {(str(line["case"]), line["bits"]): line for line in lines if line["network"] == network}
        dense = own.pop((FLOAT, None))
        bits = sorted({wide for _, wide in own if isinstance(wide, int)}, reverse=True)
        text += f"\n## {network}, {100 * number(dense, 'accuracy'):.2f} % in float32\n\n"
        columns = [name for wide in bits for name in (f"{wide}-bit weights", "unchanged", "bytes")]
        text += f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}\n"
        for case in dict.fromkeys(name for name, _ in own):
            cells = [cell for wide in bits for cell in _cells(own.get((case, wide)))]
            text += f"| {case} | {' | '.join(cells)} |\n"
    return text


def _cells(line: Line | None) -> tuple[str, ...]:
    """Accuracy, unchanged decisions and bytes; dashes where nothing was measured."""
    if line is None:
        return ("-",) * 3
    return (
        f"{100 * number(line, 'accuracy'):.2f} %",
        f"{100 * number(line, 'unchanged'):.2f} %",
        f"{int(number(line, 'bytes')):,}",
    )


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
