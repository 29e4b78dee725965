"""Climbing the ladder of ``compress``: train a rung, deploy it, measure it, and deliver all that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paretrim.bench.machine_load import doubts
from paretrim.bench.types import Latency
from paretrim.files import write_atomically
from paretrim.results.outcome import Choice, Outcome
from paretrim.results.timing import RuntimeSetting
from paretrim.run.delivery import Delivery, Entry, Experiment, TimingPlan, ship
from paretrim.run.drop import Drop, drop_between, loses
from paretrim.run.judge import DeployedFiles
from paretrim.run.plan_text import doubt
from paretrim.run.progress import Watcher
from paretrim.run.records import records_of, write_page
from paretrim.run.run import carry_out
from paretrim.run.start import Start
from paretrim.search.ladder import Reference, Rung, Targets, choose, climb, misses, too_few_images, unshown, weighed
from paretrim.search.trial import Evaluator, Trial

BEST, BEST_ONNX = "best.trim", "best.onnx"


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result: everything tried, the best of it, and its files; ``onnx`` is None if there is no ONNX file.

    ``missed`` are the targets that it misses, ``unshown`` those left open by too few images or too much noise, ``contradicted``
    those that the test images show to be missed, all in words; without any of them, all targets are met. The test images
    have no part in the choice: ``test_drop`` is only reported.
    """

    reference: Reference
    tried: tuple[Trial, ...]
    best: Trial
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
        """Whether every target is shown to be met, and the test images do not contradict it."""
        return not (self.missed or self.unshown or self.contradicted)

    def problems(self) -> tuple[str, ...]:
        """The problems with the choice, a line each."""
        return (
            *(f"target missed: {text}" for text in self.missed),
            *(f"target not shown to be met: {text}" for text in self.unshown),
            *(f"the test images contradict the choice: {text}" for text in self.contradicted),
        )

    def facts(self) -> tuple[str, ...]:
        """What the choice costs, on the images that decided and on those that did not."""
        return (f"validation: {loses(self.best.drop)}", f"test: {loses(self.test_drop)}")


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

    If the ONNX file of the best failed its check, there is no ``best.onnx``. Latency targets refer to the first of the measured
    settings that runs the candidate.

    Raises:
        ParetrimError: training, export or measuring failed; finished work stays in the folder.
    """
    tried: list[Trial] = []

    def candidates(ready: Experiment, place: Path, told: Watcher) -> tuple[Entry, ...]:
        evaluator = Evaluator(ready, place, measuring, told)
        _try_rungs(targets, rungs, evaluator, tried)
        return (evaluator.dense, *(one.entry for one in tried))

    records = records_of(folder, reproduce)
    delivered = carry_out(experiment, folder, candidates, records=records, measuring=measuring, watcher=watcher)
    reference = _reference(delivered.experiment.start)
    settings = measuring.settings if measuring else ()
    found = _found(tried, delivered, targets, reference, folder, settings=settings)
    found = replace(found, onnx=_keep(delivered.deployed[1 + found.tried.index(found.best)], folder))
    choice = Choice(found.best.name, BEST, targets.in_words(), found.reason, found.facts(), found.problems())
    write_page(delivered.outcomes, folder, reproduce=reproduce, choice=choice)
    return found


def _try_rungs(targets: Targets, rungs: Sequence[Rung], evaluator: Evaluator, tried: list[Trial]) -> None:
    """Climb the ladder, and add the trial of every rung to ``tried``."""
    ready, note = evaluator.experiment, evaluator.watcher.note
    reference = _reference(ready.start)
    for warning in (doubt(reference.value, reference.images, reference.classes), too_few_images(targets, reference)):
        if warning:
            note(warning)

    def attempt(rung: Rung) -> Trial:
        note(f"candidate: {rung.name}")
        found = evaluator.evaluate(rung.stages, name=rung.name, latency=targets.max_latency_ms is not None)
        found = replace(found, doubts=())  # the session of all files at the end decides whether a latency is shown
        tried.append(found)
        best, _ = choose(tried, targets, reference)
        _keep(ship(best.entry, ready, evaluator.folder), evaluator.folder)
        note(f"{rung.name}: {weighed(found, reference)}; best so far: {best.name}")
        return found

    climb(rungs, targets, reference, attempt=attempt, note=note)


def _reference(start: Start) -> Reference:
    return Reference(start.value, len(start.validated[1]), start.guessed_among)


def _found(
    tried: Sequence[Trial],
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
    test_drop = drop_between(dense.image_scores(), others[final.index(best)].image_scores(), delivered.experiment.start.task)
    contradicted = []
    if targets.max_drop is not None and test_drop.beyond(targets.max_drop):
        contradicted.append(f"{loses(test_drop)}, more than --max-drop {test_drop.metric.limit(targets.max_drop)}")
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


def _with_final_latencies(tried: Sequence[Trial], delivered: Delivery, settings: Sequence[RuntimeSetting]) -> tuple[Trial, ...]:
    """Replace each latency by that of the session of all files together, in the first setting that runs the file."""
    latencies = [_first(outcome.latencies, settings) for outcome in delivered.outcomes[1:]]
    return tuple(
        one if found is None else replace(one, p50_ms=found.p50_ms, doubts=doubts(found.noise, found.floor))
        for one, found in zip(tried, latencies, strict=True)
    )


def _first(latencies: Sequence[Latency], settings: Sequence[RuntimeSetting]) -> Latency | None:
    """The latency in the first setting that has its own; one from another runtime in its place does not count."""
    own = {(one.runtime, one.threads): one for one in latencies if one.in_place_of is None}
    return next((own[key] for key in ((one.runtime, one.threads) for one in settings) if key in own), None)


def _keep(best: DeployedFiles, folder: Path) -> Path | None:
    """Copy the files of the best, with the ONNX file if there is one, to their fixed names."""
    write_atomically(folder / BEST, best.trim.read_bytes())
    if best.onnx is None:
        (folder / BEST_ONNX).unlink(missing_ok=True)
        return None
    write_atomically(folder / BEST_ONNX, best.onnx.read_bytes())
    return folder / BEST_ONNX
