"""The table people read, and what they read where there is no terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import fakes
import pytest
from rich.console import Console

from paretrim.bench.machine_load import shortened
from paretrim.intervals import Estimate
from paretrim.report import terminal, wording
from paretrim.report.points import aggregate, settings_of


def test_a_wide_table_has_everything() -> None:
    text = terminal.text(fakes.orders(3), width=320)
    for word in ("label", "order", "seeds", "accuracy", "deployed", "size", "entropy", "zeros", "p50 ms", "speed-up", "frontier"):
        assert word in text
    assert "prune → quantize → distill" in text
    assert "t interval over 3 seeds" in text
    number = next(line.split()[0] for line in text.splitlines() if " PQD " in line)
    assert f"no, see {number}" in text
    assert "left out" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_narrow_terminals_lose_columns_not_digits(width: int) -> None:
    text = terminal.text(fakes.orders(2), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "label" in text
    if width >= 40:
        (point, *_) = aggregate(fakes.orders(2))
        assert wording.value(point.deployed) in text
        assert "left out" in " ".join(text.split())


def test_the_tables_essentials_fit_80_columns() -> None:
    text = terminal.text(fakes.orders(1), width=80)
    assert {"#", "label", "accuracy", "size", "frontier"} <= set(text.split())
    assert "p50 ms" in text


def test_columns_that_repeat_others_are_left_out() -> None:
    one = fakes.renamed(fakes.orders(1)[0], "prune → quantize → distill")
    text = terminal.text([replace(one, order=("prune", "quantize", "distill"))], width=320)
    assert "order" not in text.split()
    assert "seeds" not in text.split()
    assert "baseline" in terminal.text(fakes.baseline(1), width=320)


def test_unquiet_timing_is_remarked_once() -> None:
    one = fakes.outcome("A")
    remarks = (
        "process 1: 6 tasks want to run (limit 1)",
        "processes 2, 3: 8 tasks want to run (limit 1)",
        "deployment 'a2' was slow",
    )
    noisy = replace(one, latencies=tuple(replace(latency, noise=remarks) for latency in one.latencies))
    text = " ".join(terminal.text([noisy], width=320).split())
    assert "not quiet while timing: 6 to 8 tasks want to run (limit 1), in 3 processes; 1 more on the page" in text


@pytest.mark.parametrize(
    ("remarks", "said"),
    [
        ((), ()),
        (("load average 1.4 at the start",), ("load average 1.4 at the start",)),
        (
            ("process 2: 7% stolen (limit 1%)", "process 1: 12% stolen (limit 1%)"),
            ("7 to 12% stolen (limit 1%), in 2 processes",),
        ),
        (
            ("process 1: deployment 'x9' died", "process 1: deployment 'x8' died"),
            ("deployment 'x9' died, in 1 process", "deployment 'x8' died, in 1 process"),
        ),
    ],
)
def test_remarks_that_differ_in_a_number_become_one(remarks: tuple[str, ...], said: tuple[str, ...]) -> None:
    assert shortened(remarks) == said


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
    assert [wording.milliseconds(value) for value in (0, 0.063, 0.9996, 9.996, 123.4, 1234)] == [
        "0.00",
        "0.0630",
        "1.00",
        "10.0",
        "123",
        "1,234",
    ]
    assert wording.value(Estimate(0.95, 0.948, 0.951)) == "95.00 ± 0.20"
    assert wording.milliseconds_with_half(Estimate(0.0662, 0.0615, 0.0826)) == "0.0662 ± 0.0164"
    assert wording.milliseconds_with_half(Estimate(0.063, 0.063, 0.06381)) == "0.0630 ± 0.0009"
    assert wording.times_with_half(Estimate(1.456, 1.3, 1.5)) == "1.46× ± 0.16"
    assert wording.times_with_half(Estimate(25.0, 10.0, 26.2)) == "25.0× ± 15.0"


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
