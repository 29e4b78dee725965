"""Progress of a run: a bar on a terminal, plain lines in a log. Everything goes to one given console."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from paretrim.visible import visible, visible_lines

if TYPE_CHECKING:
    from paretrim.history import StageOutcome
    from paretrim.train.fit import Tick

LINE_SECONDS = 10.0
"""Least time between two plain lines within an epoch."""


@dataclass(frozen=True)
class Watcher:
    """Callbacks of a run: ``tick`` for training steps, ``note`` for other lines, ``fetched`` for downloaded bytes."""

    tick: Callable[[Tick], None]
    note: Callable[[str], None]
    fetched: Callable[[int, int], None]


def silent() -> Watcher:
    """A watcher that says nothing."""
    return Watcher(lambda _: None, lambda _: None, lambda _, __: None)


@contextlib.contextmanager
def watching(console: Console) -> Iterator[Watcher]:
    """Show progress on ``console`` until the block ends: bars if it is a terminal, else lines."""
    if not console.is_terminal:
        yield lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, transient=True) as shown:
        yield _bars(console, shown)


def lines(console: Console, *, clock: Callable[[], float] = time.monotonic) -> Watcher:
    """One line at the end of every epoch, and within one at most every :data:`LINE_SECONDS`."""
    last = clock()

    def due(finished: bool) -> bool:
        nonlocal last
        if not finished and clock() - last < LINE_SECONDS:
            return False
        last = clock()
        return True

    def tick(now: Tick) -> None:
        if due(now.step == now.steps):
            within = "" if now.step == now.steps else f", step {now.step}/{now.steps}"
            _line(console, f"{now.stage}: epoch {now.epoch}/{now.epochs}{within}, {described(now)}")

    def fetched(done: int, total: int) -> None:
        if due(done == total):
            _line(console, _fetched(done, total))

    return Watcher(tick, lambda text: _line(console, text), fetched)


def described(tick: Tick) -> str:
    """Loss, running metric and time left at a moment in training."""
    return f"loss {tick.loss:.3f}, {_running(tick)}, {duration(tick.seconds_left)} left"


def _running(tick: Tick) -> str:
    """The running metric; one decimal of percent is enough, since it changes with every batch."""
    value = f"{100 * tick.value:.1f} %" if tick.metric.is_share else tick.metric.text(tick.value)
    return f"{tick.metric.name} {value}"


def told(outcome: StageOutcome) -> str:
    """What a finished stage did to the metric."""
    metric, values = outcome.judged_by, (outcome.value_before, outcome.value_after)
    return f"{outcome.name} done: validation {metric.name} {' → '.join(map(metric.text, values))}"


def counted(epochs: int) -> str:
    """A number of epochs in words: 1 epoch, 2 epochs."""
    return f"{epochs:,} epoch{'s' * (epochs != 1)}"


def duration(seconds: float) -> str:
    """Time in words, in the two largest units: 4 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _bars(console: Console, shown: Progress) -> Watcher:
    tasks: dict[str, TaskID] = {}

    def update(name: str, done: int, total: int, said: str) -> None:
        if name not in tasks:
            for task in tasks.values():
                shown.update(task, visible=False)
            tasks[name] = shown.add_task(visible(name), said="")
        shown.update(tasks[name], completed=done, total=total or None, said=said, visible=True)
        if done == total:
            # A later stage of the same name gets its own bar.
            shown.remove_task(tasks.pop(name))

    def tick(now: Tick) -> None:
        done, total = (now.epoch - 1) * now.steps + now.step, now.epochs * now.steps
        update(now.stage, done, total, f"epoch {now.epoch}/{now.epochs}, {described(now)}")
        if done == total:
            _line(console, f"{now.stage}: {counted(now.epochs)}, loss {now.loss:.3f}, {_running(now)}")

    return Watcher(
        tick, lambda text: _line(console, text), lambda done, total: update("download", done, total, _fetched(done, total))
    )


def _line(console: Console, text: str) -> None:
    console.print(visible_lines(text), markup=False, highlight=False, soft_wrap=True)


def _fetched(done: int, total: int) -> str:
    return f"downloaded {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} MB" if total else "")
