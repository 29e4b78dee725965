import base64
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from trials import DENSE, MANY, trial, trial_of

from paretrim.errors import InvalidRecipe
from paretrim.metric import SQUARED_ERROR
from paretrim.run.delivery import Delivery, Experiment
from paretrim.run.drop import Drop
from paretrim.run.judge import Judgement
from paretrim.search.climb import _found
from paretrim.search.ladder import (
    Reference,
    Targets,
    choose,
    misses,
    too_few_images,
    unshown,
    weighed,
)
from paretrim.train.task import CLASSIFICATION

TRIED = (
    trial_of("INT8", 0.898, 300, p50=0.5, entropy=250, images=MANY.images),
    trial_of("80% of prunable zero, INT8", 0.895, 300, p50=0.5, entropy=120, images=MANY.images),
    trial_of("25% of channels removed, INT8", 0.880, 200, p50=0.7, images=MANY.images),
    trial_of("50% of channels removed, INT8", 0.600, 100, p50=0.2, images=MANY.images),
)


@pytest.mark.parametrize(
    ("targets", "best"),
    [
        (Targets(), 1),  # smallest within a point; of equal files the one with less entropy
        (Targets(max_drop=0.021), 2),
        (Targets(max_drop=0.0), 0),  # none: the most accurate
        (Targets(max_drop=0.021, max_latency_ms=1.0), 1),  # the fastest of those that meet both
        (Targets(max_drop=0.021, max_latency_ms=0.1), 1),  # none: the fastest that is accurate enough
        (Targets(max_bytes=250), 2),  # the most accurate of those small enough
        (Targets(max_bytes=50), 3),  # none: the smallest
        (Targets(max_latency_ms=0.3), 3),
    ],
)
def test_the_best_of_them(targets, best):
    assert choose(TRIED, targets, MANY)[0] is TRIED[best]


@pytest.mark.parametrize("targets", [Targets(), Targets(max_bytes=60), Targets(max_latency_ms=0.15), Targets(max_drop=0.01)])
def test_one_at_chance_is_best_only_where_all_are(targets):
    useless = trial_of("75% of channels removed, INT8", 0.10, 50, p50=0.1, images=MANY.images)
    assert choose((*TRIED, useless), targets, MANY)[0] in TRIED
    assert choose((useless,), targets, MANY)[0] is useless


def test_misses_say_by_how_much():
    found = misses(trial_of("INT8", 0.85, 1200, p50=2.5), Targets(0.005, 2.0, 1000), DENSE)
    assert found == (
        "accuracy drops by 5.00 points on validation images, 4.50 more than --max-drop 0.5",
        "the median latency is 2.5 ms, 0.5 ms more than --max-latency-ms 2",
        "the .trim file has 1,200 bytes, 200 more than --max-bytes 1,000",
    )
    assert misses(trial_of("INT8", 0.895, 1000, p50=2.0), Targets(0.005, 2.0, 1000), DENSE) == ()
    (unknown,) = misses(trial_of("INT8", 0.895, 1000), Targets(None, 2.0), DENSE)
    assert unknown == (
        "there is no latency to hold against --max-latency-ms 2: none of the runtimes measured runs the candidate; "
        "name others in --runtimes"
    )
    (tiny,) = misses(trial_of("INT8", 0.85, 1200, p50=0.0123), Targets(None, 0.0001), DENSE)
    assert tiny == "the median latency is 0.0123 ms, 0.0122 ms more than --max-latency-ms 0.0001"


FEW = Reference(value=26 / 36, images=36, classes=4)


def _of_few(name, lost, won, size):
    return trial(name, (26 - lost + won) / 36, Drop(lost, won, 36), size, 0.0)


def test_too_few_images_show_nothing_and_the_choice_says_how_many_would():
    """One image of 36 lost is 2.78 points, within the 5 that are allowed, and may be 14."""
    targets = Targets(max_drop=0.05)
    careful, light = _of_few("INT8", 0, 0, 300), _of_few("80% of prunable zero, INT8", 1, 0, 100)
    best, reason = choose((careful, light), targets, FEW)
    assert best is careful
    assert reason == "none of those tried is shown to lose at most 5 points; this one comes nearest to it"
    assert misses(light, targets, FEW) == ()
    assert unshown(light, targets) == (
        "accuracy drops by 2.78 points on 36 images (95 % interval −7.13 to 14.17), which does not show that it is within "
        "--max-drop 5; about 370 images like these would be needed: add images, validate on a larger share of them "
        "(--validation), or allow more",
    )
    assert too_few_images(targets, FEW) == (
        "warning: 36 validation images cannot show that accuracy drops by at most 5 points: it takes 73 and more; add images, "
        "validate on a larger share of them (--validation), or allow more"
    )
    assert too_few_images(targets, Reference(0.9, 73, 4)) == ""
    assert too_few_images(Targets(max_bytes=1), FEW) == ""
    assert too_few_images(Targets(max_drop=0.0), MANY).endswith(
        "no number of images can, unless a candidate is the more accurate one"
    )


def test_a_drop_that_is_larger_than_allowed_is_missed_whatever_its_interval():
    one = _of_few("INT8", 3, 0, 300)
    assert unshown(one, Targets(max_drop=0.05)) == ()
    assert misses(one, Targets(max_drop=0.05), FEW) == (
        "accuracy drops by 8.33 points on validation images, 3.33 more than --max-drop 5",
    )


def test_no_number_of_images_shows_a_drop_that_is_just_what_is_allowed():
    (said,) = unshown(trial_of("INT8", 0.89, 300), Targets(max_drop=0.01))
    assert said.endswith("no number of images would, as the drop is not below it; allow more")


def test_a_latency_is_met_with_its_whole_interval():
    one = trial_of("INT8", 0.9, 300, p50=1.0)  # 0.99 to 1.01
    assert unshown(one, Targets(max_latency_ms=1.02)) == ()
    assert unshown(one, Targets(max_latency_ms=1.005)) == (
        "the median latency is 1 ms (95 % interval 0.99 to 1.01), which does not show that it is within --max-latency-ms 1.005; "
        "measure longer (--effort) or on a quieter machine, or allow more",
    )
    assert unshown(one, Targets(max_latency_ms=0.995)) == ()  # missed, and said so elsewhere


def test_a_latency_from_a_disturbed_session_shows_nothing():
    one = replace(trial_of("INT8", 0.9, 300, p50=1.0), doubts=("tasks waited for a CPU 98% of the time (limit 10%)",))
    assert unshown(one, Targets(max_latency_ms=2.0)) == (
        "the latency was measured while the machine was not quiet (tasks waited for a CPU 98% of the time (limit 10%)); measure "
        "again on a quieter machine, with another --effort",
    )
    assert unshown(one, Targets(max_bytes=1000)) == ()
    assert unshown(one, Targets(max_latency_ms=0.5)) == ()  # missed, and said so elsewhere


@pytest.mark.parametrize(
    ("targets", "place", "reason"),
    [
        (Targets(), 1, "the smallest of those tried that are shown to lose at most 1 point"),
        (Targets(max_bytes=250), 2, "the most accurate of those tried that meet the targets"),
        (Targets(max_bytes=50), 3, "none of those tried meets the targets; this is the smallest"),
        (Targets(0.021, 1.0), 1, "the fastest of those tried that meet the targets and are shown to lose at most 2.1 points"),
        (
            Targets(0.021, 0.1),
            1,
            "none of those tried meets all targets; this is the fastest that is shown to lose at most 2.1 points",
        ),
        (Targets(0.0), 0, "none of those tried is shown to lose at most 0 points; this one comes nearest to it"),
    ],
)
def test_a_choice_says_why(targets, place, reason):
    assert choose(TRIED, targets, MANY) == (TRIED[place], reason)


def test_targets_in_words():
    assert Targets().in_words() == ()
    assert Targets(0.01).in_words() == ("accuracy drops by at most 1 point (--max-drop)",)
    assert Targets(2.5, metric=SQUARED_ERROR).in_words() == ("mean squared error rises by at most 2.5 (--max-drop)",)
    assert Targets(metric=SQUARED_ERROR).allowed_drop(8.0) == pytest.approx(0.8)
    assert Targets(0.005, 2.0, 1000).in_words() == (
        "accuracy drops by at most 0.5 points (--max-drop)",
        "median latency of at most 2 ms (--max-latency-ms)",
        "a .trim file of at most 1,000 bytes (--max-bytes)",
    )


def test_what_a_candidate_is_worth():
    assert weighed(trial_of("INT8", 0.85, 1200), DENSE) == "validation accuracy 90.00 % → 85.00 %, 1,200 bytes (.trim)"
    assert weighed(trial_of("INT8", 0.95, 1200, p50=0.0123), DENSE).endswith("90.00 % → 95.00 %, 1,200 bytes (.trim), 0.0123 ms")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"max_drop": -0.1}, "--max-drop is -10 points; it must be from 0 to 100"),
        ({"max_drop": -0.1, "metric": SQUARED_ERROR}, "--max-drop is -0.1; it must be a mean squared error of 0 or more"),
        ({"max_latency_ms": float("inf")}, "--max-latency-ms is inf; it must be above 0"),
        ({"max_bytes": 0}, "--max-bytes is 0; it must be 1 or more"),
    ],
)
def test_invalid_targets_are_refused(targets, said):
    with pytest.raises(InvalidRecipe, match=said):
        Targets(**targets)


def _judgement(right):
    kept = base64.b64encode(np.packbits(right).tobytes()).decode()
    return Judgement(
        trained_value=0.9,
        deployed_value=0.9,
        agreement=1.0,
        test_images=len(right),
        runtime="paretrim",
        onnx_value=0.9,
        onnx_agreement=1.0,
        onnx_runtime="onnxruntime",
        onnx_agreements={"onnxruntime": 1.0},
        right=kept,
    )


@pytest.mark.parametrize(
    ("lost", "contradicts"),
    [(54, True), (20, False)],  # 15 points [11.7, 19.0], 5.56 points [3.6, 8.4]
)
def test_test_images_that_speak_against_the_choice_are_heard_and_do_not_choose(tmp_path, lost, contradicts):
    """36 of 36 validation images right with both; of 360 test images the candidate loses some."""
    right = np.arange(360) >= 60
    worse, fine = right & (np.arange(360) >= 60 + lost), right
    tried = [
        trial("INT8", 1.0, Drop(0, 0, 100), 100, 0.0),
        trial("80% of prunable zero, INT8", 1.0, Drop(0, 0, 100), 300, 0.0),
    ]
    outcomes = tuple(SimpleNamespace(latencies=()) for _ in range(3))
    experiment = Experiment(SimpleNamespace(task=CLASSIFICATION))
    delivered = Delivery(experiment, (), (), tuple(map(_judgement, (right, worse, fine))), outcomes)
    found = _found(tried, delivered, Targets(max_drop=0.05), Reference(1.0, 100, 10), tmp_path, settings=())
    assert found.best is tried[0]
    assert found.test_drop == Drop(lost, 0, 360)
    assert found.met is not contradicts
    assert found.facts()[1].startswith(f"test: accuracy drops by {100 * lost / 360:.2f} points on 360 images (95 % interval ")
    said = f"the test images contradict the choice: accuracy drops by {found.test_drop}, more than --max-drop 5"
    assert found.problems() == ((said,) if contradicts else ())
