"""The page of mixed precision, generated only from the lines of ``benchmarks/mixed_precision.py``.

python benchmarks/mixed_precision_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page_parts import Line, number, read

from paretrim.intervals import Estimate, mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "mixed-precision.jsonl"
PAGE = ROOT / "docs" / "studies" / "mixed-precision.md"
FLOAT = "float"
MATCHED = ", bits as "
"""Between a method and the case whose bits are its budget."""

HEAD = """<!-- Written by benchmarks/mixed_precision_page.py from results/mixed-precision.jsonl; do not edit. -->

# Mixed precision at equal bits, without training

Which choice of bits per layer keeps the most accuracy? Pretrained networks for CIFAR-10 are quantized without training: weights
have 2 to 8 bits, depending on the layer, and activations 8. *By name* keeps the first and the last layer at 8 bits. *By variance*
gives more bits to layers whose outputs vary more. *By Hessian trace* (HAWQ-V2) and *by divergence* (ZeroQ) choose from 2, 3, 4, 6
and 8 bits, with the bits of the row above them as the budget. Accuracy is that of the integers on the 10,000 test images, with
Student's interval (95 %) over {seeds} draws of calibration images. *Against* is the difference in points to the row whose bits it
has as the budget, paired by draw. Bits per weight are counted before the file is coded; bytes are those of the whole file.

```sh
python benchmarks/mixed_precision.py --network resnet20 --weights FILE --data DIR --out results/mixed-precision.jsonl
python benchmarks/mixed_precision_page.py   # writes this page
```
"""


COLUMNS = """| method | bits per weight | bytes | accuracy | against |
|---|---|---|---|---|
"""


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    text = HEAD.format(seeds=" or ".join(map(str, sorted({len(by_case(lines, one)[FLOAT]) for one in networks(lines)}))))
    for network in networks(lines):
        cases = by_case(lines, network)
        dense = number(cases.pop(FLOAT)[0], "accuracy")
        text += f"\n## {network}, {100 * dense:.2f} % in float32\n\n{COLUMNS}"
        for case, own in cases.items():
            way, _, other = case.partition(MATCHED)
            against = points(difference(own, cases[other])) if other else ""
            bits, size, accuracy = (_mean(own, key) for key in ("bits_a_weight", "bytes", "accuracy"))
            title = f"{way}, as many bits" if other else case
            text += f"| {title} | {bits.value:.2f} | {size.value:,.0f} | {_percent(accuracy)} | {against} |\n"
    return text


def networks(lines: Sequence[Line]) -> list[str]:
    """The networks, in the order of their lines."""
    return list(dict.fromkeys(str(line["network"]) for line in lines))


def by_case(lines: Sequence[Line], network: str) -> dict[str, list[Line]]:
    """The lines of a network by case, each list ordered by seed."""
    found: dict[str, list[Line]] = {}
    for line in sorted((line for line in lines if line["network"] == network), key=lambda line: number(line, "seed")):
        found.setdefault(str(line["case"]), []).append(line)
    return found


def difference(one: Sequence[Line], other: Sequence[Line]) -> Estimate:
    """Accuracy of one case less that of another, paired by seed."""
    return mean_interval([number(mine, "accuracy") - number(its, "accuracy") for mine, its in zip(one, other, strict=True)])


def points(value: Estimate) -> str:
    """A difference in points with its interval."""
    return f"{100 * value.value:+.2f} [{100 * value.low:+.2f}, {100 * value.high:+.2f}]"


def _mean(lines: Sequence[Line], name: str) -> Estimate:
    return mean_interval([number(line, name) for line in lines])


def _percent(value: Estimate) -> str:
    return f"{100 * value.value:.2f} ± {100 * (value.high - value.value):.2f} %"


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
