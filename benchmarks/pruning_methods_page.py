"""The pages of the pruning methods, generated only from the lines of ``benchmarks/pruning_methods.py``.

python benchmarks/pruning_methods_page.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from page_parts import Line, number, read

from paretrim.intervals import Estimate, mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "pruning-methods-digits.jsonl"
LATENCIES = ROOT / "results" / "pruning-methods-latency.jsonl"
DISTILLED = ROOT / "results" / "pruned-distilled.jsonl"
PAGE = ROOT / "docs" / "studies" / "pruning-methods-digits.md"
CIFAR_LINES = ROOT / "results" / "pruning-methods-cifar10.jsonl"
CIFAR_PAGE = ROOT / "docs" / "studies" / "pruning-methods-cifar10.md"
PLAIN = "magnitude, one shot"
"""The baseline of every method, in the same pattern; that of channels has single weights."""
THIN = "plain smaller network, from scratch"
"""The baseline of pruned channels; it has its own number of epochs."""

HEAD = """<!-- Written by benchmarks/pruning_methods_page.py from results/pruning-methods-digits.jsonl; do not edit. -->

# Every pruning method that trains, on digits

A ResNet with one block per stage (78 thousand parameters) is trained for 12 epochs on scikit-learn's digits ({dense} % of 360
test images). Every method then gets the same {epochs} epochs on that network, and the result is quantized to 8 bits without
training. Accuracy is that of the integers, bytes are those of the `.trim` file, all with Student's interval (95 %) over {seeds}
seeds. *Against magnitude* is the difference in points to one-shot magnitude pruning with the same pattern and seed, with its
interval. Only an interval that excludes 0 shows a difference, and of {methods} methods in a table about one in twenty does so by
chance. Channels are compared with single weights at the same sparsity. *Plain smaller network, from scratch* has as few weights
as the network without its channels, and trains for as many epochs as dense training and a method together. GSM and gates prune
at the end of their own training, so they get half of the epochs and fine-tuning the other half; the rows without fine-tuning show
what that half is for. {latency}

This is a small network and short training. It shows that the methods work, and which ones fall behind when training is short; for
learned scores (movement) and regrown masks {epochs} epochs are few. It does not show which method is best for your network.
AC/DC and straight-through choose their masks again and again by one ranking over all layers, as published. In 90 % of the blocks
that leaves the first stage far fewer weights than one-shot magnitude does, and few epochs to recover. *By LAMP* is the same
method with that allocation.

```sh
python benchmarks/pruning_methods.py --out results/pruning-methods-digits.jsonl   # makes the lines that are missing
python benchmarks/pruning_methods.py --out results/pruning-methods-digits.jsonl --latency results/pruning-methods-latency.jsonl
python benchmarks/pruning_methods_page.py                                         # writes this page
```
"""


CIFAR_HEAD = """<!-- Written by benchmarks/pruning_methods_page.py from results/pruning-methods-cifar10.jsonl; do not edit. -->

# Every pruning method that trains, on a pretrained ResNet-20

The network is a ResNet-20 for CIFAR-10 with public weights; its 8-bit file has {dense} % of the 10,000 test images right.
Every method gets the same {epochs} epochs of 10,000 of the 45,000 training images from there, at a learning rate of 0.02
(those that need another take their own), and the result is quantized to 8 bits without training. Accuracy and bytes are
those of the `.trim` file, with Student's interval (95 %) over {seeds} seeds. *Against magnitude* is the difference in
points to one-shot magnitude pruning with the same pattern and seed, with its interval. Only an interval that excludes 0
shows a difference; of {methods} methods in a table about one in twenty does so by chance. GSM prunes at the end of its own
training, so it gets half of the epochs and fine-tuning the other half; the row without fine-tuning shows what that half is
for. {latency}

**How to read it.** {epochs} short epochs are far from full training, so this says what a method is worth where training is
dear. It favours methods that leave a good network at once, which *second order, one shot, fitted* does: it chooses by the
error of every layer's outputs and fits the remaining weights to them before the first step. Methods that learn their masks
(movement, straight-through, RigL) were published with tens of epochs. Scores by the gradient of the loss (SNIP, Taylor,
Fisher, GraSP) see little of it here: the network has nearly learned its training images by heart. Weight rewinding needs the
early epochs of dense training, and the plain smaller network as many epochs as that had; the public weights come with
neither, so both are missing. Channels and single weights have not been run yet.

```sh
python benchmarks/pruning_methods.py --data cifar10 --weights cifar10_resnet20.safetensors \\
    --out results/pruning-methods-cifar10.jsonl
python benchmarks/pruning_methods_page.py
```
"""


COLUMNS = """| method | accuracy | against magnitude | bytes | pruned |
|---|---|---|---|---|
"""
TIMED_COLUMNS = """| method | accuracy | against magnitude | bytes | pruned | latency, µs | times as fast as dense |
|---|---|---|---|---|---|---|
"""


TAUGHT = """
## 30% pruned, with and without a teacher

The same network ({dense} % dense, {seeds} seeds) is pruned by magnitude in one shot, 30 % of its weights or of the channels of
every layer, and trained for 4 epochs: with labels, or with labels and the dense network as teacher (`kd`). FP32. Differences are
relative to the dense network.

```sh
python benchmarks/pruned_distilled.py --out results/pruned-distilled.jsonl
```

| pruned | training | accuracy | against dense |
|---|---|---|---|
"""
UNTIMED = "Latency has not been measured yet."
TIMED = """Latency is the
median in the native runtime on one thread, in microseconds; *times as fast as dense* compares it with the dense network of the
same seed in 8 bits. Both have the same interval. All files of a seed were timed in one session, so between seeds the machine's
clock counts too, and the ratio is the better measure. In a network this small much of the time is not that of the weights."""


def page(lines: Sequence[Line], latencies: Sequence[Line] = (), distilled: Sequence[Line] = (), *, head: str = HEAD) -> str:
    """The whole page; with a latency column and a table of pruning with a teacher if there are lines for them."""
    timed: dict[tuple[float, str, str], list[Line]] = defaultdict(list)
    for line in latencies:
        timed[_case(line)].append(line)
    by_case: dict[tuple[float, str, str], dict[int, Line]] = defaultdict(dict)
    for line in lines:
        by_case[_case(line)][int(str(line["seed"]))] = line
    dense = mean_interval([number(line, "accuracy") for line in by_case[0.0, "", "dense"].values()])
    tables = sorted({(sparsity, pattern) for sparsity, pattern, _ in by_case if pattern})
    most = max(sum(case[:2] == table for case in by_case) for table in tables)
    trained = [found for (_, pattern, method), found in by_case.items() if pattern and method != THIN]
    epochs = {int(number(line, "epochs")) for found in trained for line in found.values()}
    text = head.format(
        dense=_percent(dense),
        epochs=" or ".join(map(str, sorted(epochs))),
        seeds=len(by_case[0.0, "", "dense"]),
        methods=most,
        latency=TIMED if timed else UNTIMED,
    )
    for sparsity, pattern in tables:
        plain = by_case[sparsity, "unstructured" if pattern == "channel" else pattern, PLAIN]
        text += f"\n## {sparsity:.0%} pruned, {_in_words(pattern)}\n\n{TIMED_COLUMNS if timed else COLUMNS}"
        found = {method: of for (share, kind, method), of in by_case.items() if (share, kind) == (sparsity, pattern)}
        for method, of in sorted(found.items(), key=lambda one: -_mean(one[1], "accuracy")):
            text += _row(method, of, plain)
            text += f" {_speed(timed[sparsity, pattern, method])} |\n" if timed else "\n"
    return text + (_taught(distilled) if distilled else "")


def _taught(lines: Sequence[Line]) -> str:
    """The table of pruning with and without the dense network as teacher."""
    by_case: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for line in lines:
        by_case[str(line["pattern"]), str(line["method"])][int(str(line["seed"]))] = number(line, "accuracy")
    dense = by_case.pop(("", "dense"))
    text = TAUGHT.format(dense=_percent(mean_interval(list(dense.values()))), seeds=len(dense))
    for (pattern, method), found in by_case.items():
        against = _points(mean_interval([right - dense[seed] for seed, right in found.items()]))
        text += f"| {_in_words(pattern)} | {method} | {_percent(mean_interval(list(found.values())))} % | {against} |\n"
    return text


def _row(method: str, found: Mapping[int, Line], plain: Mapping[int, Line]) -> str:
    accuracy = mean_interval([number(line, "accuracy") for line in found.values()])
    against = "–"
    if method != PLAIN:
        pairs = [(line, plain[seed]) for seed, line in found.items() if seed in plain]
        against = _points(mean_interval([number(line, "accuracy") - number(other, "accuracy") for line, other in pairs]))
    size, gone = mean_interval([number(line, "bytes") for line in found.values()]), 100 * _mean(found, "zeros")
    return f"| {method} | {_percent(accuracy)} % | {against} | {_around(size, 0)} | {gone:.1f} % |"


def _case(line: Line) -> tuple[float, str, str]:
    return float(str(line["sparsity"])), str(line["pattern"]), str(line["method"])


def _measured(line: Line, name: str) -> float:
    found = line[name]
    assert isinstance(found, dict)
    return float(found["value"])


def _speed(found: Sequence[Line]) -> str:
    if not found:
        return "– | –"
    times = mean_interval([1e3 * _measured(line, "p50_ms") for line in found])
    return f"{_around(times, 1)} | {_around(mean_interval([_measured(line, 'speedup') for line in found]), 2)}"


def _in_words(pattern: str) -> str:
    return {"unstructured": "single weights", "1x4": "blocks of four", "channel": "whole channels"}[pattern]


def _mean(found: Mapping[int, Line], name: str) -> float:
    return sum(number(line, name) for line in found.values()) / len(found)


def _around(value: Estimate, digits: int) -> str:
    return f"{value.value:,.{digits}f} ± {value.high - value.value:,.{digits}f}"


def _percent(value: Estimate) -> str:
    return f"{100 * value.value:.1f} ± {100 * (value.high - value.value):.1f}"


def _points(value: Estimate) -> str:
    return f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def made() -> str:
    """The page of the stored lines; latencies and the table with a teacher are left out where nothing is stored."""
    latencies, distilled = (read(path) if path.exists() else [] for path in (LATENCIES, DISTILLED))
    return page(read(LINES), latencies, distilled)


def made_of_cifar() -> str:
    """The page of the pretrained network."""
    return page(read(CIFAR_LINES), head=CIFAR_HEAD)


if __name__ == "__main__":
    PAGE.write_text(made(), encoding="utf-8")
    CIFAR_PAGE.write_text(made_of_cifar(), encoding="utf-8")
