import io

import pytest
from rich.console import Console

from paretrim.run.progress import counted, duration, lines, silent, watching
from paretrim.train.fit import Tick


def _tick(step, *, epoch=1, stage="prune"):
    return Tick(stage, epoch, 3, step, 100, 0.5, 0.75, 61.0)


def test_a_log_gets_a_line_an_epoch_and_one_every_ten_seconds():
    text, now = io.StringIO(), [0.0]
    watcher = lines(Console(file=text), clock=lambda: now[0])
    for step, seconds in ((1, 1), (26, 9), (51, 11), (76, 20), (100, 21)):
        now[0] = seconds
        watcher.tick(_tick(step))
    assert text.getvalue() == (
        "prune: epoch 1/3, step 51/100, loss 0.500, accuracy 75.0 %, 1 min 01 s left\n"
        "prune: epoch 1/3, loss 0.500, accuracy 75.0 %, 1 min 01 s left\n"
    )


def test_downloads_in_a_log():
    text, now = io.StringIO(), [0.0]
    watcher = lines(Console(file=text), clock=lambda: now[0])
    watcher.fetched(1_000_000, 3_000_000)
    now[0] = 10.0
    watcher.fetched(2_000_000, 0)
    watcher.fetched(3_000_000, 3_000_000)
    assert text.getvalue() == "downloaded 2 MB\ndownloaded 3 MB of 3 MB\n"


def test_one_epoch_is_one():
    assert [counted(number) for number in (0, 1, 2, 1200)] == ["0 epochs", "1 epoch", "2 epochs", "1,200 epochs"]


def test_a_terminal_gets_bars_and_keeps_the_notes():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, color_system=None)
    with watching(console) as watcher:
        watcher.tick(_tick(1))
        watcher.note("[bold] is a name, not markup")
        watcher.tick(_tick(100, epoch=3))
        watcher.fetched(10_000_000, 10_000_000)
        watcher.tick(_tick(50, stage="quantize"))
    said = text.getvalue()
    assert "[bold] is a name, not markup" in said
    assert "prune: 3 epochs, loss 0.500, accuracy 75.0 %" in said
    assert "quantize" in said
    assert "epoch 1/3, loss 0.500, accuracy 75.0 %, 1 min 01 s left" in said


def test_a_file_gets_plain_lines():
    text = io.StringIO()
    with watching(Console(file=text)) as watcher:
        watcher.note("as it is")
    assert text.getvalue() == "as it is\n"


def test_a_silent_watcher_prints_nothing():
    watcher = silent()
    watcher.tick(_tick(1))
    watcher.note("nothing")
    watcher.fetched(1, 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "under 1 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
