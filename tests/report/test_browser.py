"""The page in a real browser: the script runs, points lie inside the plot, labels do not overlap, nothing overflows."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest

from paretrim.report import page
from paretrim.results.outcome import Outcome

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)

# Goes through every setting, sorts by every column, opens every recipe and walks along the points, then measures.
PROBE = """
const root = document.documentElement, report = { overlaps: [], outside: 0, marks: [], names: 0, cut: 0, hidden: 0 };
const within = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
const cross = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const inputs = [...document.querySelectorAll("input[name=view]")];
for (const input of inputs.length ? inputs : [null]) {
  if (input) input.click();
  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg"), axis = svg.querySelector(".axis").getBoundingClientRect();
    const all = svg.getBoundingClientRect();
    const area = { left: axis.left - 1, right: axis.right + 1, top: all.top, bottom: axis.bottom + 8 };
    const dots = [...svg.querySelectorAll(".dot")].map((node) => node.getBoundingClientRect());
    report.marks.push(dots.length);
    const front = svg.querySelector(".front").getBoundingClientRect();
    report.cut += Math.abs(front.right - axis.right) > 1;
    const reference = [...svg.querySelectorAll(".dot")].findIndex((node) => node.classList.contains("reference"));
    report.hidden += reference !== dots.length - 1;
    const centre = (r) => {
      const x = (r.left + r.right) / 2, y = (r.top + r.bottom) / 2;
      return { left: x, right: x, top: y, bottom: y };
    };
    report.outside += dots.filter((dot) => !within(centre(dot), area)).length;
    const texts = [...svg.querySelectorAll("text")].map((node) => [node.textContent, node.getBoundingClientRect()]);
    report.names += svg.querySelectorAll(".name").length;
    report.outside += texts.filter(([, box]) => box.left < -0.5 || box.right > innerWidth + 0.5).length;
    texts.forEach(([a, first], i) => texts.slice(i + 1).forEach(([b, second]) => {
      if (cross(first, second)) report.overlaps.push([a, b]);
    }));
    const press = (key) => svg.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    ["ArrowRight", "ArrowRight", "ArrowLeft"].forEach(press);
    const tip = figure.querySelector(".tip"), box = tip.getBoundingClientRect();
    report.tip = tip.innerText;
    if (box.left < -1 || box.right > innerWidth + 1) report.outside += 1;
    press("Escape");
    report.closed = !figure.querySelector(".tip");
  }
}
for (const button of document.querySelectorAll("th button")) { button.click(); button.click(); }
document.querySelector("#points th:nth-child(3) button").click();
const sizes = [...document.querySelectorAll("#points tbody td:nth-child(3)")].map((cell) => +cell.dataset.v);
report.sorted = sizes.every((size, i) => !i || size >= sizes[i - 1]);
for (const node of document.querySelectorAll("details")) node.open = true;
requestAnimationFrame(() => setTimeout(() => {
  report.layers = document.querySelectorAll(".layers tbody tr").length;
  report.wide = document.scrollingElement.scrollWidth > innerWidth;
  const cropped = (node) => node.scrollWidth > node.clientWidth + 1;
  report.cropped = [...document.querySelectorAll(".wide, pre")].filter(cropped).map((node) => node.innerText.slice(0, 80));
  report.width = innerWidth;
  report.visible = [...document.querySelectorAll("#points thead th")].filter((node) => node.offsetParent).length;
  report.error = root.dataset.error ?? "";
  report.ready = root.dataset.ready ?? "";
  parent.postMessage(JSON.stringify(report), "*");
}, 50));
"""


# A window cannot be narrower than 500 pixels; a frame can, and media queries follow it.
FRAME = """<!DOCTYPE html><html><body style="margin:0">
<iframe src="page.html" width="{width}" height="900" style="border:0"></iframe>
<script>
addEventListener("message", (event) => {{ document.documentElement.dataset.probe = event.data; }});
</script></body></html>"""


def opened(path: Path, profile: Path, *, width: int) -> dict[str, str]:
    """Attributes of the root element after the script and the probe ran."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},1000", "--virtual-time-budget=3000"]
    dumped = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=500, check=True
    ).stdout
    root = re.search(r"<html[^>]*>", dumped)
    assert root is not None
    return {key: html.unescape(value) for key, value in re.findall(r'data-(\w+)="([^"]*)"', root[0])}


def probed(outcomes: tuple[Outcome, ...], tmp_path: Path, *, width: int, reproduce: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the probe found on the page of these outcomes, in a frame of that width."""
    text = page.render(
        outcomes,
        title="A title long enough to wrap on a telephone",
        distributions=fakes.distributions(outcomes, 40),
        reproduce=reproduce,
    )
    path = tmp_path / "page.html"
    # The page's own policy forbids foreign scripts, so the probe is added without it; the next test opens the page as it is.
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    path.write_text(bare.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    return dict(json.loads(opened(frame, tmp_path / "profile", width=1500)["probe"]))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to check the page in a browser")
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_the_page_works_in_a_browser(tmp_path: Path, count: int, width: int) -> None:
    outcomes = {1: fakes.baseline(1), 7: fakes.orders(2)}.get(count) or fakes.many(count)
    report = probed(outcomes, tmp_path, width=width)
    assert report["error"] == ""
    assert report["ready"] == "yes"
    assert report["width"] == width
    assert report["marks"] == [count] * 8
    assert report["outside"] == 0
    assert report["cut"] == 0  # the line of the best reaches the right edge
    assert report["hidden"] == 0  # nothing is drawn over the baseline
    assert report["overlaps"] == []
    assert report["names"] >= min(count, 5)
    assert report["sorted"]
    assert not report["wide"]
    assert report["layers"] == count * len(outcomes[0].layers)
    assert "accuracy, %: " in report["tip"]
    assert report["closed"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to check the page in a browser")
def test_the_pages_policy_lets_its_own_script_and_style_run(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page.write(
        page.render([fakes.outcome("<b>A</b><script>document.documentElement.dataset.error = 'ran'</script>")], title="Policy"),
        path,
    )
    found = opened(path, tmp_path / "profile", width=800)
    assert found["ready"] == "yes"
    assert "error" not in found


FRONTS = """
document.documentElement.dataset.fronts = [...document.querySelectorAll("figure")].map((figure) => {
  const front = figure.querySelector(".plot .front"), dot = figure.querySelector(".plot .dot.reference").getBBox();
  return front ? Math.round(front.getBBox().x - dot.x - dot.width / 2) : "none";
}).join();
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to check the page in a browser")
@pytest.mark.parametrize(("accuracy", "fronts"), [(0.95, "0,0"), (0.102, "none,none")])
def test_the_line_of_the_best_leaves_out_points_at_chance(tmp_path: Path, accuracy: float, fronts: str) -> None:
    """It begins at the dense network, or is not there if that guesses too."""
    useless = replace(fakes.outcome("useless", accuracy=0.1, gain=50.0), deployed_value=0.104, file_bytes=1, classes=10)
    dense = replace(fakes.baseline(1)[0], deployed_value=accuracy, classes=10)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.render([dense, useless], title="Chance"))
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", f"<script>{FRONTS}</script></body>"), encoding="utf-8")
    found = opened(path, tmp_path / "profile", width=1400)
    assert found["ready"] == "yes"
    assert "error" not in found
    assert found["fronts"] == fronts


TICKS = """
const texts = [...document.querySelectorAll("figure[data-x=bytes] svg text")].map((node) => node.textContent);
document.documentElement.dataset.ticks = texts.filter((text) => / [kMG]?B$/.test(text)).join();
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to check the page in a browser")
@pytest.mark.parametrize(("sizes", "ticks"), [((1_960_165, 1_979_000), "1.96 MB,1.965 MB,1.97 MB,1.975 MB")])
def test_files_of_almost_one_size_stand_at_ticks_that_differ(tmp_path: Path, sizes: tuple[int, int], ticks: str) -> None:
    one, other = (replace(fakes.outcome(str(size), seed=0), trim_bytes=size) for size in sizes)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.render([one, other], title="Ticks"))
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", f"<script>{TICKS}</script></body>"), encoding="utf-8")
    found = opened(path, tmp_path / "profile", width=1400)
    assert "error" not in found
    assert found["ticks"] == ticks


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to check the page in a browser")
def test_a_picture_can_be_taken(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    path, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write(page.render(fakes.orders(1), title="Picture"), path)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,844", f"--screenshot={picture}"]
    subprocess.run([*command, path.as_uri()], capture_output=True, timeout=500, check=True)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install chromium to check the page in a browser")
def test_tables_and_commands_fit_a_page_of_1400_pixels(tmp_path: Path) -> None:
    """With all columns there are: two kinds of files, two kinds of zeros, latencies, distributions and orders."""
    made = {"order": ("prune", "quantize", "distill"), "sparsity": 0.8, "bits": 8, "gain": 5.0}
    labels = ("90% of prunable zero in 1x4 blocks, INT8", "75% of channels removed, INT8")
    outcomes = [
        replace(one, trim_bytes=1_234_567) for one in (*fakes.baseline(1), *(fakes.outcome(name, **made) for name in labels))
    ]
    pruned = [
        replace(one, history=tuple(replace(stage, settings={"stage": stage.name, **stage.settings}) for stage in one.history))
        for one in outcomes
    ]
    command = "paretrim compress --model package.module:factory --weights " + "/a/long/path" * 20 + " --max-drop 1"
    report = probed(tuple(pruned), tmp_path, width=1400, reproduce=(command,))
    assert report["cropped"] == []
    assert report["visible"] >= 13
