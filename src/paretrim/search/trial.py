"""One step of any search: run a sequence of stages, deploy the result, and measure the file on validation images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from paretrim.bench.machine_load import doubts
from paretrim.bench.types import Latency
from paretrim.files import folder_of
from paretrim.graph.entropy import summarize_weights
from paretrim.intervals import Estimate
from paretrim.lock import hold
from paretrim.metric import ACCURACY, Metric
from paretrim.results.run_folder import ONNX_FILE, TIMINGS
from paretrim.results.timing import deployments_of
from paretrim.run.delivery import Entry, Experiment, TimingPlan, judged, judging_runtime, ship, timed
from paretrim.run.drop import Drop, drop_between
from paretrim.run.judge import DeployedFiles, as_the_file_takes
from paretrim.run.progress import Watcher, silent
from paretrim.run.recipe import Recipe
from paretrim.run.run import open_recipe, require_recipe, train, with_dense
from paretrim.run.start import Start
from paretrim.runtime import load as open_session
from paretrim.stages.stage import Stage
from paretrim.stages.usual import split_epochs
from paretrim.torch_settings import usual_settings
from paretrim.train.task import TaskArray


@dataclass(frozen=True)
class Trial:
    """The result of a sequence of stages.

    ``value`` is the ``metric`` of the deployed file on the validation images; ``drop`` is what it
    loses there against the dense network, ``trim_bytes`` the size of the ``.trim`` file and ``entropy_bytes`` that of its weights
    at their own entropy. ``p50_ms`` is None if nothing was timed; ``doubts`` are the problems that its session's own
    checks found. ``entry`` holds the candidate itself.
    """

    name: str
    value: float
    drop: Drop
    trim_bytes: int
    entropy_bytes: float
    p50_ms: Estimate | None = None
    doubts: tuple[str, ...] = ()
    metric: Metric = ACCURACY
    entry: Entry = field(kw_only=True, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Evaluates sequences of stages on one experiment, whose dense network is trained already, in a folder that the caller holds.

    Work in the folder is not repeated: sequences that begin alike share their first stages, and the same call resumes after a
    kill. Make one with :func:`evaluator`.
    """

    experiment: Experiment
    folder: Path
    measuring: TimingPlan | None
    watcher: Watcher

    @usual_settings()
    def evaluate(self, stages: Sequence[Stage], budget: int | None = None, *, name: str = "", latency: bool = True) -> Trial:
        """Train, deploy and measure; ``budget`` is the number of epochs over all stages, divided in proportion to their own.

        Without a budget each stage trains for its own epochs. A larger budget does not continue a smaller one, since learning
        rates and ramps differ. Without ``latency`` the file is not timed now.

        Raises:
            ParetrimError: training or export failed, or measuring did; finished work stays in the folder.
        """
        chain = tuple(stages) if budget is None else with_epochs(stages, budget)
        entry = train(self.experiment, chain, self.folder, watcher=self.watcher, label=name)[-1]
        files = ship(entry, self.experiment, self.folder)
        task = self.experiment.start.task
        scores = file_scores(files, self.experiment.start)
        found = self._latency(entry) if latency else None
        return Trial(
            name=entry.label,
            value=task.value(scores),
            drop=drop_between(self.dense_scores, scores, task),
            trim_bytes=files.trim.stat().st_size,
            entropy_bytes=sum(layer.entropy_bytes for layer in summarize_weights(files.graph)),
            p50_ms=None if found is None else found.p50_ms,
            doubts=() if found is None else doubts(found.noise, found.floor),
            metric=task.metric,
            entry=entry,
        )

    @cached_property
    def dense_scores(self) -> TaskArray:
        """The task's score of the dense network for each validation image: for classification, whether it is right."""
        found, labels = self.experiment.start.validated
        return self.experiment.start.task.score(found.numpy(), labels.numpy())

    @cached_property
    def dense(self) -> Entry:
        """The dense network, as the baseline of latencies."""
        return train(self.experiment, (), self.folder, watcher=self.watcher)[0]

    def _latency(self, entry: Entry) -> Latency | None:
        """Latency of an entry beside the dense network, in the first setting that runs it; None if none does."""
        measuring, start, test = self.measuring, self.experiment.start, self.experiment.test
        if measuring is None or test is None:
            return None
        pair = {one.label: (one, ship(one, self.experiment, self.folder)) for one in (self.dense, entry)}
        runtime = judging_runtime(measuring)
        found = {label: judged(*made, test, start, onnx_runtime=runtime) for label, made in pair.items()}
        problems = {label: judgement.onnx_problems or {} for label, judgement in found.items()}
        files = {label: made.folder / ONNX_FILE for label, (_, made) in pair.items()}
        place = self.folder / TIMINGS / "candidates" / files[entry.label].parent.name
        for setting in measuring.settings:
            named = {(one.name, one.runtime) for one in deployments_of(files, setting, problems)}
            if (entry.label, setting.runtime) in named:
                alone = replace(measuring, settings=(setting,))
                latencies = timed(files, test.images, alone, place, watcher=self.watcher, problems=problems)
                return latencies[entry.label][0]
            why = problems[entry.label].get(setting.runtime) or "it has no file that runs there"
            self.watcher.note(f"{entry.label}: not timed in {setting.runtime}: {why}")
        return None


@contextmanager
def evaluator(
    recipe: Recipe, folder: Path | str, *, measuring: TimingPlan | None = None, watcher: Watcher | None = None
) -> Iterator[Evaluator]:
    """An evaluator for your own search: network, data, seed and the dense network's training come from the recipe.

    The recipe's stages are ignored. This process holds the folder until the end.

    Raises:
        RunInUse: another process works in the folder.
        ParetrimError: data, network or weights are not what they should be, or the dense network cannot be trained.
    """
    watcher, folder = watcher or silent(), folder_of(folder)
    require_recipe(recipe)
    with hold(folder):
        with usual_settings():
            ready = with_dense(open_recipe(recipe, watcher), folder, watcher)
        yield Evaluator(ready, folder, measuring, watcher)


def with_epochs(stages: Sequence[Stage], epochs: int) -> tuple[Stage, ...]:
    """The stages with this many epochs in all, in proportion to their own; equal shares if they have none.

    Raises:
        InvalidRecipe: the number is out of range.
    """
    if not stages:
        return ()
    own = [stage.budget.epochs for stage in stages]
    parts = split_epochs(epochs, own if any(own) else [1] * len(own))
    return tuple(_with_epochs(stage, part) for stage, part in zip(stages, parts, strict=True))


def _with_epochs(stage: Stage, epochs: int) -> Stage:
    return replace(stage, budget=replace(stage.budget, epochs=epochs))


def file_scores(files: DeployedFiles, start: Start) -> TaskArray:
    """The task's score of the deployed file for each validation image."""
    task, runnable = start.task, open_session(files.trim, threads=torch.get_num_threads(), measure=False)
    found = [
        task.score(task.decide(runnable.outputs(as_the_file_takes(batch.inputs, start.spec))), batch.labels.cpu().numpy())
        for batch in start.validation.epoch(0)
    ]
    return np.concatenate(found)
