"""The page of allocations of zeros to layers, generated only from the lines of ``benchmarks/allocations.py``.

python benchmarks/allocations_page.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from page_parts import Line, number, read

from paretrim.intervals import mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "allocations.jsonl"
PAGE = ROOT / "docs" / "studies" / "allocations.md"

HEAD = """<!-- Written by benchmarks/allocations_page.py from results/allocations.jsonl; do not edit. -->

# Which layers should lose blocks, at equal time

Zeros in 1x4 blocks serve to save time, so allocations are compared at equal time, not at equal sparsity. The time of the
remaining blocks is estimated: a block takes 12.3 ps for each position of its layer's output, plus the time of 11 more to read it
(`stages/prune/block_costs.py`, from measured layers). Nothing was timed here. *Against global* is the difference in points,
paired by seed, with Student's 95 % interval. `cost` ranks blocks by squared score per position; *with reading* also counts the
11 positions; `speed` ranks LAMP scores by the same cost, and is the default of `compress` for blocks
([decision 23](../decisions/0023-blocks-are-split-by-speed.md)).

```sh
python benchmarks/allocations.py --out results/allocations.jsonl                                  # digits, five seeds
python benchmarks/allocations.py --out results/allocations.jsonl --weights FILE --data DIR        # the pretrained ResNet-20
python benchmarks/allocations.py --out results/allocations.jsonl --images ARCHIVE                 # EfficientNet-Lite0
python benchmarks/allocations_page.py                                                             # writes this page
```
"""

ABOUT = {
    "small ResNet, digits": "{reference:.0%} zeros by `global`; one-shot magnitude pruning, 4 epochs, FP32, 360 test images",
    "ResNet-20, CIFAR-10": "{reference:.0%} zeros in every layer; second-order pruning and fit on 256 images, no training, FP32, "
    "5,000 validation images, which the pretrained network has seen",
    "EfficientNet-Lite0, ten classes of ImageNet": "{reference:.0%} zeros in every layer; second-order pruning and fit on 256 "
    "images, no training, FP32, 500 validation images, which the pretrained network has seen",
}


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    tables: dict[tuple[str, float], dict[str, dict[int, Line]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        tables[str(line["network"]), number(line, "zeros_of_reference")][str(line["split"])][int(str(line["seed"]))] = line
    text = HEAD
    for (network, reference), splits in sorted(tables.items()):
        seeds = max(map(len, splits.values()))
        text += f"\n## {network}: the time of {ABOUT[network].format(reference=reference)}, {seeds} seed{'s' * (seeds > 1)}\n\n"
        text += "| split | zeros | accuracy | against global |\n|---|---|---|---|\n"
        for split, found in splits.items():
            zeros, accuracy = (sum(number(line, key) for line in found.values()) / len(found) for key in ("zeros", "accuracy"))
            text += f"| {split} | {100 * zeros:.1f} % | {100 * accuracy:.2f} % | {_against(found, splits['global'])} |\n"
    return text


def _against(found: Mapping[int, Line], other: Mapping[int, Line]) -> str:
    if found is other:
        return "–"
    differences = [100 * (number(line, "accuracy") - number(other[seed], "accuracy")) for seed, line in found.items()]
    if len(differences) == 1:
        return f"{differences[0]:+.2f}"
    gain = mean_interval(differences)
    return f"{gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
