"""The page of compression without training, made from the lines of ``benchmarks/without_training.py`` and from nothing else.

python benchmarks/without_training_page.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "without-training.jsonl"
PAGE = ROOT / "docs" / "studies" / "without-training.md"
DENSE = "float"

Line = Mapping[str, object]

HEAD = """<!-- Written by benchmarks/without_training_page.py from results/without-training.jsonl; do not edit. -->

# Pruning without training, on CIFAR-10

Pretrained networks lose weights and are quantized to 8 bits, from calibration images alone: no labels, no training. Accuracy
is that of the integers on the 10,000 test images; *drop* is in points against the float network. One seed, which chooses the
calibration images. *Fitted* means `compensate = true`: the weights that stay make up for those that leave. Every layer but the
first and the last loses the same share, unless the row says *over all layers*. Singly, 50 % cost next to nothing; in blocks,
scores of second order are better than magnitude, and equal shares are better here than one order over all layers.

```sh
python benchmarks/without_training.py --network resnet20 --weights FILE --data DIR --seeds 1 --calibration-images 1024 \\
    --only "50% of" --out results/without-training.jsonl    # adds lines
python benchmarks/without_training_page.py                  # writes this page
```
"""


def read(path: Path) -> list[Line]:
    """The stored lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    text = HEAD
    for network, images in sorted({(str(line["network"]), int(str(line["calibration_images"]))) for line in lines}):
        own = {
            str(line["case"]): _mean(line) for line in lines if (line["network"], line["calibration_images"]) == (network, images)
        }
        dense = own.pop(DENSE)
        text += (
            f"\n## {network}, {100 * dense:.2f} %, {images:,} calibration images\n\n| way | accuracy | drop |\n|---|---|---|\n"
        )
        for case, accuracy in own.items():
            text += f"| {case} | {100 * accuracy:.2f} % | {100 * (dense - accuracy):.2f} |\n"
    return text


def _mean(line: Line) -> float:
    found = line["accuracies"]
    assert isinstance(found, list)
    return sum(found) / len(found)


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
