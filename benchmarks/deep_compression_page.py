"""The page of Deep Compression, generated only from the lines of ``benchmarks/deep_compression.py``.

python benchmarks/deep_compression_page.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from page_parts import Line, number, read

from paretrim.intervals import Estimate, mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "deep-compression.jsonl"
PAGE = ROOT / "docs" / "studies" / "deep-compression.md"

HEAD = """<!-- Written by benchmarks/deep_compression_page.py from results/deep-compression.jsonl; do not edit. -->

# Deep Compression on digits

Han et al. 2016 make LeNet-300-100 40 times and LeNet-5 39 times smaller on MNIST, without loss: they prune in two steps, quantize
the remaining weights to 32 values per layer (256 in convolutions), train those values, and code the result. Here the same stages
run on scikit-learn's digits (8x8 pixels, enlarged to the 28x28 of the networks; {images} test images, so one image is
{one:.2f} points). *Rate* prunes in the same way, then trains 8-bit weights whose coded bits have a price; the number is that
price. *Times* is the size of the parameters in float32 over that of the whole `.trim` file. Intervals are Student's (95 %) over
{seeds} seeds; *change* is in points against the float network of the same seed.

LeNet-300-100 trains for 60 epochs, 60 in each pruning and 10 on its grids; LeNet-5 for 30, 10, 10 and 5. The longer training was
chosen on validation images of three other seeds: with the shorter one LeNet-300-100 lost 0.9 points there, and its float network
was 3 points worse. Gains are those of the training in the stages: this does not say that pruning helps. LeNet-5 was measured
before the values of codebooks were held to small steps ([decision 53](../decisions/0053-trained-scales-change-slowly.md)).

```sh
python benchmarks/deep_compression.py --out results/deep-compression.jsonl   # makes the lines that are missing
python benchmarks/deep_compression_page.py                                   # writes this page
```
"""


def times_smaller(lines: Sequence[Line]) -> Estimate:
    """Float parameters over the file, with its interval over seeds."""
    return mean_interval([number(line, "float_bytes") / number(line, "bytes") for line in lines])


def change(lines: Sequence[Line]) -> Estimate:
    """Change of accuracy relative to the float network of the same seed, a fraction with its interval."""
    return mean_interval([number(line, "accuracy") - number(line, "float") for line in lines])


def by_network(lines: Sequence[Line]) -> dict[str, dict[str, list[Line]]]:
    """The lines by network and method, in their order."""
    found: dict[str, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[str(line["network"])][str(line["way"])].append(line)
    return found


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    images, seeds = int(number(lines[0], "images")), len({line["seed"] for line in lines})
    text = HEAD.format(images=images, one=100 / images, seeds=seeds)
    for network, ways in by_network(lines).items():
        text += f"\n## {network}\n\n| way | accuracy | change | bytes | times |\n|---|---|---|---|---|\n"
        for way, own in ways.items():
            accuracy, changed, smaller = (
                mean_interval([number(line, "accuracy") for line in own]),
                change(own),
                times_smaller(own),
            )
            size = sum(number(line, "bytes") for line in own) / len(own)
            text += (
                f"| {way} | {100 * accuracy.value:.1f} ± {100 * (accuracy.high - accuracy.value):.1f} % "
                f"| {100 * changed.value:+.2f} [{100 * changed.low:+.2f}, {100 * changed.high:+.2f}] "
                f"| {size:,.0f} | {smaller.value:.1f} ± {smaller.high - smaller.value:.1f} |\n"
            )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
