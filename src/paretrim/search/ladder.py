"""Compression without a recipe: a short ladder of candidates of rising compression, from which targets choose.

All choices are made on validation images and on the deployed files; test images only report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from paretrim.errors import InvalidRecipe
from paretrim.intervals import beats_guessing
from paretrim.method import OURS, Method
from paretrim.metric import ACCURACY, Metric
from paretrim.run.drop import Drop, amount, fewest_images, images_needed, loses, worsens
from paretrim.search.trial import Trial
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.stages.usual import SHARES, split_epochs, usual_stages
from paretrim.train.budget import Budget

USUAL_DROP = 0.01
"""Where nothing is asked for, the best is the smallest that is shown to lose no more than this fraction of the metric's value."""

USUAL_SHARE = 0.1
"""The same for a metric that is not a share of images: this share of the dense network's value."""

ZEROS = (0.5, 0.8, 0.9)
"""Of single weights, or in the 1x4 blocks that the native runtime skips."""
CHANNELS = (0.25, 0.5, 0.75)

INT8, TRAINED, SINGLE, BLOCKS, REMOVED = "int8", "int8-trained", "zeros", "blocks", "channels"
"""Kinds of candidates: INT8 without training, trained INT8, single zeros, zeros in 1x4 blocks, removed channels."""

KINDS = (INT8, TRAINED, SINGLE, BLOCKS, REMOVED)


METHODS = (
    Method(
        name="compress",
        kind="search",
        source=OURS,
        what="try candidates of rising compression and keep the best one for the targets: paretrim compress",
        formula="INT8 without training; trained INT8; 50, 80, 90 % zeros, singly or in blocks; 25, 50, 75 % of the channels",
        recipe="",
    ),
)


@dataclass(frozen=True)
class Targets:
    """The targets; None for those not given. ``max_drop`` is a fraction of the validation images.

    For a ``metric`` that is not a share, it is in the metric's own unit. ``max_bytes`` bounds the ``.trim`` file.

    Raises:
        InvalidRecipe: a target is out of range.
    """

    max_drop: float | None = None
    max_latency_ms: float | None = None
    max_bytes: int | None = None
    metric: Metric = ACCURACY

    def __post_init__(self) -> None:
        if self.max_drop is not None and self.metric.is_share and not 0 <= self.max_drop <= 1:
            raise InvalidRecipe(f"--max-drop is {100 * self.max_drop:g} points; it must be from 0 to 100")
        if self.max_drop is not None and not 0 <= self.max_drop < math.inf:
            raise InvalidRecipe(f"--max-drop is {self.max_drop:g}; it must be a {self.metric.name} of 0 or more")
        if self.max_latency_ms is not None and not 0 < self.max_latency_ms < math.inf:
            raise InvalidRecipe(f"--max-latency-ms is {self.max_latency_ms:g}; it must be above 0")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise InvalidRecipe(f"--max-bytes is {self.max_bytes}; it must be 1 or more")

    @property
    def limits(self) -> bool:
        """Whether the file's size or speed is bounded."""
        return self.max_latency_ms is not None or self.max_bytes is not None

    def allowed_drop(self, dense: float) -> float | None:
        """The drop that decides which candidates qualify; None if only size or speed do.

        ``dense`` is the metric of the dense network.
        """
        if self.max_drop is not None or self.limits:
            return self.max_drop
        return USUAL_DROP if self.metric.is_share else USUAL_SHARE * abs(dense)

    def in_words(self) -> tuple[str, ...]:
        """Every target in words."""
        said = []
        if self.max_drop is not None:
            said.append(f"{worsens(self.metric)} by at most {amount(self.max_drop, self.metric)} (--max-drop)")
        if self.max_latency_ms is not None:
            said.append(f"median latency of at most {self.max_latency_ms:g} ms (--max-latency-ms)")
        if self.max_bytes is not None:
            said.append(f"a .trim file of at most {self.max_bytes:,} bytes (--max-bytes)")
        return tuple(said)


@dataclass(frozen=True)
class Rung:
    """One candidate of the ladder. If it clearly loses more than is allowed, the kinds in ``closes`` are left out."""

    name: str
    kind: str
    stages: tuple[Stage, ...]
    closes: frozenset[str]


@dataclass(frozen=True)
class Reference:
    """The dense network's metric on ``images`` validation images of ``classes`` classes, None if there are no classes."""

    value: float
    images: int
    classes: int | None


def usual_kinds(targets: Targets, *, native: bool = True) -> frozenset[str]:
    """Kinds of candidates that can help with these targets.

    Single zeros cost the least accuracy and make the ``.trim`` file smaller, but leave few blocks for the native runtime to skip:
    they are left out if latency is bounded. Zeros in 1x4 blocks make it faster: they are left out if only bytes are
    bounded, and if latency is not measured in the native runtime (``native``), since other runtimes gain nothing from them.
    """
    useless = {SINGLE} if targets.max_latency_ms is not None else set()
    if not native or (targets.max_latency_ms is None and targets.max_bytes is not None):
        useless.add(BLOCKS)
    return frozenset(KINDS) - useless


def ladder(epochs: int, kinds: Collection[str], *, budget: Budget) -> tuple[Rung, ...]:
    """The rungs of these kinds for a total of ``epochs`` each, cheapest first.

    Raises:
        InvalidRecipe: there is no such kind, or nothing is left to try.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InvalidRecipe(f"--candidates names '{unknown[0]}'; choose from {', '.join(KINDS)}")
    quantize, distill = split_epochs(epochs, (SHARES[0] + SHARES[1], SHARES[2]))
    trained = (Quantize(budget=replace(budget, epochs=quantize)), Distill(budget=replace(budget, epochs=distill)))
    rungs = [Rung("INT8", INT8, (Quantize(budget=replace(budget, epochs=0)),), frozenset())]
    if epochs:
        rungs.append(Rung("INT8 trained", TRAINED, trained, frozenset({SINGLE, BLOCKS, REMOVED})))
    for kind, shares, pattern, name in (
        (SINGLE, ZEROS, "unstructured", "of prunable zero"),
        (BLOCKS, ZEROS, "1x4", "of prunable zero in 1x4 blocks"),
        (REMOVED, CHANNELS, CHANNEL, "of channels removed"),
    ):
        for share in shares:
            stages = usual_stages(epochs, sparsity=share, pattern=pattern, budget=budget)
            rungs.append(Rung(f"{share:.0%} {name}, INT8", kind, stages, frozenset({kind})))
    chosen = tuple(rung for rung in rungs if rung.kind in kinds)
    if not chosen:
        raise InvalidRecipe(
            f"--candidates {','.join(kinds)} leaves nothing to try with --epochs {epochs}; train, or name another kind"
        )
    return chosen


def climb(
    rungs: Sequence[Rung],
    targets: Targets,
    reference: Reference,
    *,
    attempt: Callable[[Rung], Trial],
    note: Callable[[str], None],
) -> tuple[Trial, ...]:
    """Try the rungs in order, leaving out those that can no longer help.

    A kind ends with a rung whose accuracy is clearly below what is allowed (its whole 95 % interval is). If size or speed
    are bounded, everything ends with the first rung that meets all targets: the next ones are lighter, not more accurate. If
    INT8 meets them and no accuracy drop is given, INT8 is trained as well, which is as light and usually more accurate.
    A drop counts as met once it is shown; with too few images to show it for any rung, its estimate is used.
    """
    allowed = targets.max_drop
    hopeless = allowed is not None and not can_show(reference, allowed)
    closed: frozenset[str] = frozenset()
    tried: list[Trial] = []
    met = False
    for rung in rungs:
        if met and (allowed is not None or rung.kind != TRAINED):
            break
        if rung.kind in closed:
            note(f"{rung.name}: left out, a lighter candidate clearly loses more than is allowed")
            continue
        found = attempt(rung)
        tried.append(found)
        if allowed is not None and found.drop.beyond(allowed):
            closed |= rung.closes
        shown = hopeless or not unshown(found, targets)
        met = met or (targets.limits and shown and not misses(found, targets, reference))
    return tuple(tried)


def choose(tried: Sequence[Trial], targets: Targets, reference: Reference) -> tuple[Trial, str]:
    """The candidate to keep and why: the lightest of those that meet everything, else the closest.

    An accuracy drop is met if it is shown: its whole 95 % interval is within what is allowed. Light means fast if latency is
    bounded, else small. If only size or speed are bounded, the most accurate of those that meet the bounds is kept. A candidate
    that is no better than guessing is kept only if all are.
    """
    allowed = targets.allowed_drop(reference.value)
    known = [one for one in tried if not _guesses(one, reference)] or list(tried)
    fitting = [one for one in known if not _too_heavy(one, targets)]
    light = "fastest" if targets.max_latency_ms is not None else "smallest"

    def weight(one: Trial) -> tuple[float, ...]:
        return _weight(one, targets)

    if allowed is None:
        if fitting:
            word = "most accurate" if fitting[0].metric == ACCURACY else "best"
            return max(fitting, key=lambda one: one.metric.merit(one.value)), f"the {word} of those tried that meet the targets"
        return min(known, key=weight), f"none of those tried meets the targets; this is the {light}"
    metric = targets.metric
    losing = f"shown to {'lose' if metric.is_share else 'worsen by'} at most {amount(allowed, metric)}"
    shown = [one for one in known if one.drop.within(allowed)]
    inside = [one for one in shown if one in fitting]
    if inside:
        return min(inside, key=weight), f"the {light} of those tried that {'meet the targets and ' * targets.limits}are {losing}"
    if shown:
        return min(shown, key=weight), f"none of those tried meets all targets; this is the {light} that is {losing}"
    close = [one for one in known if not one.drop.exceeds(allowed)] or known
    nearest = [one for one in close if one in fitting] or close
    best = min(nearest, key=lambda one: (one.drop.interval.high, *weight(one)))
    return best, f"none of those tried is {losing}; this one comes nearest to it"


def can_show(reference: Reference, allowed: float) -> bool:
    """Whether there are enough images to show a drop within ``allowed``, at least for a candidate that differs on none."""
    if reference.classes is None:  # not a share of images: no count of them decides
        return True
    needed = fewest_images(allowed)
    return needed is not None and needed <= reference.images


def misses(one: Trial, targets: Targets, reference: Reference) -> tuple[str, ...]:
    """Every target that a candidate misses, and by how much, in words. Being better than guessing is always one of them."""
    said = []
    if _guesses(one, reference):
        said.append(
            f"{100 * one.value:.2f} % of {reference.images:,} validation images is not shown to be better than guessing among "
            f"{reference.classes} classes; allow more bytes or milliseconds, or train longer (--epochs)"
        )
    if targets.max_drop is not None and one.drop.exceeds(targets.max_drop):
        over = one.drop.value - targets.max_drop
        metric = one.metric
        text = f"{worsens(metric)} by {metric.change_text(one.drop.value).lstrip('+')} on validation images"
        said.append(f"{text}, {metric.change(over).lstrip('+')} more than --max-drop {metric.limit(targets.max_drop)}")
    if targets.max_latency_ms is not None and one.p50_ms is None:
        limit = f"--max-latency-ms {targets.max_latency_ms:g}"
        none = "none of the runtimes measured runs the candidate; name others in --runtimes"
        said.append(f"there is no latency to hold against {limit}: {none}")
    if targets.max_latency_ms is not None and one.p50_ms is not None and _too_slow(one, targets):
        p50 = one.p50_ms.value
        over = p50 - targets.max_latency_ms
        said.append(f"the median latency is {p50:.3g} ms, {over:.3g} ms more than --max-latency-ms {targets.max_latency_ms:g}")
    if targets.max_bytes is not None and one.trim_bytes > targets.max_bytes:
        over = one.trim_bytes - targets.max_bytes
        said.append(f"the .trim file has {one.trim_bytes:,} bytes, {over:,} more than --max-bytes {targets.max_bytes:,}")
    return tuple(said)


def unshown(one: Trial, targets: Targets) -> tuple[str, ...]:
    """Targets that a candidate meets by its estimates but not with the whole interval, in words."""
    said = []
    drop, latency = targets.max_drop, targets.max_latency_ms
    if drop is not None and not one.drop.exceeds(drop) and not one.drop.within(drop):
        text = f"{loses(one.drop)}, which does not show that it is within --max-drop {one.metric.limit(drop)}"
        said.append(f"{text}; {_remedy(one.drop, drop)}")
    if latency is not None and one.p50_ms is not None and one.p50_ms.value <= latency < one.p50_ms.high:
        span = f"{one.p50_ms.value:.3g} ms (95 % interval {one.p50_ms.low:.3g} to {one.p50_ms.high:.3g})"
        text = f"the median latency is {span}, which does not show that it is within --max-latency-ms {latency:g}"
        said.append(f"{text}; measure longer (--effort) or on a quieter machine, or allow more")
    if latency is not None and one.doubts and not _too_slow(one, targets):
        text = f"the latency was measured while the machine was not quiet ({'; '.join(one.doubts)})"
        said.append(f"{text}; measure again on a quieter machine, with another --effort")
    return tuple(said)


def too_few_images(targets: Targets, reference: Reference) -> str:
    """A warning if no candidate's drop can be shown to be within its target, else an empty string."""
    allowed = targets.max_drop
    if allowed is None or can_show(reference, allowed):
        return ""
    needed = fewest_images(allowed)
    loss = f"{worsens(targets.metric)} by at most {amount(allowed, targets.metric)}"
    text = f"warning: {reference.images:,} validation images cannot show that {loss}"
    if needed is None:
        return f"{text}: no number of images can, unless a candidate is the more accurate one"
    return f"{text}: it takes {needed:,} and more; add images, validate on a larger share of them (--validation), or allow more"


def weighed(one: Trial, reference: Reference) -> str:
    """Accuracy, size and latency of a candidate, in words."""
    metric = one.metric
    change = f"validation {metric.name} {metric.text(reference.value)} → {metric.text(one.value)}"
    latency = "" if one.p50_ms is None else f", {one.p50_ms.value:.3g} ms"
    return f"{change}, {one.trim_bytes:,} bytes (.trim){latency}"


def _guesses(one: Trial, reference: Reference) -> bool:
    classes = reference.classes
    return classes is not None and not beats_guessing(one.value, reference.images, classes)


def _too_heavy(one: Trial, targets: Targets) -> bool:
    return _too_slow(one, targets) or (targets.max_bytes is not None and one.trim_bytes > targets.max_bytes)


def _too_slow(one: Trial, targets: Targets) -> bool:
    """Whether a candidate misses the latency asked for, or cannot be timed."""
    return targets.max_latency_ms is not None and (one.p50_ms is None or one.p50_ms.value > targets.max_latency_ms)


def _remedy(drop: Drop, allowed: float) -> str:
    needed = images_needed(drop, allowed)
    if needed is None:
        return "no number of images would, as the drop is not below it; allow more"
    more = "add images, validate on a larger share of them (--validation), or allow more"
    return f"about {needed:,} images like these would be needed: {more}"


def _weight(one: Trial, targets: Targets) -> tuple[float, ...]:
    """Sort key: smaller is lighter. Files of equal size are ordered by the entropy of their weights, then by accuracy."""
    sizes = (float(one.trim_bytes), one.entropy_bytes, -one.metric.merit(one.value))
    return (one.p50_ms.value, *sizes) if targets.max_latency_ms is not None and one.p50_ms is not None else sizes
