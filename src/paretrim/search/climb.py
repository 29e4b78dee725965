"""The ladder of ``compress``, carried out: train a rung, deploy it, weigh it, and deliver all that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from paretrim.bench.types import Latency
from paretrim.files import write_atomically
from paretrim.graph.entropy import summarize_weights
from paretrim.intervals import Estimate
from paretrim.report.noise import doubts
from paretrim.results.choice import Choice
from paretrim.results.outcome import Outcome
from paretrim.results.run_folder import ONNX_FILE, TIMINGS
from paretrim.results.timing import RuntimeSetting, arms_of
from paretrim.run.candidate import Candidate
from paretrim.run.delivery import (
    Delivery,
    Entry,
    Experiment,
    TimingPlan,
    deliver,
    judged,
    judging_runtime,
    ship,
    timed,
    write_page,
)
from paretrim.run.judge import DeployedFiles, as_the_file_takes
from paretrim.run.pipeline import run_stages
from paretrim.run.planning import doubt
from paretrim.run.progress import Watcher
from paretrim.run.recipe import DENSE
from paretrim.run.run import with_dense
from paretrim.run.start import Start
from paretrim.runtime import load as open_session
from paretrim.search.drop import Drop, Right, drop_between
from paretrim.search.ladder import Attempt, Reference, Rung, Targets, choose, climb, misses, too_few_images, unshown, weighed

BEST, BEST_ONNX = "best.trim", "best.onnx"


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What came out: everything tried, the best of it, and its files; ``onnx`` is None where there is no ONNX file.

    ``missed`` are the targets it misses, ``unshown`` those that too few images or too much noise leave open, ``contradicted``
    those that the test images show to be missed; all in words, and all are met where there are none. The test images have no
    part in the choice: ``test_drop`` is only told.
    """

    reference: Reference
    tried: tuple[Attempt, ...]
    best: Attempt
    file: Path
    reason: str
    test_drop: Drop
    missed: tuple[str, ...]
    unshown: tuple[str, ...]
    contradicted: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    onnx: Path | None = None

    @property
    def met(self) -> bool:
        """Whether every target is shown to be met, and no test image speaks against it."""
        return not (self.missed or self.unshown or self.contradicted)

    def problems(self) -> tuple[str, ...]:
        """What speaks against the choice, a line each."""
        return (
            *(f"target missed: {text}" for text in self.missed),
            *(f"target not shown to be met: {text}" for text in self.unshown),
            *(f"the test images contradict the choice: {text}" for text in self.contradicted),
        )

    def facts(self) -> tuple[str, ...]:
        """What the choice costs in accuracy, on the images that decided and on those that did not."""
        return (f"validation: accuracy drops by {self.best.drop}", f"test: accuracy drops by {self.test_drop}")


def compress_towards(
    targets: Targets,
    rungs: Sequence[Rung],
    experiment: Experiment,
    folder: Path,
    *,
    measuring: TimingPlan | None,
    watcher: Watcher,
    reproduce: Sequence[str],
) -> SearchResult:
    """Climb the ladder in ``folder``, which the caller holds; the best so far is always in its ``best.trim`` and ``best.onnx``.

    Where the ONNX file of the best failed its check there is no ``best.onnx``. Latency targets refer to the first of the measured
    settings that runs the candidate.

    Raises:
        ParetrimError: training, export or measuring failed; what was earned before stays in the folder.
    """
    ready = with_dense(experiment, folder, watcher)
    dense_right = _dense_right(ready.start)
    reference = Reference(float(dense_right.mean()), len(dense_right), ready.start.classes)
    for warning in (doubt(reference.accuracy, reference.images, reference.classes), too_few_images(targets, reference)):
        if warning:
            watcher.note(warning)
    entries = [Entry(DENSE, replace(ready.recipe, stages=()), Candidate(ready.start.network))]
    tried: list[Attempt] = []

    def attempt(rung: Rung) -> Attempt:
        watcher.note(f"candidate: {rung.name}")
        candidate = run_stages(ready.start, rung.stages, folder, teacher=ready.teacher, report=watcher.tick)[-1]
        entries.append(Entry(rung.name, replace(ready.recipe, stages=rung.stages, label=rung.name), candidate))
        latency = None
        if measuring and targets.max_latency_ms is not None:
            latency = _latency(entries, ready, folder, measuring, watcher)
        found = _weighed(entries[-1], rung, ready, folder, dense_right=dense_right, latency=latency)
        tried.append(found)
        best, _ = choose(tried, targets, reference)
        _keep(ship(entries[1 + tried.index(best)], ready, folder), folder)
        watcher.note(f"{rung.name}: {weighed(found, reference)}; best so far: {best.rung.name}")
        return found

    climb(rungs, targets, reference, attempt=attempt, note=watcher.note)
    delivered = deliver(entries, ready, folder, measuring=measuring, watcher=watcher, reproduce=reproduce)
    settings = measuring.settings if measuring else ()
    found = _found(tried, delivered, targets, reference, folder, settings=settings)
    found = replace(found, onnx=_keep(delivered.deployed[1 + found.tried.index(found.best)], folder))
    choice = Choice(found.best.rung.name, BEST, targets.in_words(), found.reason, found.facts(), found.problems())
    write_page(delivered.outcomes, folder, reproduce=reproduce, choice=choice)
    return found


def _found(
    tried: Sequence[Attempt],
    delivered: Delivery,
    targets: Targets,
    reference: Reference,
    folder: Path,
    *,
    settings: Sequence[RuntimeSetting],
) -> SearchResult:
    """The choice among everything tried, with the latencies of the one session in which all files were timed together."""
    final = _with_final_latencies(tried, delivered, settings)
    best, reason = choose(final, targets, reference)
    dense, *others = delivered.judgements
    test_drop = drop_between(dense.right_images(), others[final.index(best)].right_images())
    contradicted = []
    if targets.max_drop is not None and test_drop.beyond(targets.max_drop):
        contradicted.append(f"accuracy drops by {test_drop}, more than --max-drop {100 * targets.max_drop:g}")
    return SearchResult(
        reference=reference,
        tried=final,
        best=best,
        file=folder / BEST,
        reason=reason,
        test_drop=test_drop,
        missed=misses(best, targets, reference),
        unshown=unshown(best, targets),
        contradicted=tuple(contradicted),
        outcomes=delivered.outcomes,
    )


def _dense_right(start: Start) -> Right:
    """Which validation images the dense network classifies right."""
    found, labels = start.validated
    return np.asarray((found == labels).numpy(), np.bool_)


def _file_right(files: DeployedFiles, start: Start) -> Right:
    """Which validation images the deployed file classifies right."""
    session = open_session(files.trim, threads=torch.get_num_threads(), measure=False)
    found = [
        session(as_the_file_takes(batch.inputs, start.spec)).argmax(1) == batch.labels.cpu().numpy()
        for batch in start.validation.epoch(0)
    ]
    return np.concatenate(found)


def _latency(
    entries: Sequence[Entry], experiment: Experiment, folder: Path, measuring: TimingPlan, watcher: Watcher
) -> Estimate | None:
    """Median latency of the newest entry beside the dense network, in the first setting that runs it; None where none does."""
    newest = entries[-1]
    pair = {entry.label: (entry, ship(entry, experiment, folder)) for entry in (entries[0], newest)}
    runtime = judging_runtime(measuring)
    problems = {label: judged(*made, experiment, onnx_runtime=runtime).onnx_problems for label, made in pair.items()}
    files = {label: made.folder / ONNX_FILE for label, (_, made) in pair.items()}
    place = folder / TIMINGS / "candidates" / files[newest.label].parent.name
    for setting in measuring.settings:
        if (newest.label, setting.runtime) in {(arm.name, arm.runtime) for arm in arms_of(files, setting, problems)}:
            alone = replace(measuring, settings=(setting,))
            found = timed(files, experiment.test, alone, place, watcher=watcher, problems=problems)[newest.label]
            return found[0].p50_ms
        why = problems[newest.label].get(setting.runtime) or "it has no file that runs there"
        watcher.note(f"{newest.label}: --max-latency-ms is not held against {setting.runtime}: {why}")
    return None


def _weighed(
    entry: Entry, rung: Rung, experiment: Experiment, folder: Path, *, dense_right: Right, latency: Estimate | None
) -> Attempt:
    """A candidate on the scales: its file, and what that makes of the validation images."""
    files = ship(entry, experiment, folder)
    right = _file_right(files, experiment.start)
    return Attempt(
        rung=rung,
        accuracy=float(right.mean()),
        drop=drop_between(dense_right, right),
        trim_bytes=files.trim.stat().st_size,
        entropy_bytes=sum(layer.entropy_bytes for layer in summarize_weights(files.graph)),
        p50_ms=latency,
    )


def _with_final_latencies(
    tried: Sequence[Attempt], delivered: Delivery, settings: Sequence[RuntimeSetting]
) -> tuple[Attempt, ...]:
    """What all files took in one session together replaces what each took on its own, in the first setting that runs it."""
    latencies = [_first(outcome.latencies, settings) for outcome in delivered.outcomes[1:]]
    return tuple(
        one if found is None else replace(one, p50_ms=found.p50_ms, doubts=doubts(found.noise, found.floor))
        for one, found in zip(tried, latencies, strict=True)
    )


def _first(latencies: Sequence[Latency], settings: Sequence[RuntimeSetting]) -> Latency | None:
    """The latency in the first of the settings that has one of its own; one that another runtime gave in its place is none."""
    own = {(one.runtime, one.threads): one for one in latencies if one.in_place_of is None}
    return next((own[key] for key in ((one.runtime, one.threads) for one in settings) if key in own), None)


def _keep(best: DeployedFiles, folder: Path) -> Path | None:
    """Copy the files of the best to where they are looked for; the ONNX file, if there is one."""
    write_atomically(folder / BEST, best.trim.read_bytes())
    if best.onnx is None:
        (folder / BEST_ONNX).unlink(missing_ok=True)
        return None
    write_atomically(folder / BEST_ONNX, best.onnx.read_bytes())
    return folder / BEST_ONNX
