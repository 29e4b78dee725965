"""``inspect --compare``: two files on the same test images."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paretrim.cli.exits import DONE
from paretrim.cli.images import TestImages, images_for
from paretrim.cli.output import emit, say, show_rows
from paretrim.cli.reading import GRAPHS, described, kind_of
from paretrim.deploy.runnable import Runnable, in_batches, open_runnable
from paretrim.errors import InvalidRecipe
from paretrim.report import inside as page
from paretrim.report import wording
from paretrim.results.comparison import Comparison, compare, compare_numbers
from paretrim.results.inside import InsideComparison

BOTH = 2

SHOWN = 20
"""Positions of images in the text; ``--json`` has all of them."""


def compare_files(parsed: argparse.Namespace) -> int:
    """Show how the second file's predictions, or for other tasks its numbers, differ from the first's.

    Raises:
        InvalidRecipe: no data are named, the files are for different tasks, or they have different numbers of outputs.
    """
    if parsed.file is not None:
        raise InvalidRecipe(f"'{parsed.file}' is a third file beside the two of --compare; leave it out")
    if parsed.at and not (parsed.inside or parsed.out):
        raise InvalidRecipe(f"--at '{parsed.at[0]}' is for Grad-CAM, which needs --inside; add it")
    if len(parsed.at) > BOTH:
        raise InvalidRecipe(f"--at is given {len(parsed.at)} times; give it once for both files, or once for each of them")
    if parsed.data is None:
        raise InvalidRecipe("inspect --compare needs test images; name them with --data, for example --data digits")
    files: list[Path] = parsed.compare
    tasks = [described(file).task for file in files]
    if tasks[0] != tasks[1]:
        said = " and ".join(f"'{file}' for {task or 'classification'}" for file, task in zip(files, tasks, strict=True))
        raise InvalidRecipe(f"{said}: files for different tasks cannot be compared; evaluate each with paretrim eval")
    if tasks[0]:
        return _compare_numbers(parsed, files, tasks[0])
    first, test = _logits(parsed, files[0])
    second, other = _logits(parsed, files[1])
    labels = test.labels
    if first.shape != second.shape:
        raise InvalidRecipe(
            f"'{files[0]}' gives {first.shape[1]} logits and '{files[1]}' {second.shape[1]}; compare files for the same classes"
        )
    found = compare(first, second, labels, described(files[0]).classes)
    inside = _inside(parsed, (test, other), found) if parsed.inside or parsed.out is not None else None
    if parsed.out is not None and inside is not None:
        page.write(parsed.out, (str(files[0]), str(files[1])), found, inside)
    if parsed.json:
        looked = {} if inside is None else {"inside": inside.facts()}
        emit({"files": [str(file) for file in files], "data": parsed.data, **dataclasses.asdict(found), **looked})
        return DONE
    rows = [
        (one.title, str(one.images), str(one.right_before), str(one.right_after), str(one.worse), str(one.better))
        for one in found.classes
    ]
    show_rows(("class", "images", "right before", "right after", "worse", "better"), rows)
    for file, accuracy, error in zip(files, found.accuracy, found.calibration_error, strict=True):
        say(f"{file}: accuracy {wording.percent(accuracy, 2)}, calibration error (ECE) {wording.percent(error, 2)}")
    say(f"agreement {wording.percent(found.agreement, 2)} of {found.images:,} test images, KL divergence {found.kl:.4f} nats")
    for what, places in (("worse", found.worse), ("better", found.better)):
        more = f" and {len(places) - SHOWN} more (--json lists all)" if len(places) > SHOWN else ""
        say(f"{what}: {len(places)} images{': ' if places else ''}{', '.join(map(str, places[:SHOWN]))}{more}")
    if inside is not None:
        _say_inside(inside)
    return DONE


def _compare_numbers(parsed: argparse.Namespace, files: Sequence[Path], task: str) -> int:
    if parsed.inside or parsed.out is not None:
        raise InvalidRecipe(
            f"--inside needs classifiers, and these files are for the task '{task}'; leave out --inside and --out"
        )
    first, second = (_numbers(parsed, file) for file in files)
    if first.shape != second.shape:
        raise InvalidRecipe(
            f"'{files[0]}' gives {first.shape[1]} numbers for each image and '{files[1]}' {second.shape[1]}; "
            "compare files with the same outputs"
        )
    found = compare_numbers(first, second)
    if parsed.json:
        emit({"files": [str(file) for file in files], "data": parsed.data, "task": task, **dataclasses.asdict(found)})
        return DONE
    rows = [(str(place), f"{found.differences[place]:.4g}") for place in found.worst[:SHOWN]]
    show_rows(("image", "mean difference"), rows)
    correlation = "one file is constant" if found.correlation is None else f"correlation {found.correlation:.4f}"
    say(
        f"{found.numbers} number{'s' * (found.numbers > 1)} for each of {found.images:,} test images: mean difference "
        f"{found.mean_difference:.4g}, largest {found.largest_difference:.4g}, {correlation}"
    )
    return DONE


def _say_inside(inside: InsideComparison) -> None:
    """How alike the class maps of both networks are, and what zeros cost each."""
    if inside.similarity:
        mean = float(np.mean(inside.similarity))
        say(f"Grad-CAM: mean cosine similarity {mean:.3f} of the maps of {inside.images:,} images")
    else:
        say(f"Grad-CAM: left out, {page.WITHOUT_MAPS}")
    for one in inside.sweep:
        said = " and ".join(wording.percent(value, 2) for value in one.accuracy)
        say(f"{wording.percent(one.sparsity, 0)} zeros without training: {said}")


def _numbers(parsed: argparse.Namespace, file: Path) -> npt.NDArray[np.float32]:
    """All numbers that a file computes for each test image, [N, M]."""
    found, _ = _on_test_images(parsed, file, lambda runnable, images: runnable.outputs(images), labelled=False)
    return np.concatenate([part.reshape(len(part), -1) for part in found], axis=1)


def _inside(parsed: argparse.Namespace, tests: tuple[TestImages, TestImages], found: Comparison) -> InsideComparison:
    """Compare the internals of both files.

    Raises:
        InvalidRecipe: one of them cannot be turned back into a network.
    """
    from paretrim.run.inside import look_into_files

    for file in parsed.compare:
        if kind_of(file) not in GRAPHS:
            raise InvalidRecipe(f"'{file}' is not a .trim or .graph file; --inside needs gradients, which only these provide")
    first, second = tests
    files = (parsed.compare[0], parsed.compare[1])
    at = (parsed.at[0], parsed.at[-1]) if parsed.at else ("", "")
    return look_into_files(files, (first.images, second.images), first.labels, first_shown=found.worse, at=at)


def _logits(parsed: argparse.Namespace, file: Path) -> tuple[npt.NDArray[np.float32], TestImages]:
    """Logits [N, K] of a file on the test images, and the images."""
    (logits,), test = _on_test_images(parsed, file, lambda runnable, images: (runnable(images),), labelled=True)
    return logits, test


def _on_test_images(
    parsed: argparse.Namespace,
    file: Path,
    run: Callable[[Runnable, npt.NDArray[np.uint8] | npt.NDArray[np.float32]], tuple[npt.NDArray[np.float32], ...]],
    *,
    labelled: bool,
) -> tuple[list[npt.NDArray[np.float32]], TestImages]:
    """A file's outputs on the test images, one array per output, and the images."""
    runnable = open_runnable(file, runtime="paretrim" if kind_of(file) in GRAPHS else "onnxruntime", threads=1)
    test = images_for(parsed, file, described(file), labelled=labelled)
    parts = [run(runnable, part) for part in in_batches(test.images)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)], test
