"""``eval``: the metric of one deployed file on test images."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from paretrim.cli.deployed import known_runtime, runtime_of
from paretrim.cli.exits import DONE
from paretrim.cli.images import TestImages, images_for
from paretrim.cli.output import emit, say
from paretrim.cli.reading import FileDescription, described
from paretrim.deploy.runnable import open_runnable
from paretrim.errors import InvalidRecipe
from paretrim.intervals import Estimate
from paretrim.run.drop import estimate_of
from paretrim.run.judge import decisions
from paretrim.train.task import CLASSIFICATION, Task, is_right
from paretrim.train.tasks import TASKS, task_named


def evaluate(parsed: argparse.Namespace) -> int:
    """Measure the metric of one file on the test images: for a classifier, its accuracy."""
    file: Path = parsed.file
    known = described(file)
    task = _task(parsed, file, known)
    runtime = parsed.runtime or runtime_of(file, "onnxruntime")
    runnable = open_runnable(file, runtime=known_runtime(runtime), threads=parsed.threads)
    test = images_for(parsed, file, known, labelled=task == CLASSIFICATION)
    shapes = [output.shape[1:] for output in runnable.outputs(test.images[:1])]
    task.check_labels(torch.from_numpy(test.labels), shapes, f"the test images of {parsed.data} have")
    scores = task.score(decisions(runnable, test.images, task), test.labels)
    found = estimate_of(scores, task)
    size = file.stat().st_size
    if parsed.json:
        facts: dict[str, object] = {"file": str(file), "data": parsed.data, "runtime": runnable.runtime}
        facts |= {"runtime_version": runnable.version, "images": len(test.labels), "file_bytes": size}
        facts |= {"task": task.name, "metric": dataclasses.asdict(task.metric), "value": dataclasses.asdict(found)}
        if is_right(scores):
            facts |= {"correct": int(scores.sum()), task.metric.name: dataclasses.asdict(found)}
        prepared = test.preparation
        normalisation = {"source": prepared.source, "mean": prepared.mean, "std": prepared.std}
        emit(facts | {"normalisation": normalisation, "resize": prepared.resize})
    else:
        say(f"{file}: {_worth(found, task, test, parsed.data, wilson=is_right(scores))}")
        say(f"{size:,} bytes, in {runnable.runtime} {runnable.version}; {test.preparation.in_words(parsed.data)}")
    return DONE


def _task(parsed: argparse.Namespace, file: Path, known: FileDescription) -> Task:
    """The task given, or else the one that the file was made for."""
    if parsed.task is not None:
        return task_named(parsed.task)
    if known.task and known.task not in TASKS:
        metric = f" with the metric {known.judged_by}" if known.judged_by else ""
        raise InvalidRecipe(
            f"'{file}' was made for the task '{known.task}'{metric}, which is not built in; "
            "name it with --task package.module:name"
        )
    return TASKS[known.task or CLASSIFICATION.name]


def _worth(found: Estimate, task: Task, test: TestImages, data: str, *, wilson: bool) -> str:
    """The value with its interval, and the images it was measured on."""
    metric, images = task.metric, f"{len(test.labels):,} test images of {data}"
    interval = f"{'Wilson' if wilson else 'bootstrap'} 95 % {metric.number(found.low)} to {metric.number(found.high)}"
    if task == CLASSIFICATION:
        return f"{metric.text(found.value)} of {images} ({interval})"
    return f"{metric.name} {metric.text(found.value)} on {images} ({interval})"
