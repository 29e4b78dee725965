"""Verdicts of the lines in results/ on the papers' claims: one function per claim, or kind of claim.

A verdict follows from intervals: "holds" or "does not hold" only if an interval excludes zero difference, "not shown" if it does
not, "not measured" if there are no lines. ``claims.py`` makes the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from paretrim.intervals import Estimate, mean_interval
from paretrim.report.frontier import Difference, paired_difference
from paretrim.report.points import Point, Speed, aggregate
from paretrim.results import store

ROOT = Path(__file__).resolve().parent.parent
HOLDS, FAILS, OPEN, MISSING = "holds", "does not hold", "not shown", "not measured"
NOISE = 0.15
"""Maximum distance of a speed-up from 1 that still counts as no speed-up."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim: one of the four words, a sentence with the figures, and the page that has them."""

    word: str
    sentence: str
    page: str = ""


@cache
def points(study: str) -> dict[str, Point]:
    """The arms of a study by label."""
    return {point.label: point for point in aggregate(store.latest(store.read(ROOT / "results" / study / "outcomes.jsonl")))}


def lines(name: str) -> list[dict[str, object]]:
    """The lines of a file in results/."""
    return [json.loads(line) for line in (ROOT / "results" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def direction(interval: Estimate | None) -> str:
    """Whether 'the first is better than the second' holds, from the interval of their difference."""
    if interval is None or interval.low <= 0 <= interval.high:
        return OPEN
    return HOLDS if interval.low > 0 else FAILS


def figures(interval: Estimate | None) -> str:
    """A difference of accuracies in points, with its interval."""
    if interval is None:
        return "no interval"
    value, low, high = (f"{100 * one:+.2f}".replace("-", "−") for one in (interval.value, interval.low, interval.high))
    return f"{value} points ({low} to {high})"


def compared(study: str, arm: str, reference: str, comparisons: int = 1) -> Difference:
    """One arm against another, by seed."""
    return paired_difference(points(study)[arm], points(study)[reference], comparisons=comparisons)


def arm_beats(study: str, arm: str, reference: str) -> Verdict:
    """Whether the arm is more accurate than the reference."""
    found = compared(study, arm, reference)
    return Verdict(direction(found.interval), f"{arm} against {reference}: {figures(found.interval)}", study)


def speed(study: str, arm: str, runtime: str) -> Speed:
    """The arm's latency on one thread, in the runtime."""
    return next(
        speed for setting, speed in points(study)[arm].speeds.items() if (setting.runtime, setting.threads) == (runtime, 1)
    )


def times(found: Estimate) -> str:
    """A speed-up with its interval."""
    return f"{found.value:.2f}× ({found.low:.2f} to {found.high:.2f})"


ORDERS = "orders-cifar10-resnet20"
PATTERN = "price-of-the-pattern-cifar10-resnet20"
RECOVERY = "recovery-cifar10-resnet20"
TAUGHT = "distillation-cifar100-vgg11"
PQD = "prune quantize distill"


def int8_is_the_speed() -> Verdict:
    """INT8 alone is at least as fast as the whole pipeline, in a runtime that does not skip zeros."""
    alone, both = (speed(ORDERS, arm, "onnxruntime").speedup for arm in ("quantize", PQD))
    ours = [speed(ORDERS, arm, "paretrim").speedup for arm in ("quantize", PQD)]
    word = HOLDS if alone.low > 1 and alone.high >= both.low else FAILS
    sentence = (
        f"in ONNX Runtime INT8 alone gives {times(alone)}, all three stages {times(both)}; in Paretrim's runtime, which skips "
        f"zeros, {times(ours[0])} and {times(ours[1])}"
    )
    return Verdict(word, sentence, ORDERS)


def zeros_alone_are_no_speed() -> Verdict:
    """Single zeros in float, in the usual runtimes."""
    found = {runtime: speed(ORDERS, "prune", runtime).speedup for runtime in ("onnxruntime", "openvino")}
    none = all(one.low <= 1 <= one.high and abs(one.value - 1) < NOISE for one in found.values())
    told = ", ".join(f"{runtime} {times(one)}" for runtime, one in found.items())
    return Verdict(HOLDS if none else FAILS, f"90 % single zeros, FP32: {told}", ORDERS)


def order(study: str) -> Verdict:
    """Prune-quantize-distill against the five other orders, all intervals together."""
    others = [point for point in points(study).values() if len(point.order) == 3 and point.label != PQD]
    found = {point.label: compared(study, PQD, point.label, len(others)) for point in others}
    words = {label: direction(one.interval) for label, one in found.items()}
    beaten = [label for label, word in words.items() if word == HOLDS]
    better = [label for label, word in words.items() if word == FAILS]
    word = FAILS if better else HOLDS if len(beaten) == len(others) else OPEN
    told = [f"better than {_listed(beaten)}"] if beaten else []
    told += [f"worse than {_listed(better)}"] if better else []
    told += [f"no difference shown to {len(others) - len(beaten) - len(better)} of {len(others)} orders"]
    return Verdict(word, "; ".join(told), study)


def pruning_last_loses() -> Verdict:
    """Orders that end with pruning against those that end with distillation."""
    last = ("quantize distill prune", "distill quantize prune")
    found = [compared(ORDERS, PQD, label, len(last)) for label in last]
    words = {direction(one.interval) for one in found}
    told = "; ".join(f"{PQD} against {one.reference}: {figures(one.interval)}" for one in found)
    return Verdict(words.pop() if len(words) == 1 else OPEN, told, ORDERS)


PUBLISHED = (0.7962, 6.74e6, 1.00)
"""Accuracy, bytes and milliseconds of ResNet-18 with ImageNet stem in the paper (table of results, on a CPU of its own)."""


def own_setting() -> Verdict:
    """Whether the paper's own setting gives its figures; not if ours are better in all three, by their intervals."""
    study = "core-paper-cifar10"
    point, found = points(study)[PQD], speed(study, PQD, "paretrim")
    better = (point.deployed.low > PUBLISHED[0], point.size.high < PUBLISHED[1], found.p50_ms.high < PUBLISHED[2])
    value, low, high = (f"{100 * one:.2f}" for one in (point.deployed.value, point.deployed.low, point.deployed.high))
    told = f"{value} % ({low} to {high}), {point.size.value / 1e6:.2f} MB, {found.p50_ms.value:.3f} ms on this CPU"
    return Verdict(FAILS if all(better) else OPEN, told, study)


def channels_against_weights() -> Verdict:
    """Equal sparsity of single weights and of whole channels."""
    found = compared(PATTERN, "weights-90 int8", "channels-90 int8")
    return Verdict(direction(found.interval), f"90 % of weights against 90 % of channels: {figures(found.interval)}", PATTERN)


def blocks_beat_single_weights(network: str) -> Verdict:
    """Fewer zeros in blocks against more single zeros, in the native runtime: holds if blocks are faster and more accurate."""
    study, blocks, singles = f"price-of-the-pattern-cifar10-{network}", "1x4-80 int8", "weights-90 int8"
    found = compared(study, blocks, singles)
    ours, theirs = (speed(study, arm, "paretrim").p50_ms for arm in (blocks, singles))
    times = " against ".join(f"{1000 * one.value:.0f} ({1000 * one.low:.0f} to {1000 * one.high:.0f})" for one in (ours, theirs))
    told = f"80 % zeros in blocks against 90 % single zeros: {figures(found.interval)}, {times} microseconds"
    return Verdict(direction(found.interval) if ours.high < theirs.low else OPEN, told, study)


def channels_are_fast() -> Verdict:
    """INT8 channels and INT8 single weights in a runtime that does not skip zeros, beside INT8 alone."""
    found = {
        arm: {runtime: speed(PATTERN, f"{arm}int8", runtime).p50_ms for runtime in ("onnxruntime", "openvino")}
        for arm in ("", "channels-80 ", "weights-80 ")
    }
    pairs = [(channels, found[""][runtime]) for runtime, channels in found["channels-80 "].items()]
    faster, slower = (all(one.high < other.low for one, other in way) for way in (pairs, [pair[::-1] for pair in pairs]))
    told = "; ".join(
        f"{runtime}: INT8 {found[''][runtime].value:.3f} ms, without 80 % of the weights in channels "
        f"{found['channels-80 '][runtime].value:.3f}, in single weights {found['weights-80 '][runtime].value:.3f}"
        for runtime in ("onnxruntime", "openvino")
    )
    return Verdict(HOLDS if faster else FAILS if slower else OPEN, told, PATTERN)


def _correct(case: str, network: str = "resnet20") -> dict[int, float]:
    found = [line for line in lines("peers") if line.get("kind") == "result" and line["network"] == network]
    return {int(str(one["seed"])): int(str(one["correct"])) / int(str(one["images"])) for one in found if one["case"] == case}


def int8_without_training() -> Verdict:
    """Drop of INT8 without training; the study reports 3.8 points."""
    dense = _correct("float")[0]
    drops = {case: mean_interval([dense - one for one in _correct(case).values()]) for case in _INT8}
    word = HOLDS if all(100 * one.low > 1 for one in drops.values()) else FAILS
    told = "; ".join(f"{_INT8[case]} {-100 * one.value:+.2f}".replace("-", "−") for case, one in drops.items())
    return Verdict(word, f"ResNet-20, change in points, 3 draws of calibration images: {told}", "peers")


_INT8 = {"paretrim-int8": "Paretrim", "onnxruntime-int8": "ONNX Runtime", "nncf-int8": "NNCF"}


def quantized_training() -> Verdict:
    """Whether training in INT8 loses much more than INT8 without training."""
    found = compared(ORDERS, "quantize", "dense")
    interval = found.interval
    word = OPEN if interval is None else FAILS if interval.low > -0.0381 else HOLDS
    return Verdict(word, f"training in INT8 against dense: {figures(interval)}; the study loses 11.6", ORDERS)


def recovered(step: str) -> str:
    """The label of the arm of the study of recovery that learns in this step."""
    return next(label for label in points(RECOVERY) if step in label.split())


def losses_beat_kd(names: Sequence[str]) -> Verdict:
    """Other losses against softened logits, all from the larger teacher."""
    plain = recovered("large-kd")
    found = {name: compared(RECOVERY, recovered(f"large-{name}"), plain, len(names)).interval for name in names}
    words = {direction(one) for one in found.values()}
    told = "; ".join(f"{name} against kd: {figures(one)}" for name, one in found.items())
    word = words.pop() if len(words) == 1 else OPEN
    return Verdict(word, f"pruned ResNet-20, 2,000 images, ResNet-56 as teacher: {told}", RECOVERY)


def taught(pairs: Sequence[tuple[str, str]]) -> Verdict:
    """VGG-11 students of a VGG-16: whether the first of every pair beats the second, all pairs together."""
    missing = sorted({arm for pair in pairs for arm in pair} - set(points(TAUGHT)))
    left = [f"no lines yet of {_listed(missing)}"] if missing else []
    ready = [pair for pair in pairs if not {*pair} & {*missing}]
    found = {pair: compared(TAUGHT, *pair, len(pairs)) for pair in ready}
    words = {direction(one.interval) for one in found.values()}
    told = [f"{arm} against {other}: {_seeds_or_figures(one)}" for (arm, other), one in found.items()]
    word = MISSING if not ready else OPEN if left or len(words) > 1 else words.pop()
    return Verdict(word, "; ".join([*told, *left]), TAUGHT)


def _seeds_or_figures(found: Difference) -> str:
    """The difference with its interval; of a single seed only the difference."""
    if found.interval is not None:
        return figures(found.interval)
    one, other = (
        next(run.deployed_value for run in points(TAUGHT)[arm].runs if run.seed == found.seeds[0])
        for arm in (found.arm, found.reference)
    )
    return f"{100 * (one - other):+.2f} points, one seed".replace("-", "−")


def on_digits(method: str, plain: str, pattern: str, sparsity: float) -> Verdict:
    """'The method is more accurate than the plain one', on digits."""
    of: dict[str, dict[int, float]] = {}
    for line in lines("pruning-methods-digits"):
        if (line["pattern"], line["sparsity"]) == (pattern, sparsity):
            of.setdefault(str(line["method"]), {})[int(str(line["seed"]))] = float(str(line["accuracy"]))
    found = mean_interval([of[method][seed] - of[plain][seed] for seed in sorted(of[method].keys() & of[plain].keys())])
    told = f"{sparsity:.0%} of a small ResNet on digits, {method} against {plain}: {figures(found)}"
    return Verdict(direction(found), told, "pruning-methods-digits")


def mixed_by_variance() -> Verdict:
    """What layers of more than 8 bits could recover, and below 8 bits variance against divergence at equal bits."""
    of: dict[str, dict[int, float]] = {}
    for line in lines("mixed-precision"):
        if line["network"] == "resnet20":
            of.setdefault(str(line["case"]), {})[int(str(line["seed"]))] = float(str(line["accuracy"]))
    variance = "by variance: 3, 4 or 6 bits"
    gain, other = (
        mean_interval([of[one][seed] - of[reference][seed] for seed in sorted(of[one])])
        for one, reference in (("float", "8 bits"), (variance, f"by divergence, bits as {variance}"))
    )
    told = f"ResNet-20, without training: float32 against INT8 {figures(gain)}, so wider layers have nothing to recover; "
    told += f"at 4 bits per weight, by variance against by divergence {figures(other)}"
    return Verdict(direction(gain), told, "mixed-precision")


def distillation_makes_up() -> Verdict:
    """30 % pruned: with labels alone and with the teacher, against dense, for single weights and channels."""
    of: dict[tuple[str, str], dict[int, float]] = {}
    for line in lines("pruned-distilled"):
        of.setdefault((str(line["method"]), str(line["pattern"])), {})[int(str(line["seed"]))] = float(str(line["accuracy"]))
    dense, words, told = of["dense", ""], set(), []
    for pattern, name in (("unstructured", "single weights"), ("channel", "channels")):
        ways = (of[way, pattern] for way in ("labels and teacher", "labels"))
        taught, alone = (mean_interval([way[seed] - dense[seed] for seed in sorted(dense)]) for way in ways)
        words.add(HOLDS if taught.low >= -LOSS else FAILS if taught.high < -LOSS else OPEN)
        told.append(f"{name} with a teacher {figures(taught)}, with labels only {figures(alone)}")
    word = FAILS if FAILS in words else OPEN if OPEN in words else HOLDS
    return Verdict(word, f"digits, {len(dense)} seeds, 30 % pruned, against dense: {'; '.join(told)}", "pruning-methods-digits")


SMALLER, LOSS = 35, 0.005
"""Deep Compression: how many times smaller, and the accuracy drop that still counts as no loss."""


def deep_compression() -> Verdict:
    """Compression and change of accuracy of both networks; the claim holds if both intervals support it."""
    found: dict[str, list[dict[str, object]]] = {}
    for line in lines("deep-compression"):
        if line["way"] == "deep compression":
            found.setdefault(str(line["network"]), []).append(line)
    words, told = set(), []
    for network, own in found.items():
        smaller = mean_interval([float(str(line["float_bytes"])) / float(str(line["bytes"])) for line in own])
        change = mean_interval([float(str(line["accuracy"])) - float(str(line["float"])) for line in own])
        holds = smaller.low >= SMALLER and change.low >= -LOSS
        words.add(HOLDS if holds else FAILS if smaller.high < SMALLER or change.high < -LOSS else OPEN)
        told.append(f"{network}: {smaller.value:.1f} times ({smaller.low:.1f} to {smaller.high:.1f}), {figures(change)}")
    word = FAILS if FAILS in words else OPEN if OPEN in words else HOLDS
    return Verdict(word, f"digits, 3 seeds; {'; '.join(told)}", "deep-compression")


def unmeasured(why: str) -> Callable[[], Verdict]:
    """A claim without lines."""
    return lambda: Verdict(MISSING, why)


def turned(found: Verdict) -> Verdict:
    """The verdict on the opposite claim."""
    return Verdict({HOLDS: FAILS, FAILS: HOLDS}.get(found.word, found.word), found.sentence, found.page)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
