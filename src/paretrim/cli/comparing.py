"""``inspect --compare``: two files on the same test images."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paretrim.cli.images import images_for
from paretrim.cli.output import emit, say, show_rows
from paretrim.cli.reading import GRAPHS, described, kind_of
from paretrim.cli.status import DONE
from paretrim.deploy.runnable import open_runnable
from paretrim.errors import InvalidRecipe
from paretrim.report import wording
from paretrim.results.comparison import compare

BATCH = 250
"""Images at once."""

SHOWN = 20
"""Positions of images in the text; ``--json`` has all of them."""


def compare_files(parsed: argparse.Namespace) -> int:
    """Show what the second file decides otherwise than the first.

    Raises:
        InvalidRecipe: no data are named, the files tell different numbers of classes apart, or one is no classifier.
    """
    if parsed.data is None:
        raise InvalidRecipe("inspect --compare needs test images; name them with --data, for instance --data digits")
    files: list[Path] = parsed.compare
    first, labels = _logits(parsed, files[0])
    second, _ = _logits(parsed, files[1])
    if first.shape != second.shape:
        raise InvalidRecipe(
            f"'{files[0]}' gives {first.shape[1]} logits and '{files[1]}' {second.shape[1]}; compare files for the same classes"
        )
    found = compare(first, second, labels)
    if parsed.json:
        emit({"files": [str(file) for file in files], "data": parsed.data, **dataclasses.asdict(found)})
        return DONE
    rows = [
        (str(one.label), str(one.images), str(one.right_before), str(one.right_after), str(one.worse), str(one.better))
        for one in found.classes
    ]
    show_rows(("class", "images", "right before", "right after", "worse", "better"), rows)
    for file, accuracy, error in zip(files, found.accuracy, found.calibration_error, strict=True):
        say(f"{file}: accuracy {wording.percent(accuracy, 2)}, calibration error (ECE) {wording.percent(error, 2)}")
    say(f"agreement {wording.percent(found.agreement, 2)} of {found.images:,} test images, KL divergence {found.kl:.4f} nats")
    for what, places in (("worse", found.worse), ("better", found.better)):
        more = f" and {len(places) - SHOWN} more (--json lists all)" if len(places) > SHOWN else ""
        say(f"{what}: {len(places)} images{': ' if places else ''}{', '.join(map(str, places[:SHOWN]))}{more}")
    return DONE


def _logits(parsed: argparse.Namespace, file: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Logits [N, K] of a file on the test images, and their labels."""
    runtime = "paretrim" if kind_of(file) in GRAPHS else "onnxruntime"
    known = described(file)
    if known.task:
        raise InvalidRecipe(
            f"'{file}' was made for the task '{known.task}', and --compare tells what classifiers decide; judge each file with "
            "paretrim eval"
        )
    runnable = open_runnable(file, runtime=runtime, threads=1)
    test = images_for(parsed, file, known, labelled=True)
    parts = [runnable(test.images[at : at + BATCH]) for at in range(0, len(test.images), BATCH)]
    return np.concatenate(parts), test.labels
