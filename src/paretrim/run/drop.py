"""How much a candidate loses against the dense network, judged image by image.

Both networks see the same images. If images are right or wrong, only those on which one network is right and the
other is wrong carry information. That makes the interval of the difference far narrower than the intervals of the two
accuracies. For any other metric the images are resampled, the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from paretrim.history import StageOutcome
from paretrim.intervals import CONFIDENCE, Estimate, accuracy_interval, wilson_interval
from paretrim.metric import ACCURACY, Metric
from paretrim.report.wording import MINUS
from paretrim.results.outcome import Evaluation
from paretrim.train.task import CLASSIFICATION, Task, TaskArray, is_right

RESAMPLES = 1000
"""Bootstrap resamples of the images for the interval of a metric that is not a share of images."""

MOST_IMAGES = 10**9
"""If more images than this would be needed, no number is given."""

FAR = 0.01
"""How far validation accuracy may exceed test accuracy without a warning: more than two sets of one source differ."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Drop:
    """Of ``images``, ``lost`` only the dense network has right and ``won`` only the candidate.

    For a ``metric`` that is not a share of images, ``loss`` is what the candidate loses, with its interval.
    """

    lost: int
    won: int
    images: int
    metric: Metric = ACCURACY
    loss: Estimate | None = None

    @cached_property
    def interval(self) -> Estimate:
        """The loss, for accuracy as a fraction of the images, with its 95 % interval."""
        if self.loss is not None:
            return self.loss
        return interval(self.lost, self.won, self.images)

    @property
    def value(self) -> float:
        """The loss, for accuracy as a fraction of the images; negative if the candidate is better."""
        if self.loss is not None:
            return self.loss.value
        return (self.lost - self.won) / self.images

    def exceeds(self, allowed: float) -> bool:
        """Whether the loss on these images is more than is allowed."""
        return self.value > allowed + 1e-9

    def within(self, allowed: float) -> bool:
        """Whether the whole interval is within what is allowed: the images show that the loss is no larger."""
        return self.interval.high <= allowed + 1e-9

    def beyond(self, allowed: float) -> bool:
        """Whether the whole interval is above what is allowed: the images show that the loss is larger."""
        return self.interval.low > allowed

    def __str__(self) -> str:
        """The loss with its interval and the number of images: for accuracy in points, for others in their own unit."""
        return self._said(self.value, self.interval.low, self.interval.high)

    @property
    def gain(self) -> str:
        """The same the other way round: what the candidate wins."""
        return self._said(-self.value, -self.interval.high, -self.interval.low)

    def _said(self, value: float, low: float, high: float) -> str:
        digits, factor, unit = (
            (".2f", 100.0, " points") if self.metric.is_share else (".3g", 1.0, f" {self.metric.unit}".rstrip())
        )
        one, least, most = (f"{factor * number + 0.0:{digits}}" for number in (value, low, high))
        text = f"{one}{unit} on {self.images:,} {self.metric.count}s (95 % interval {least} to {most})"
        return text.replace("-", MINUS)


def loses(drop: Drop) -> str:
    """What a candidate loses, or wins, in words."""
    if drop.value >= 0:
        return f"{worsens(drop.metric)} by {drop}"
    return f"{drop.metric.name} {'rises' if drop.metric.higher_is_better else 'drops'} by {drop.gain}"


def worsens(metric: Metric) -> str:
    """What happens to a metric when a network gets worse: accuracy drops, an error rises."""
    return f"{metric.name} {'drops' if metric.higher_is_better else 'rises'}"


def amount(difference: float, metric: Metric = ACCURACY) -> str:
    """An allowed difference: for shares in percentage points (0.5 points, 1 point), for others in their own unit."""
    number = metric.limit(difference)
    return f"{number} point{'' if number == '1' else 's'}" if metric.is_share else f"{number} {metric.unit}".rstrip()


def estimate_of(scores: TaskArray, task: Task) -> Estimate:
    """The task's metric over images with these scores, with its 95 % interval: Wilson's for a share, else a bootstrap's."""
    value = task.value(scores)
    if is_right(scores):
        return wilson_interval(value, len(scores))
    return _bootstrap(value, len(scores), lambda rows: task.value(scores[rows]))


def drop_between(dense: TaskArray, candidate: TaskArray, task: Task = CLASSIFICATION) -> Drop:
    """The drop from the dense network to the candidate, from the scores of the same images in the same order.

    If scores say right or wrong, the interval is that of a paired difference of shares, else a paired bootstrap's.
    Source: Efron and Tibshirani 1993, An introduction to the bootstrap, section 13.3.
    """
    metric = task.metric
    if not is_right(dense):

        def lost(rows: TaskArray) -> float:
            return metric.gain(task.value(dense[rows]), task.value(candidate[rows]))

        return Drop(0, 0, len(dense), metric, _bootstrap(lost(np.arange(len(dense))), len(dense), lost))
    return Drop(int((dense & ~candidate).sum()), int((~dense & candidate).sum()), len(dense), metric)


def _bootstrap(value: float, count: int, of_rows: Callable[[TaskArray], float]) -> Estimate:
    """A ``value`` of ``count`` images with its percentile interval; the same scores give the same interval."""
    stream = np.random.default_rng(0)
    drawn = [of_rows(stream.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Estimate(value, min(float(low), value), max(float(high), value))


def interval(lost: float, won: float, images: float) -> Estimate:
    """The paired difference (lost - won) / images with its 95 % score interval. Counts need not be whole.

    Source: Tango 1998, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
    Statistics in Medicine 17.
    """
    value = (lost - won) / images
    ends = []
    for end, sign in ((-1.0, 1.0), (1.0, -1.0)):
        inside, outside = value, end
        for _ in range(60):
            middle = (inside + outside) / 2
            if sign * _score(middle, lost, won, images) <= _Z:
                inside = middle
            else:
                outside = middle
        ends.append(inside)
    return Estimate(value, ends[0], ends[1])


def images_needed(drop: Drop, allowed: float) -> int | None:
    """About how many images show that a drop is within ``allowed``, if the networks differ on them as often as on these.

    None if no number would, because the drop is not below what is allowed.
    """

    def shown(images: int) -> bool:
        scale = images / drop.images
        return interval(drop.lost * scale, drop.won * scale, images).high <= allowed

    if drop.value >= allowed:
        return None
    if drop.loss is not None:  # an interval shrinks with the root of the number of images
        needed = drop.images * ((drop.loss.high - drop.value) / (allowed - drop.value)) ** 2
        return math.ceil(needed) if needed <= MOST_IMAGES else None
    high = 1
    while not shown(high):
        high *= 2
        if high > MOST_IMAGES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def fewest_images(allowed: float) -> int | None:
    """How many images show a drop within ``allowed`` for a candidate that agrees with the dense network on all of them."""
    return images_needed(Drop(0, 0, 1), allowed)


def _score(difference: float, lost: float, won: float, images: float) -> float:
    """Tango's statistic: how far the counts are from a true ``difference``, in standard deviations."""
    # The likelihood's maximum under that difference, for the share of images that only the candidate has right.
    b = (2 * images - lost + won) * difference - lost - won
    c = -won * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 8 * images * c, 0.0)) - b) / (4 * images)
    variance = images * (2 * share + difference * (1 - difference))
    away = lost - won - images * difference
    if variance <= 1e-12 * images:
        return math.copysign(math.inf, away) if abs(away) > 1e-9 * images else 0.0
    return away / math.sqrt(variance)


def seen_before(found: Iterable[tuple[Sequence[StageOutcome], Evaluation]], validation_images: int) -> tuple[str, ...]:
    """A warning if the dense network does far better on validation than on test images, as if it was trained on them; else none.

    ``found`` are the history and the verdict of every candidate of one run: first stages note what the dense network was worth
    on validation images. Far is more than :data:`FAR`, with Wilson 95 % intervals that do not meet.
    """
    pairs = tuple(found)
    dense = next((verdict for history, verdict in pairs if not history), None)
    validation = next((history[0].value_before for history, _ in pairs if history), None)
    if dense is None or validation is None:
        return ()
    test, test_images = dense.trained_value, dense.test_images
    high = accuracy_interval(round(validation * validation_images), validation_images)
    low = accuracy_interval(round(test * test_images), test_images)
    if high.low <= low.high or validation - test <= FAR:
        return ()
    return (
        f"warning: the dense network is right on {100 * validation:.2f} % of {validation_images:,} validation images "
        f"({100 * high.low:.2f} to {100 * high.high:.2f}) and on {100 * test:.2f} % of {test_images:,} test images "
        f"({100 * low.low:.2f} to {100 * low.high:.2f}): its weights were probably trained on the validation images. "
        "What is lost on them says little; believe the test accuracies, or take validation images that training did not see",
    )
