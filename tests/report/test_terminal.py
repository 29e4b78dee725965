"""The table people read, and what they read where there is no terminal."""

from __future__ import annotations

import io

import fakes
import pytest
from rich.console import Console

from paretrim.bench.types import Estimate
from paretrim.report import terminal, wording
from paretrim.report.points import aggregate, settings_of


def test_a_wide_table_has_everything() -> None:
    text = terminal.text(fakes.orders(3), width=320)
    for word in ("label", "order", "seeds", "accuracy", "deployed", "size", "entropy", "zeros", "p50 ms", "speed-up", "frontier"):
        assert word in text
    assert "prune → quantize → distill" in text
    assert "t interval over 3 seeds" in text
    assert "dominated by PQD" in text
    assert "left out" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_narrow_terminals_lose_columns_not_digits(width: int) -> None:
    text = terminal.text(fakes.orders(2), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "label" in text
    if width >= 40:
        (point, *_) = aggregate(fakes.orders(2))
        assert wording.accuracy(point.accuracy) in text
        assert "left out" in " ".join(text.split())


def test_names_cannot_write_to_the_terminal() -> None:
    text = terminal.text([fakes.outcome("[red]A\x1b[2J")], width=200)
    assert "[red]A�[2J" in text


def test_a_terminal_gets_colour() -> None:
    buffer = io.StringIO()
    terminal.show(fakes.orders(1), Console(file=buffer, width=200, force_terminal=True, color_system="truecolor"))
    assert "\x1b[" in buffer.getvalue()


def test_the_frontier_follows_the_setting() -> None:
    outcomes = fakes.orders(1)
    last = settings_of(aggregate(outcomes))[-1]
    caption = terminal.table(outcomes, width=300, setting=last).caption
    assert "openvino, 2 threads" in str(caption)


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999 B"), (1000, "1.00 kB"), (999_600, "1.00 MB"), (44_012_345, "44.0 MB"), (2.5e9, "2.50 GB"), (0, "0 B")],
)
def test_sizes(value: float, text: str) -> None:
    assert wording.size(value) == text


def test_numbers_in_words() -> None:
    assert wording.points(-0.00001) == "0.00"
    assert wording.points(-0.0123) == "−1.23"
    assert wording.points(0.0123, 1) == "+1.2"
    assert wording.milliseconds(0.01234) == "0.0123"
    assert wording.accuracy(Estimate(0.95, 0.948, 0.951)) == "95.00 ± 0.20"


@pytest.mark.parametrize(
    ("speedup", "claim"),
    [
        (Estimate(2.3, 2.2, 2.4), "2.30× faster"),
        (Estimate(0.5, 0.49, 0.51), "2.00× slower"),
        (Estimate(1.005, 1.001, 1.009), "no faster beyond the noise"),
        (Estimate(1.5, 0.9, 2.0), "no faster beyond the noise"),
    ],
)
def test_speed_is_claimed_only_outside_the_floor(speedup: Estimate, claim: str) -> None:
    (point,) = aggregate(fakes.baseline(1))
    speed = next(iter(point.speeds.values()))
    assert wording.speed_claim(wording.Speed(**{**vars(speed), "speedup": speedup})) == claim
