"""What a run will take, in words."""

from __future__ import annotations

from paretrim.intervals import beats_guessing
from paretrim.metric import ACCURACY
from paretrim.report import wording
from paretrim.run.planning import Prediction
from paretrim.run.progress import counted, duration


def describe(prediction: Prediction) -> str:
    """The plan as lines of text."""
    rows = [f"  {'stage':<24} {'epochs':>6} {'steps':>8} {'ms a step':>10} {'predicted':>14}"]
    above = ""
    for stage in prediction.stages:
        if stage.candidate != above:
            rows.append(f"  {stage.candidate}:")
            above = stage.candidate
        step = f"{1000 * stage.step_seconds:.1f}" if stage.step_seconds else "–"
        name = f"{'  ' if stage.candidate else ''}{stage.name}"
        steps = stage.epochs * stage.steps
        predicted = "as above" if stage.shared else "finished" if stage.finished else duration(stage.seconds)
        predicted = "not predicted" if stage.unpredicted else predicted
        rows.append(f"  {name:<24} {stage.epochs:>6} {steps:>8} {step:>10} {predicted:>14}")
    time_left = _time_left(prediction)
    total = f"{counted(prediction.epochs)}, {time_left}" if prediction.epochs else time_left
    size = f"at most {prediction.disk_bytes / 1e6:.1f} MB on disk"
    zeros = [f"  zeros: {wording.zeros(part, total)}" for part, total in prediction.zeros]
    each = [f"  for each of {prediction.seeds} seeds:"] if prediction.seeds > 1 else []
    plan = f"plan: {prediction.parameters:,} parameters, {total}, {size}"
    count = prediction.on_padding
    padding = (
        [f"  {count:,} weights only ever multiply padding, as their maps are so small, and are 0 from the start"] if count else []
    )
    return "\n".join([plan, *_so_far(prediction), *padding, *zeros, *_timing(prediction), *each, *rows])


def _time_left(prediction: Prediction) -> str:
    if prediction.finished:
        return "nothing left to train"
    if any(stage.unpredicted for stage in prediction.stages):
        beside = f"{duration(prediction.seconds)} of training and " if prediction.seconds else ""
        return f"{beside}calibration, whose time is not predicted"
    work = "training" if prediction.epochs else "calibration and validation"
    return f"{duration(prediction.seconds)} of {work} predicted"


def doubt(accuracy: float, images: int, classes: int | None, *, kind: str = "validation") -> str:
    """A warning if an accuracy is not shown to be better than guessing, else ""; ``classes`` is None in other tasks."""
    if classes is None or beats_guessing(accuracy, images, classes):
        return ""
    return (
        f"warning: on {images} {kind} images the dense network is not shown to be better than guessing among {classes} "
        "classes; train it longer, or check its weights, the data's mean and std, and the order of the classes"
    )


def _so_far(prediction: Prediction) -> list[str]:
    if prediction.value is None:
        return []
    if prediction.metric != ACCURACY:
        metric = prediction.metric
        text = metric.text(prediction.value)
        return [f"  {metric.name} of the dense network on the first {prediction.images} validation images: {text}"]
    right = f"  the dense network is right on {100 * prediction.value:.1f} % of the first {prediction.images} validation images"
    warning = doubt(prediction.value, prediction.images, prediction.classes)
    return [right, f"  {warning}"] if warning else [right]


def _timing(prediction: Prediction) -> list[str]:
    timing = prediction.timing
    if timing is None:
        return []
    sessions = f"{timing.sessions} session{'s' * (timing.sessions > 1)} of up to {timing.files} files"
    work = f"up to {sessions}, each in {timing.rounds} rounds in {timing.processes} processes"
    return [f"  measuring latency comes on top, and its time is not predicted: {work}"]
