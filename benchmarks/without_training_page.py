"""The page of compression without training, generated only from the lines of ``benchmarks/without_training.py``.

python benchmarks/without_training_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page_parts import Line, read

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "without-training.jsonl"
PAGE = ROOT / "docs" / "studies" / "without-training.md"
DENSE = "float"

HEAD = """<!-- Written by benchmarks/without_training_page.py from results/without-training.jsonl; do not edit. -->

# Pruning without training

Pretrained networks are pruned and quantized to 8 bits with calibration images only: no labels, no training. Accuracy is that of
the integers on test images: 10,000 of CIFAR-10, unless the table says otherwise. *Drop* is in points against the float network,
with its paired 95 % interval if it was measured. There is one seed, which chooses the calibration images. *Fitted* means
`compensate = true`: the remaining weights compensate for the pruned ones. Every layer except the first and the last has the same
sparsity, unless the row says *over all layers*. Half of the single weights cost almost nothing; for blocks, second-order scores
are better than magnitude, and on ResNet-20 and ResNet-56 uniform sparsity is better than one ranking over all layers.

```sh
python benchmarks/without_training.py --network resnet20 --weights FILE --data DIR --seeds 1 --calibration-images 1024 \\
    --only "50% of" --out results/without-training.jsonl    # adds lines
python benchmarks/without_training.py --network efficientnet-lite0 --data ARCHIVE --seeds 1 --calibration-images 256 \\
    --only "50% of" --out results/without-training.jsonl
python benchmarks/without_training_page.py                  # writes this page
```

EfficientNet-Lite0 is evaluated on ten classes of ImageNet, by its logits for these ten, at 224 pixels; test images are from
ImageNet's validation set ([imagenette.py](../../benchmarks/imagenette.py)). Its depthwise convolutions, first layer and head
are not pruned, so the sparsity is that of its pointwise weights. The other logits are left out because fitting to images of ten
classes biases the network towards these ten: among all 1,000 classes it would recognise more of them than before, which hides
what is lost. Rows of more than 256 weights lost several blocks at a time before the others were scored again (now more than 640).

`resnet18_imagenet` has the ImageNet stem and was trained here at 32x32 pixels for 16 epochs. Its last layers see maps of 2x2
pixels and of one, so many of their weights only ever multiply padding, and the fit leaves those out.
"""


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    text = HEAD
    for key in sorted({_of(line) for line in lines}):
        network, images = key
        own = {str(line["case"]): line for line in lines if _of(line) == key}
        dense = _mean(own.pop(DENSE))
        images_tested = next((f", {line['images']:,} test images" for line in lines if _of(line) == key and "images" in line), "")
        text += f"\n## {network}, {100 * dense:.2f} %, {images:,} calibration images{images_tested}\n\n"
        text += "| method | accuracy | drop |\n|---|---|---|\n"
        for case, line in own.items():
            text += f"| {case} | {100 * _mean(line):.2f} % | {100 * (dense - _mean(line)):.2f}{_interval(line)} |\n"
    return text


def _of(line: Line) -> tuple[str, int]:
    return str(line["network"]), int(str(line["calibration_images"]))


def _interval(line: Line) -> str:
    """The interval of a drop in points; empty if the line has none."""
    found = line.get("drop")
    if found is None:
        return ""
    assert isinstance(found, list)
    return f" [{100 * found[1]:.2f}, {100 * found[2]:.2f}]"


def _mean(line: Line) -> float:
    found = line["accuracies"]
    assert isinstance(found, list)
    return sum(found) / len(found)


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
