"""Warns where validation images are no fair test."""

from __future__ import annotations

from paretrim.intervals import accuracy_interval

FAR = 0.01
"""How far validation accuracy may be above test accuracy without a warning: more than images of one source differ."""


def seen_before(validation: float, validation_images: int, test: float, test_images: int) -> str:
    """A warning where validation accuracy is far above test accuracy, as for weights that were trained on those images; else "".

    Far is more than :data:`FAR`, with Wilson 95 % intervals that do not meet.
    """
    high = accuracy_interval(round(validation * validation_images), validation_images)
    low = accuracy_interval(round(test * test_images), test_images)
    if high.low <= low.high or validation - test <= FAR:
        return ""
    return (
        f"warning: the dense network is right on {100 * validation:.2f} % of {validation_images:,} validation images "
        f"({100 * high.low:.2f} to {100 * high.high:.2f}) and on {100 * test:.2f} % of {test_images:,} test images "
        f"({100 * low.low:.2f} to {100 * low.high:.2f}): its weights were probably trained on the validation images. "
        "What is lost on them says little; believe the test accuracies, or take validation images that training did not see"
    )
