"""The page in Markdown and its figure: complete, the same every time, and safe against names that look like markup."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import fakes
import pytest

from paretrim.cli import main
from paretrim.errors import InvalidRecipe
from paretrim.intervals import Estimate
from paretrim.report import document, figure, scatter
from paretrim.report.points import aggregate, settings_of
from paretrim.results import store
from paretrim.results.outcome import Outcome

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SVG = "{http://www.w3.org/2000/svg}"
EVIL = "a|b <b>c</b> [d](javascript:e) `f` *g* _h_ &amp; \\i\nj"


def with_accuracies(label: str, accuracies: list[float], order: tuple[str, ...] = ()) -> list[Outcome]:
    made = [fakes.outcome(label, seed=seed, order=order) for seed in range(len(accuracies))]
    return [replace(one, deployed_value=accuracy) for one, accuracy in zip(made, accuracies, strict=True)]


def section(text: str, heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def table(text: str) -> list[list[str]]:
    """Cells of the only table of a text, without its rule; a cell bar that is escaped does not end a cell."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


def test_one_row_an_arm_with_its_numbers() -> None:
    text = document.render(fakes.orders(3))
    points = aggregate(fakes.orders(3))
    assert text.startswith("# example: resnet18 on cifar10\n")
    for heading in ("Accuracy", "Size", "onnxruntime, 1 thread", "openvino, 2 threads"):
        assert [row[0] for row in table(section(text, heading))[1:]] == [point.label for point in points]
    row = table(section(text, "Accuracy"))[2]
    assert row[:3] == ["PQD", "prune 40 → quantize 40 → distill 40", "3"]
    assert row[3:] == ["95.10 ± 0.10", "0.00", "99.72 %"]
    assert table(section(text, "Size"))[2] == ["PQD", "88.1 %", "1.87 MB", "1.84 MB"]
    latency = table(section(text, "onnxruntime, 1 thread"))
    assert latency[1][4] == "baseline"
    assert latency[2] == ["PQD", "1.14 (1.11–1.16)", "1.20 (1.17–1.24)", "1.49 (1.39–1.59)", "4.32× (4.22–4.40)"]
    assert "Noise on the machine:\n\n- load average 1.4 at the start\n" in section(text, "openvino, 2 threads")
    assert "No noise was detected." in section(text, "openvino, 1 thread")


def test_verdicts_hold_for_all_arms_together() -> None:
    dense = with_accuracies("dense", [0.90, 0.91, 0.92])
    worse = with_accuracies("worse", [0.80, 0.811, 0.82], ("prune",))
    alike = with_accuracies("alike", [0.90, 0.93, 0.91], ("quantize",))
    better = with_accuracies("better", [0.95, 0.961, 0.97], ("distill",))
    text = section(document.render([*dense, *worse, *alike, *better]), "Against dense")
    assert "Compared with dense. More accurate: better. Less accurate: worse. No difference shown: alike." in text
    assert table(text)[1] == [
        "worse",
        "3",
        "−9.97",
        "−10.22 to −9.71",
        "worse is less accurate than dense, by 9.71 to 10.22 points",
    ]
    assert "each with 98.33 % confidence, so that all of them hold together with 95 % (Bonferroni)." in text


def test_differences_that_cannot_be_known() -> None:
    text = document.render([*with_accuracies("dense", [0.9]), *with_accuracies("prune", [0.8], ("prune",))])
    row = table(section(text, "Against dense"))[1]
    assert row[2:] == ["–", "–", "nothing can be said: 1 common seed, at least 2 are needed"]
    assert "each with 95 % confidence." in text
    assert "Against" not in document.render(fakes.baseline(3))


def test_orders_have_a_comparison_of_their_own() -> None:
    text = section(document.render(fakes.orders(3)), "Does the order matter? Against PQD")
    assert [row[0] for row in table(text)[1:]] == ["PDQ", "QPD", "QDP", "DPQ", "DQP"]
    alone = [one for one in fakes.orders(3) if one.order]
    assert "Does the order matter?" not in document.render(alone)


def test_what_was_run_is_said_as_far_as_the_lines_know() -> None:
    recipe = {
        "model": {"network": "resnet20", "weights": "/home/someone/net_20.safetensors"},
        "data": {"name": "cifar10", "train_images": 20000},
        "dense": {"epochs": 20},
        "teacher": None,
    }
    runs = [fakes.outcome("D", seed=seed, order=("distill",)) for seed in (0, 2)]
    text = document.render([*fakes.baseline(1), *(replace(run, settings=recipe) for run in runs)])
    said = section(text, "What was run")
    assert "- Network: resnet18, weights from net_20.safetensors, trained dense for 20 epochs with each seed" in said
    assert "- Data: cifar10, 20,000 training images per epoch" in said
    assert "- Seeds: 0, 2; not all of them yet: FP32 baseline (0)" in said
    assert "- Epochs after the dense network: 40 for every arm with stages" in said
    assert "- Teacher: the dense network of each run" in said
    assert "/home" not in text
    other = {**recipe, "teacher": {"network": "resnet56", "weights": "/models/big.safetensors"}}
    said = section(document.render([replace(runs[0], settings=other)]), "What was run")
    assert "- Teacher: resnet56, weights from big.safetensors" in said
    fresh = {**recipe, "teacher": {"network": "resnet56", "weights": None}}
    assert "- Teacher: resnet56\n" in section(document.render([replace(runs[0], settings=fresh)]), "What was run")
    several = {**recipe, "teachers": [{"name": "dense"}, {"name": "large", "network": "vgg19", "weights": "/models/vgg.pt"}]}
    said = section(document.render([replace(runs[0], settings=several)]), "What was run")
    assert "- Teacher: the dense network of each run, vgg19, weights from vgg.pt\n" in said
    pruned = replace(runs[0], order=("prune",))
    assert "Teacher" not in document.render([replace(pruned, settings=recipe)])
    assert "- Teacher: resnet56\n" in section(document.render([replace(pruned, settings=fresh)]), "What was run")
    assert "Teacher" not in document.render(fakes.orders(1))


def test_epochs_that_differ_are_said_as_a_range() -> None:
    arms = [fakes.outcome("P", order=("prune",)), fakes.outcome("PQ", order=("prune", "quantize"))]
    assert "40 to 80; by stage in the next table" in document.render(arms)
    assert "- Epochs after the dense network: none\n" in document.render(fakes.baseline(1))
    # A history that does not match the order (an older run) gives the order alone.
    assert "| prune → quantize |" in document.render([replace(arms[1], history=arms[1].history[:1])])


def test_without_latency_and_within_the_noise() -> None:
    silent = [replace(one, latencies=()) for one in fakes.orders(1)]
    text = document.render(silent)
    assert "## Latency" not in text
    assert "\n- accuracy and bytes: FP32 baseline, " in text
    base, arm = fakes.outcome("FP32 baseline"), fakes.outcome("PQD", order=("prune",))
    level = replace(arm.latencies[0], speedup=Estimate(1.01, 0.98, 1.04), p90_ms=None, samples=1400)
    rows = table(section(document.render([base, replace(arm, latencies=(level,))]), "onnxruntime, 1 thread"))
    assert rows[2][2] == "–"
    assert rows[2][4] == "1.01× (0.980–1.04), within the noise"
    text = document.render([base, replace(arm, latencies=(level,))])
    assert "1,400 to 1,500 calls per file" in section(text, "onnxruntime, 1 thread")
    assert [row[0] for row in table(section(text, "openvino, 1 thread"))[1:]] == ["FP32 baseline"]


def test_seeds_that_all_agree_have_no_interval() -> None:
    outcomes = [*with_accuracies("dense", [0.9173] * 3), *with_accuracies("prune", [0.9, 0.91, 0.92], ("prune",))]
    assert table(section(document.render(outcomes), "Accuracy"))[1][3] == "91.73 every seed"
    assert "91.73 every seed" in figure.render(aggregate(outcomes))


def test_names_are_data_in_markdown() -> None:
    text = document.render([*fakes.baseline(1), fakes.renamed(fakes.outcome("x"), EVIL)], title=EVIL)
    assert table(section(text, "Accuracy"))[2][0] == (
        r"a\|b \<b\>c\</b\> \[d\](javascript:e) \`f\` \*g\* \_h\_ \&amp; \\i" + "\ufffdj"
    )
    assert text.splitlines()[0].startswith(r"# a\|b \<b\>c")


def test_addresses_are_quoted() -> None:
    text = document.render(fakes.baseline(1), figure="a (b).svg", sources=["../x y/outcomes.jsonl", "z_1.jsonl"])
    assert "![Deployed accuracy of every arm](a%20%28b%29.svg)" in text
    assert "from [outcomes.jsonl](../x%20y/outcomes.jsonl), [z_1.jsonl](z_1.jsonl); do not edit" in text


def test_the_same_lines_give_the_same_page_and_figure() -> None:
    assert document.render(fakes.orders(2)) == document.render(fakes.orders(2))
    assert figure.render(aggregate(fakes.many(20))) == figure.render(aggregate(fakes.many(20)))


def test_nothing_to_report_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="there are no outcomes to report"):
        document.render([])


@pytest.mark.parametrize("outcomes", [fakes.baseline(1), fakes.orders(3), fakes.many(60, 2)], ids=["1", "7", "60"])
def test_the_figure_is_whole_and_its_marks_lie_inside(outcomes: tuple[Outcome, ...]) -> None:
    points = aggregate(outcomes)
    root = ElementTree.fromstring(figure.render(points))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    several = len(points[0].runs) > 1
    assert len(root.findall(f"{SVG}circle[@class='mean']")) == len(points) + 1  # and the one of the key
    assert len(root.findall(f"{SVG}circle[@class='seed']")) == (len(outcomes) + 1 if several else 0)
    assert len(root.findall(f"{SVG}line[@class='grid']")) >= 2
    for circle in root.findall(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < width - figure.NUMBERS + 1
        assert 0 < float(circle.attrib["cy"]) < height
    for line in root.findall(f"{SVG}line"):
        assert 0 < float(line.attrib["x1"]) <= float(line.attrib["x2"]) < width - figure.NUMBERS + 1


def test_marks_stand_where_their_numbers_are() -> None:
    points = aggregate([*with_accuracies("a", [0.90, 0.92]), *with_accuracies("b", [0.94, 0.96], ("prune",))])
    root = ElementTree.fromstring(figure.render(points))
    ticks = {
        float(text.text or ""): float(text.attrib["x"])
        for text in root.findall(f"{SVG}text")
        if re.fullmatch(r"[\d.]+", text.text or "")
    }
    (low, at_low), *_, (high, at_high) = sorted(ticks.items())
    means = [float(circle.attrib["cx"]) for circle in root.findall(f"{SVG}circle[@class='mean']")[1:]]
    for point, found in zip(points, means, strict=True):
        expected = at_low + (100 * point.deployed.value - low) / (high - low) * (at_high - at_low)
        assert found == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("outcomes", [fakes.baseline(1), fakes.orders(3), fakes.many(60, 2)], ids=["1", "7", "60"])
def test_latencies_are_drawn_where_their_numbers_are(outcomes: tuple[Outcome, ...]) -> None:
    points = aggregate(outcomes)
    root = ElementTree.fromstring(figure.render(points))
    (panel,) = root.findall(f"{SVG}g[@class='latency']")
    setting = settings_of(points)[0]
    drawn = [point for point in points if point.deployed.value >= max(p.deployed.value for p in points) - scatter.REACH]
    circles = panel.findall(f"{SVG}circle")
    assert len(circles) == len(drawn)
    numbers = [text for text in panel.findall(f"{SVG}text") if re.fullmatch(r"[\d.]+", text.text or "")]
    percent = sorted((float(t.text or ""), float(t.attrib["y"]) - 4) for t in numbers if t.attrib["text-anchor"] == "end")
    times = sorted((math.log(float(t.text or "")), float(t.attrib["x"])) for t in numbers if t.attrib["text-anchor"] == "middle")
    for point, circle in zip(drawn, circles, strict=True):
        for ticks, value, place in (
            (percent, 100 * point.deployed.value, float(circle.attrib["cy"])),
            (times, math.log(point.speeds[setting].p50_ms.value), float(circle.attrib["cx"])),
        ):
            (low, at_low), *_, (high, at_high) = ticks
            assert place == pytest.approx(at_low + (value - low) / (high - low) * (at_high - at_low), abs=0.3)
    on_line = {(c.attrib["cx"], c.attrib["cy"]) for c in circles if c.attrib["class"] == "mean"}
    beaten = {
        (circle.attrib["cx"], circle.attrib["cy"])
        for point, circle in zip(drawn, circles, strict=True)
        if any(
            other.deployed.value >= point.deployed.value
            and other.speeds[setting].p50_ms.value < point.speeds[setting].p50_ms.value
            for other in drawn
        )
    }
    assert on_line.isdisjoint(beaten)
    assert len(on_line) + len(beaten) == len(drawn)


def test_what_is_far_too_inaccurate_is_named_and_not_drawn() -> None:
    good, (bad,) = fakes.outcome("good", accuracy=0.9), with_accuracies("bad", [0.3])
    root = ElementTree.fromstring(figure.render(aggregate([good, bad])))
    (panel,) = root.findall(f"{SVG}g[@class='latency']")
    assert len(panel.findall(f"{SVG}circle")) == 1
    assert any("too inaccurate to be drawn: bad (30.0 %)" in (text.text or "") for text in panel.iter(f"{SVG}text"))


def test_without_latencies_there_is_no_panel_of_them() -> None:
    untimed = [replace(one, latencies=()) for one in fakes.orders(2)]
    assert 'class="latency"' not in figure.render(aggregate(untimed))


def test_names_are_data_in_the_figure() -> None:
    text = figure.render(aggregate([fakes.renamed(fakes.outcome("x"), EVIL + "\x07" + "k" * 40)]))
    root = ElementTree.fromstring(text)
    label = next(node.text for node in root.findall(f"{SVG}text[@text-anchor='end']"))
    assert label == "a|b <b>c</b> [d](javascript:e) `f…"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_command_writes_both_and_links_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "results" / "example" / "outcomes.jsonl"
    for one in fakes.orders(2):
        store.append(lines, one)
    page, picture = tmp_path / "docs" / "studies" / "example.md", tmp_path / "docs" / "figures" / "example.svg"
    assert main(["report", str(lines), "--markdown", str(page), "--figure", str(picture)]) == 0
    said = capsys.readouterr().out
    assert f"markdown: {page}" in said
    assert f"figure: {picture}" in said
    text = page.read_text(encoding="utf-8")
    assert "![Deployed accuracy of every arm](../figures/example.svg)" in text
    assert "from [outcomes.jsonl](../../results/example/outcomes.jsonl)" in text
    assert picture.read_text(encoding="utf-8") == figure.render(aggregate(fakes.orders(2)))
    # A folder that holds the store is as good, and a title of one's own replaces the one that is made.
    assert main(["report", str(lines.parent), "--markdown", str(page), "--title", "Mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["markdown"], found["figure"]) == (str(page), None)
    assert found["report"] == str(lines.parent / "report.html")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Mine\n")
    assert "results/example/outcomes.jsonl)" in text
    assert "![" not in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to look at the figure in a browser")
def test_words_of_the_figure_keep_apart_in_a_browser(tmp_path: Path) -> None:
    """The widths of letters are guessed when the figure is made; here they are measured."""
    assert CHROMIUM is not None
    probe = """
    const boxes = [...document.querySelectorAll("svg text")].map((node) => node.getBoundingClientRect());
    const cross = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    const size = document.querySelector("svg").getBoundingClientRect();
    const overlaps = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => cross(a, b))).length;
    const outside = boxes.filter((box) => box.left < size.left || box.right > size.right || box.bottom > size.bottom).length;
    document.documentElement.dataset.found = `${boxes.length} ${overlaps} ${outside}`;
    """
    labels = ["prune+quantize+distill and a name beyond bounds", "WWWWWWWWWWWWWWWWWWWW"]
    picture = figure.render(aggregate([*fakes.orders(3), *(fakes.outcome(label, order=("prune",)) for label in labels)]))
    path = tmp_path / "figure.html"
    path.write_text(f"<!DOCTYPE html><html><body>{picture}<script>{probe}</script></body></html>", encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout
    found = re.search(r'data-found="(\d+) (\d+) (\d+)"', dumped)
    assert found is not None
    assert int(found[1]) > 2 * 9
    assert (found[2], found[3]) == ("0", "0")
