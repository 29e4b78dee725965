"""What results/ says about a method, in one or more lines of its page; ``method_pages.py`` writes them.

Every number is computed from the stored lines. A method that no study of its own has measured has the line of its recipe, and one
without a recipe says why there is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from paretrim.intervals import mean_interval
from paretrim.method import Method

RESULTS = Path(__file__).resolve().parent.parent / "results"
NOT_MEASURED = "Not measured yet."
NO_RECIPE = "It has no recipe, and so no line: what it keeps depends on the targets. Its report shows every candidate, measured."
NO_LINE: Mapping[tuple[str, str], str] = {("search", "compress"): NO_RECIPE}
"""Methods without a line, and why."""

Key = tuple[str, str]
"""Kind and name of a method."""

PRUNED: Mapping[Key, str] = {
    ("stage", "prune"): "magnitude, one shot",
    ("stage", "movement"): "movement, hard",
    ("stage", "straight_through"): "straight-through",
    ("stage", "rigl"): "RigL",
    ("stage", "acdc"): "AC/DC",
    ("stage", "lottery"): "lottery ticket, 2 rounds",
    ("stage", "gsm"): "GSM",
    ("stage", "gates"): "channels by gates",
    ("stage", "thinet"): "channels by ThiNet",
    ("stage", "thin"): "plain smaller network, from scratch",
    ("score", "magnitude"): "magnitude, one shot",
    ("score", "snip"): "SNIP",
    ("score", "grasp"): "GraSP",
    ("score", "synflow"): "SynFlow",
    ("score", "fisher"): "Fisher",
    ("score", "obs"): "second order, one shot, fitted",
    ("option", "compensate"): "second order, one shot, fitted",
    ("score", "taylor"): "Taylor",
    ("channel score", "magnitude"): "channels by L2",
    ("channel score", "l1"): "channels by L1",
    ("channel score", "batchnorm"): "channels by BatchNorm scale",
    ("channel score", "taylor_gate"): "channels by Taylor",
    ("channel score", "nisp"): "channels by NISP",
    ("pattern", "channel"): "channels by L2",
    ("pattern", "unstructured"): "magnitude, one shot",
    ("pattern", "1x4"): "magnitude, one shot",
    ("schedule", "one_shot"): "magnitude, one shot",
    ("schedule", "cubic"): "magnitude, cubic",
    ("allocation", "global"): "magnitude, one shot",
    ("allocation", "uniform"): "magnitude, uniform, one shot",
    ("combination", "movement-soft"): "movement, soft",
    ("combination", "rate-rewinding"): "learning-rate rewinding, 2 rounds",
}
"""The method's name in the lines of :data:`PRUNED_NETWORKS`."""

PRUNED_NETWORKS: Mapping[str, str] = {
    "pruning-methods-cifar10": "Pretrained ResNet-20, CIFAR-10, two short epochs",
    "pruning-methods-digits": "Small ResNet, digits",
}
"""What each of these results is about; its study has the same name."""

PATTERNS = {"unstructured": "single weights", "1x4": "blocks of four", "channel": "whole channels"}
PLAIN_PRUNED = "magnitude, one shot"
SPARSITY, ZEROS = 0.9, "90 %"

LOSSES: Mapping[Key, str] = {
    **{("loss", name): name for name in ("kd", "dkd", "hint", "mimic", "attention", "rkd", "crd", "review")},
    ("stage", "distill"): "kd",
    ("combination", "logit-standardisation"): "standardised",
}
"""The loss's name in results/distillation.jsonl."""

RECOVERY = "recovery-cifar10-resnet20"
RECOVERED: Mapping[Key, str] = {
    **{("loss", name): f"cut large-{name} int8" for name in ("kd", "dkd", "hint", "attention", "rkd", "crd", "review")},
    ("stage", "distill"): "cut kd int8",
    ("combination", "prune-then-distill"): "cut kd int8",
    ("combination", "teacher-larger"): "cut large-kd int8",
}
"""The arm of the study of recovery after pruning."""

FORMATS: Mapping[Key, tuple[str, str]] = {
    ("stage", "quantize"): ("8 bits", "float32"),
    ("weight grid", "uniform"): ("8 bits", "float32"),
    ("weight grid", "float16"): ("float16 weights", "float32"),
    ("weight grid", "bfloat16"): ("bfloat16 weights", "float32"),
    ("weight grid", "grouped"): ("4-bit weights in groups of 32, 8-bit activations", "4-bit weights, 8-bit activations"),
    ("weight grid", "codebook"): ("codebooks of 16 values, 8-bit activations", "4-bit weights, 8-bit activations"),
    ("adjustment", "gptq"): ("4-bit weights by GPTQ, 8-bit activations", "4-bit weights, 8-bit activations"),
    ("combination", "int8-weights"): ("8-bit weights, float32 activations", "float32"),
}
"""The case in results/number-formats.jsonl, and the one to compare it with."""

MIXTURES: Mapping[Key, tuple[str, str]] = {
    ("mixture", "hessian"): ("by Hessian trace, bits as 4 bits", "4 bits"),
    ("mixture", "divergence"): ("by divergence, bits as 4 bits", "4 bits"),
    ("mixture", "variance"): ("by variance: 3, 4 or 6 bits", "4 bits"),
    ("combination", "mixed-names"): ("by name: ends 8 bits, others 3", "4 bits"),
}
"""The case in results/mixed-precision.jsonl, and the one to compare it with."""

UNTRAINED: Mapping[Key, tuple[str, str, str]] = {
    ("score", "obs"): ("resnet56", "50% of blocks gone, obs, fitted, 8 bits", "50% of blocks gone, magnitude, fitted, 8 bits"),
    ("option", "compensate"): (
        "resnet20",
        "50% of blocks gone, magnitude, fitted, 8 bits",
        "50% of blocks gone, magnitude, 8 bits",
    ),
}
"""Network and case in results/without-training.jsonl, and the case to compare it with."""

SPLITS: Mapping[Key, str] = {("allocation", "cost"): "cost", ("allocation", "speed"): "speed"}
"""The split in results/allocations.jsonl."""

SMALLER: Mapping[Key, str] = {
    ("combination", "deep-compression"): "deep compression",
    ("option", "rate"): "pruned, rate 0.001",
}
"""The way in results/deep-compression.jsonl."""


@cache
def lines(name: str) -> Sequence[Mapping[str, object]]:
    """The stored lines of a benchmark."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def measured(method: Method) -> str:
    """What the results say about a method, as a list in Markdown, or that nothing has been measured."""
    key, found = (method.kind, method.name), list[str]()
    tables: Sequence[tuple[Mapping[Key, object], Callable[..., Sequence[str]]]] = (
        (PRUNED, partial(pruned, patterns=[method.name] if method.kind == "pattern" else PATTERNS)),
        (RECOVERED, recovered),
        (LOSSES, distilled),
        (FORMATS, in_format),
        (MIXTURES, mixed),
        (UNTRAINED, untrained),
        (SPLITS, split),
        (SMALLER, smaller),
    )
    for table, written in tables:
        if key in table:
            found += written(table[key])
    found = found or as_written(method)
    found += steps(method)
    return "".join(f"- {line}\n" for line in found) or f"{NO_LINE.get(key, NOT_MEASURED)}\n"


def _of_recipe(name: str, method: Method) -> list[Mapping[str, object]]:
    return [line for line in lines(name) if line["recipe"] == method.recipe]


def as_written(method: Method) -> list[str]:
    """The method's recipe on digits: accuracy, and the difference from its plain baseline."""
    rows = next((some for some in (_of_recipe(name, method) for name in ("recipes-again", "recipes")) if some), None)
    if rows is None:
        return []
    own, plain = ({line["seed"]: number_of(line, key) for line in rows} for key in ("accuracy", "plain_accuracy"))
    size, zeros = (sum(number_of(line, key) for line in rows) / len(rows) for key in ("bytes", "zeros"))
    seeds = f"{len(own)} seed{'s' * (len(own) > 1)}"
    return [
        f"The recipe below, as it is written, on digits, {seeds}: {mean_of(own)}, {size:,.0f} bytes, {percent(zeros)} zeros; "
        f"against *{rows[0]['plain']}* {difference_of(own, plain)} ([study](../studies/recipes.md))"
    ]


def pruned(name: str, patterns: Iterable[str]) -> list[str]:
    """Equal epochs: accuracy, and the difference from one-shot magnitude pruning with the same pattern."""
    found = []
    for study, network in PRUNED_NETWORKS.items():
        rows = [line for line in lines(study) if line["sparsity"] == SPARSITY]
        for pattern in patterns:
            own = by_seed(rows, method=name, pattern=pattern)
            plain = by_seed(rows, method=PLAIN_PRUNED, pattern="unstructured" if pattern == "channel" else pattern)
            if own:
                other = "magnitude with single weights" if pattern == "channel" else "magnitude"
                against = "" if own == plain else f"; against {other} {difference_of(own, plain)}"
                found.append(
                    f"{network}, {ZEROS} of its weights pruned as {PATTERNS[pattern]}, {len(own)} seeds, 8 bits: "
                    f"{mean_of(own)}{against} ([study](../studies/{study}.md))"
                )
    return found


def recovered(arm: str) -> list[str]:
    """A pruned ResNet-20 after short training: accuracy, and the difference from training with labels only."""
    of: dict[str, dict[object, float]] = {arm: {}, "cut labels int8": {}}
    for line in lines(f"{RECOVERY}/outcomes"):
        if line["label"] in of:
            of[str(line["label"])][line["seed"]] = number_of(line, "deployed_value")
    own, plain = of.values()
    teacher = "ResNet-56" if "large-" in arm else "the dense network"
    return [
        f"ResNet-20, CIFAR-10, 80 % of its weights pruned in blocks of four, then 3 epochs on 2,000 images with {teacher} as "
        f"teacher, {len(own)} seeds, 8 bits: {mean_of(own)}; against labels only {difference_of(own, plain)} "
        f"([study](../studies/{RECOVERY}.md))"
    ]


def distilled(loss: str) -> list[str]:
    """Digits: accuracy, and the difference from training with labels only."""
    epochs = max(int(str(line["epochs"])) for line in lines("distillation") if line["loss"] == loss)
    own, plain = (
        dict(zip(line["seeds"], line["accuracies"], strict=True))
        for name in (loss, "labels")
        for line in lines("distillation")
        if (line["loss"], line["epochs"]) == (name, epochs)
    )
    return [
        f"Digits, {epochs} epochs, {len(own)} seeds: {mean_of(own)}; against labels only {difference_of(own, plain)} "
        "([table](../which-recipe.md))"
    ]


def in_format(cases: tuple[str, str]) -> list[str]:
    """Both pretrained networks: accuracy and bytes of the file."""
    found = []
    for network, name in (("resnet20", "ResNet-20"), ("resnet56", "ResNet-56")):
        own, plain = (
            line
            for case in cases
            for line in lines("number-formats")
            if (line["kind"], line["network"], line["case"]) == ("accuracy", network, case)
        )
        found.append(
            f"{name}, CIFAR-10, {cases[0]}, without training: {percent(own['accuracy'])}, {own['bytes']:,} bytes; {cases[1]}: "
            f"{percent(plain['accuracy'])}, {plain['bytes']:,} bytes ([study](../studies/number-formats.md))"
        )
    return found


def mixed(cases: tuple[str, str]) -> list[str]:
    """The pretrained ResNet-20: accuracy at a number of bits per weight."""
    own, plain = (by_seed(lines("mixed-precision"), case=case, network="resnet20") for case in cases)
    bits = [number_of(line, "bits_a_weight") for line in lines("mixed-precision") if line["case"] == cases[0]]
    return [
        f"ResNet-20, CIFAR-10, {sum(bits) / len(bits):.2f} bits per weight, without training, {len(own)} draws of calibration "
        f"images: {mean_of(own)}; {cases[1]} everywhere: {mean_of(plain)} ([study](../studies/mixed-precision.md))"
    ]


def untrained(cases: tuple[str, str, str]) -> list[str]:
    """A pretrained network with half of its blocks pruned."""
    network, *named = cases
    own, plain = (
        line["accuracies"][0]
        for case in named
        for line in lines("without-training")
        if (line["network"], line["case"]) == (network, case)
    )
    return [
        f"ResNet-{network.removeprefix('resnet')}, CIFAR-10, {named[0]}, without training: {percent(own)}; {named[1]}: "
        f"{percent(plain)} ([study](../studies/without-training.md))"
    ]


def split(name: str) -> list[str]:
    """Digits, at equal time: the difference from ranking all layers together."""
    of = {"network": "small ResNet, digits", "zeros_of_reference": SPARSITY}
    own, plain = (by_seed(lines("allocations"), split=one, **of) for one in (name, "global"))
    return [
        f"Small ResNet, digits, blocks of four, at the time that {ZEROS} zeros by `global` take, {len(own)} seeds: "
        f"{mean_of(own)}; against `global` {difference_of(own, plain)} ([study](../studies/allocations.md))"
    ]


def smaller(way: str) -> list[str]:
    """Two small networks: how many times smaller the file is, and the change of accuracy."""
    found = []
    for network, name in (("lenet_300_100", "LeNet-300-100"), ("lenet_5", "LeNet-5")):
        rows = [line for line in lines("deep-compression") if (line["network"], line["way"]) == (network, way)]
        times = [number_of(line, "float_bytes") / number_of(line, "bytes") for line in rows]
        own, plain = ({line["seed"]: number_of(line, key) for line in rows} for key in ("accuracy", "float"))
        found.append(
            f"{name}, digits, {way}, {len(rows)} seeds: the file is {sum(times) / len(times):.1f} times smaller than the float "
            f"weights, {difference_of(own, plain)} ([study](../studies/deep-compression.md))"
        )
    return found


def steps(method: Method) -> list[str]:
    """How long a training step takes with the method's recipe."""
    found = [line for line in lines("quantized-steps") if (line["network"], line["recipe"]) == ("resnet56", method.recipe)]
    return [
        f"A training step of ResNet-56 with the recipe below takes {number_of(line, 'ratio'):.2f} "
        f"[{number_of(line, 'ratio_low'):.2f}, {number_of(line, 'ratio_high'):.2f}] times a plain one "
        "([training speed](../training-speed.md))"
        for line in found[-1:]
    ]


def by_seed(rows: Sequence[Mapping[str, object]], **wanted: object) -> dict[object, float]:
    """The accuracy of every seed, of the lines with these values."""
    return {line["seed"]: number_of(line, "accuracy") for line in rows if all(line[key] == wanted[key] for key in wanted)}


def number_of(line: Mapping[str, object], key: str) -> float:
    """A number of a line."""
    return float(str(line[key]))


def percent(share: object) -> str:
    """A share in percent."""
    return f"{100 * float(str(share)):.2f} %"


def mean_of(found: Mapping[object, float]) -> str:
    """The mean over seeds with Student's 95 % interval."""
    if len(found) == 1:
        return f"{100 * next(iter(found.values())):.1f} %"
    interval = mean_interval([100 * value for value in found.values()])
    return f"{interval.value:.1f} ± {(interval.high - interval.low) / 2:.1f} %"


def difference_of(own: Mapping[object, float], plain: Mapping[object, float]) -> str:
    """The difference in points, paired by seed, with Student's 95 % interval."""
    gains = [100 * (own[seed] - plain[seed]) for seed in own]
    if len(gains) == 1:
        return f"{gains[0]:+z.1f} points (one seed)"
    gain = mean_interval(gains)
    shown = "" if gain.low > 0 or gain.high < 0 else ": no difference shown"
    return f"{gain.value:+z.1f} [{gain.low:+z.1f}, {gain.high:+z.1f}] points{shown}"
