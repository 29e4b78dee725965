"""One page that is well formed, complete, safe against names that look like markup, and loads nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import fakes
import pytest

from paretrim.errors import InvalidRecipe
from paretrim.history import StageOutcome
from paretrim.intervals import Estimate
from paretrim.report import page, svg
from paretrim.results.outcome import Choice

VOID = {"meta", "input", "br", "path", "circle", "line", "rect"}
OPTIONAL = {"td", "th", "tr", "thead", "tbody"}
EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


class Structure(HTMLParser):
    """Checks that elements close in order (table parts may leave out their ends, as HTML allows) and that ids are unique."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [value for key, value in found.items() if key == "id" and value]
        self.addresses += [value or "" for key, value in found.items() if key in ("src", "href", "srcset", "action", "data")]
        assert not [key for key in found if key.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:  # HTMLParser also calls this for "<path/>"
            return
        while self.open[-1] != tag and self.open[-1] in OPTIONAL:
            self.open.pop()
        assert self.open.pop() == tag


def parsed(text: str) -> Structure:
    structure = Structure()
    structure.feed(text)
    structure.close()
    assert not structure.open
    assert len(set(structure.ids)) == len(structure.ids)
    return structure


@pytest.mark.parametrize("outcomes", [fakes.baseline(1), fakes.orders(3), fakes.many(30, 2)], ids=["1", "7", "30"])
def test_the_page_is_well_formed_and_loads_nothing(outcomes: tuple[fakes.Outcome, ...]) -> None:
    text = page.render(outcomes, title="Test", distributions=fakes.distributions(outcomes, 50), reproduce=["paretrim --help"])
    structure = parsed(text)
    assert all(address.startswith("#p") for address in structure.addresses)
    assert not {"link", "img", "iframe", "object", "base"} & set(structure.tags)
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|import\(|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


def test_the_page_says_everything() -> None:
    text = page.render(fakes.orders(3), title="Six orders", reproduce=["paretrim study orders"])
    for words in (
        *(
            "<h1>Six orders</h1>",
            "smaller and",
            "faster, accuracy ",
            "The frontier",
            "Does the order matter?",
            "Recipes and layers",
        ),
        *("Latency in full", "A/A floor", "load average 1.4 at the start", "Example Zen 5", "avx512_vnni", "onnxruntime 1.31.1"),
        *(
            "0123abc",
            "paretrim study orders",
            "<td>temperature<td>4",
            "<td>hints<td>[layer2, layer3]",
            "<td>schedule.kind<td>cubic",
        ),
        *("dominated by PQD", "no difference shown", "Bonferroni", "t interval over 3 seeds"),
    ):
        assert words in text, words
    assert text.count("<details id=") == 7


def test_names_are_data_everywhere() -> None:
    base = fakes.outcome(EVIL, order=("prune", "quantize"))
    layers = tuple(replace(layer, name=EVIL, dtype=EVIL) for layer in base.layers)
    latencies = tuple(replace(t, runtime=EVIL, baseline=EVIL, noise=(EVIL,)) for t in base.latencies[:1])
    history = tuple(replace(stage, name=EVIL, settings={EVIL: EVIL}) for stage in base.history)
    texts = dict.fromkeys(("study", "recipe", "data", "network", "runtime", "file", "commit", "created"), EVIL)
    machine = replace(base.machine, cpu=EVIL, isa=(EVIL,), system=EVIL, python=EVIL)
    evil = replace(
        base,
        **texts,
        order=(EVIL, "q"),
        layers=layers,
        latencies=latencies,
        history=history,
        machine=machine,
        versions={EVIL: EVIL},
        settings={EVIL: EVIL},
    )
    other = replace(evil, label="other " + EVIL, order=("q", EVIL), deployed_value=0.5)
    text = page.render([evil, other], title=EVIL, distributions={EVIL: [1.0]}, reproduce=[EVIL])
    structure = parsed(text)
    assert structure.tags.count("script") == 2
    assert "img" not in structure.tags
    assert EVIL not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["points"][0]["label"] == EVIL


def test_two_hundred_points_stay_below_a_megabyte() -> None:
    outcomes = fakes.many(200)
    text = page.render(outcomes, title="Many", distributions=fakes.distributions(outcomes, 30))
    assert len(text.encode()) < 1_000_000
    assert "Dominated: " in text


def test_many_layers_are_left_out_in_words() -> None:
    outcomes = [replace(one, layers=one.layers * 4) for one in fakes.many(120)]
    text = page.render(outcomes, title="Deep")
    assert re.search(r"\d+ dominated points come without their layers", text)


def test_without_latency_the_page_shows_bytes_alone() -> None:
    text = page.render([replace(one, latencies=()) for one in fakes.orders(1)], title="No latency")
    parsed(text)
    assert 'data-x="bytes"' in text
    assert 'data-x="latency"' not in text
    assert "Latency in full" not in text
    assert "on the other picture" not in text
    assert "on the other picture" in page.render(fakes.orders(1), title="Latency")


def test_a_missing_percentile_is_a_dash() -> None:
    (one,) = fakes.baseline(1)
    text = page.render([replace(one, latencies=tuple(replace(t, p99_ms=None) for t in one.latencies))], title="Short")
    assert "<td>–" in text


def test_write_makes_the_folder_and_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    page.write(page.render(fakes.orders(1), title="Written"), path)
    assert path.read_text(encoding="utf-8") == page.render(fakes.orders(1), title="Written")


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="there are no outcomes to report"):
        page.write(page.render((), title="Empty"), tmp_path / "index.html")


def test_a_sparkline_needs_samples_and_a_range() -> None:
    assert svg.sparkline([], span=(0.9, 1.5)) == ""
    assert svg.sparkline([1.0], span=(1.0, 1.0)) == ""
    assert svg.sparkline([0.0], span=(0.9, 1.5)) == ""
    assert svg.sparkline([1.0, 1.1, 9.0], span=(0.9, 1.5)).startswith("<svg class=spark")


def test_imports_without_torch() -> None:
    code = "import sys; import paretrim.report.page, paretrim.report.terminal; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_print_hides_what_only_a_pointer_can_use() -> None:
    style = page.render(fakes.baseline(1), title="Print").split("@media print", 1)[1]
    assert "fieldset label:has(input:not(:checked)), .tip, svg .ring { display: none; }" in style


CHOICE = Choice(
    "PQD",
    "best.trim",
    ("accuracy drops by at most 5 points (--max-drop)",),
    "the smallest of them",
    ("validation: it drops", "test: it drops more"),
    (),
)


def test_the_page_names_the_choice_and_recommends_no_other() -> None:
    text = page.render(fakes.orders(1), choice=CHOICE)
    parsed(text)
    for words in (*CHOICE.targets, "PQD (best.trim)", CHOICE.reason, *CHOICE.facts, "All targets are met."):
        assert words in text
    assert re.findall(r"<div><dt>(.*?)</dt>", text) == ["Chosen"]
    assert re.findall(r'<span class="who">(.*?)</span>', text) == ["PQD"]
    assert "within 1 point" not in text
    assert '<span class="meta">test: it drops more.</span>' in text


def test_the_page_says_what_speaks_against_the_choice() -> None:
    problem = "the test images contradict the choice: accuracy drops by 15 points"
    text = page.render(fakes.orders(1), choice=replace(CHOICE, problems=(problem,)))
    parsed(text)
    assert "The test images contradict the choice: accuracy drops by 15 points." in text
    assert "All targets are met" not in text


@pytest.mark.parametrize("choice", [None, CHOICE])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"floor": Estimate(1.0, 0.74, 1.24)}, "the baseline measured 0.74 to 1.24 times as fast as its own copy"),
        ({"noise": ("process 1: tasks waited for a CPU 98% of the time (limit 10%)",)}, "tasks waited for a CPU 98% of the time"),
    ],
)
def test_times_that_their_session_calls_into_question_make_no_headline(changed, said, choice) -> None:
    sound = fakes.orders(1)
    bad = [replace(one, latencies=tuple(replace(latency, **changed) for latency in one.latencies)) for one in sound]
    before, after = (re.search(r"<header>.*?</header>", page.render(o, choice=choice), re.DOTALL)[0] for o in (sound, bad))
    assert "faster" in before
    assert "No speed is named here" not in before
    assert "faster" not in after.replace(said, "")
    assert "smaller" in after
    assert f"No speed is named here, because the times are not sound: {said}" in after


def test_the_page_says_where_the_baseline_of_a_speed_up_ran() -> None:
    """The native runtime once had no floating point, so speed-ups that were taken then are against another runtime's."""
    sound = fakes.orders(1)
    native = [
        replace(
            one,
            latencies=tuple(
                replace(latency, in_place_of="paretrim") if not one.order else replace(latency, runtime="paretrim")
                for latency in one.latencies[:1]
            ),
        )
        for one in sound
    ]
    said = "earlier versions timed float networks in onnxruntime in place of paretrim: FP32 baseline."
    assert f"Speed-up is against FP32 baseline, from paired rounds; {said}" in page.render(native)
    assert "earlier versions timed" not in page.render(sound)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (None, "8"),
        ({"stem": 8, "a": 4, "b": 4, "fc": 8, "c": 4}, "4; 8 in stem, fc"),
        ({"a": 8, "b": 8, "<c>": 2, "d": 4}, "8; 4 in d; 2 in &lt;c&gt;"),
        ({"f": 8, **dict.fromkeys("abcde", 4), **dict.fromkeys("ghijklm", 2)}, "2; 4 in 5 layers; 8 in f"),
    ],
)
def test_bits_that_differ_by_layer_are_told(bits: dict[str, int] | None, text: str) -> None:
    stage = StageOutcome("quantize", {}, 1, 1.0, 0.0, 8, 0.9, 0.9, bits)
    made = page.render([replace(fakes.outcome("mixed"), history=(stage,))], title="Mixed")
    assert f"<td>{text}<td>1<td>1" in made
