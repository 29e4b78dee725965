"""The ladder of ``compress``, carried out: train a rung, deploy it, weigh it, and deliver all that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paretrim.candidate import Candidate
from paretrim.errors import InvalidRecipe
from paretrim.files import write_atomically
from paretrim.graph.entropy import summarize_weights
from paretrim.judge import Deployed
from paretrim.outcome import Outcome
from paretrim.pipeline import run_stages
from paretrim.planning import doubt
from paretrim.progress import Watcher
from paretrim.run import Delivered, Entry, Measuring, Opened, deliver, ship, timed, with_dense
from paretrim.run_folder import TIMINGS
from paretrim.search.ladder import Reference, Rung, Targets, Tried, best_of, climb, misses, weighed
from paretrim.train.evaluate import predictions

BEST, BEST_ONNX = "best.trim", "best.onnx"
DENSE = "dense"


@dataclass(frozen=True, eq=False)
class Found:
    """What came out: everything tried, the best of it, its file, and the targets it misses in words (none: all are met)."""

    reference: Reference
    tried: tuple[Tried, ...]
    best: Tried
    file: Path
    missed: tuple[str, ...]
    outcomes: tuple[Outcome, ...]


def compress_towards(
    targets: Targets,
    rungs: Sequence[Rung],
    opened: Opened,
    folder: Path,
    *,
    measuring: Measuring | None,
    watcher: Watcher,
    reproduce: Sequence[str],
) -> Found:
    """Climb the ladder in ``folder``, which the caller holds; the best so far is always in its ``best.trim`` and ``best.onnx``.

    Latency targets refer to the first of the measured settings.

    Raises:
        ParetrimError: training, export or measuring failed; what was earned before stays in the folder.
    """
    ready = with_dense(opened, folder, watcher)
    reference = _reference(ready)
    if doubtful := doubt(reference.accuracy, reference.images, ready.start.classes):
        watcher.note(doubtful)
    entries = [Entry(DENSE, replace(ready.recipe, stages=()), Candidate(ready.start.network))]
    tried: list[Tried] = []

    def attempt(rung: Rung) -> Tried:
        watcher.note(f"candidate: {rung.name}")
        candidate = run_stages(ready.start, rung.stages, folder, teacher=ready.teacher, report=watcher.tick)[-1]
        entries.append(Entry(rung.name, replace(ready.recipe, stages=rung.stages, label=rung.name), candidate))
        found = _weighed(
            rung, entries, ready, folder, measuring=measuring if targets.max_latency_ms is not None else None, watcher=watcher
        )
        tried.append(found)
        best = best_of(tried, targets, reference)
        _keep(ship(entries[1 + tried.index(best)], ready, folder), folder)
        watcher.note(f"{rung.name}: {weighed(found, reference)}; best so far: {best.rung.name}")
        return found

    climb(rungs, targets, reference, attempt=attempt, note=watcher.note)
    delivered = deliver(entries, ready, folder, measuring=measuring, watcher=watcher, reproduce=reproduce)
    final = _with_final_latencies(tried, delivered)
    best = best_of(final, targets, reference)
    _keep(delivered.deployed[1 + final.index(best)], folder)
    return Found(reference, final, best, folder / BEST, misses(best, targets, reference), delivered.outcomes)


def _reference(opened: Opened) -> Reference:
    start = opened.start
    found, labels = predictions(start.network, start.validation.epoch(0), start.execution.torch_device())
    return Reference(float((found == labels).double().mean()), len(labels), start.classes)


def _weighed(
    rung: Rung, entries: Sequence[Entry], opened: Opened, folder: Path, *, measuring: Measuring | None, watcher: Watcher
) -> Tried:
    """The newest entry on the scales: its file, and its latency beside the dense network's if that is asked for."""
    dense, newest = entries[0], entries[-1]
    files = ship(newest, opened, folder)
    latency = None
    if measuring:
        first = replace(measuring, settings=measuring.settings[:1])
        place = folder / TIMINGS / "candidates" / files.onnx.parent.name
        pair = {dense.label: ship(dense, opened, folder).onnx, newest.label: files.onnx}
        found = timed(pair, opened.test, first, place, watcher=watcher)[newest.label]
        if not found:
            runtime = first.settings[0].runtime
            raise InvalidRecipe(f"'{newest.label}' cannot run in {runtime}; name another runtime first in --runtimes")
        latency = found[0].p50_ms.value
    return Tried(
        rung=rung,
        accuracy=newest.candidate.history[-1].accuracy_after,
        trim_bytes=files.trim.stat().st_size,
        entropy_bytes=sum(layer.entropy_bytes for layer in summarize_weights(files.graph)),
        p50_ms=latency,
    )


def _with_final_latencies(tried: Sequence[Tried], delivered: Delivered) -> tuple[Tried, ...]:
    """What all files took in one session together replaces what each took on its own."""
    latencies = [outcome.latencies for outcome in delivered.outcomes[1:]]
    return tuple(
        replace(one, p50_ms=found[0].p50_ms.value) if found else one for one, found in zip(tried, latencies, strict=True)
    )


def _keep(best: Deployed, folder: Path) -> None:
    for source, name in ((best.trim, BEST), (best.onnx, BEST_ONNX)):
        write_atomically(folder / name, source.read_bytes())
