"""A page that looks inside two networks: class maps side by side, histograms, and what zeros cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paretrim import files
from paretrim.report import png, wording
from paretrim.results.comparison import Comparison
from paretrim.results.inside import Example, HistogramPair, InsideComparison, Map, Pixels
from paretrim.visible import escape

SIDE = 128
"""Width of an image on the page, in pixels."""

WIDTH, HEIGHT = 240, 64
"""Those of a histogram."""

HEAT = np.array((230, 85, 13), np.float64)

WITHOUT_MAPS = "a network has no layer that returns a map of height and width"
"""Why a comparison has no Grad-CAM."""

STYLE = """
:root { --paper: #ffffff; --ink: #171b20; --soft: #56606c; --line: #e2e6ea; --first: #0a62b8; --second: #b04a06; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e7eaee; --soft: #a5afbb; --line: #2c323a; --first: #74b5f7; --second: #f2a765; }
}
.key { overflow-wrap: anywhere; }
body { background: var(--paper); color: var(--ink); margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, figcaption, td.soft { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.2rem 0.8rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: 0.85rem; overflow-wrap: anywhere; }
.maps { display: flex; flex-wrap: wrap; gap: 1.2rem; }
.maps img { image-rendering: pixelated; }
.first { stroke: var(--first); fill: none; } .second { stroke: var(--second); fill: none; stroke-dasharray: 4 2; }
.axis { stroke: var(--line); }
.key span { border-bottom: 3px solid var(--first); } .key span + span { border-color: var(--second); }
"""


def write(path: Path, names: tuple[str, str], found: Comparison, inside: InsideComparison) -> None:
    """Write the page, atomically.

    Raises:
        OutOfSpace: the disk is full.
    """
    files.write_atomically(path, render(names, found, inside).encode())


def render(names: tuple[str, str], found: Comparison, inside: InsideComparison) -> str:
    """The page as text; it loads nothing."""
    first, second = map(escape, names)
    accuracies = " and ".join(wording.percent(value, 2) for value in found.accuracy)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Two networks compared</title><style>{STYLE}</style>'
        f'<body><h1>Two networks compared</h1><p class="key">First: <span>{first}</span>. Second: <span>{second}</span>.</p>'
        f"<p>Accuracy {accuracies}; the same class for {wording.percent(found.agreement, 2)} of {found.images:,} images; "
        f"KL divergence {found.kl:.4f} nats; calibration error (ECE) "
        f"{' and '.join(wording.percent(value, 2) for value in found.calibration_error)}.</p>"
        f"<h2>Where they see the class</h2>{_seen(inside)}"
        f"<h2>What zeros cost</h2>{_sweep(inside)}"
        f"<h2>Weights</h2><p>Zeros are left out of the curves.</p>{_grid(inside.weights)}"
        f"<h2>What layers read</h2><p>In the same way.</p>{_grid(inside.activations)}</body></html>\n"
    )


def _seen(inside: InsideComparison) -> str:
    """The images with the class maps of both networks."""
    if not inside.similarity:
        return f"<p>Grad-CAM is left out: {WITHOUT_MAPS}.</p>"
    return (
        f"<p>Grad-CAM for the label. Mean cosine similarity of the maps {float(np.mean(inside.similarity)):.3f} over "
        f"{inside.images:,} images. Shown are images that only the first has right, then those whose maps differ most: "
        f'the image, the first network, the second.</p><div class="maps">{"".join(map(_example, inside.examples))}</div>'
    )


def overlay(image: Pixels, map_: Map) -> npt.NDArray[np.uint8]:
    """The image [H, W] or [H, W, 3], coloured where the map [h, w] is large; uint8 [H, W, 3]."""
    colour = np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image
    rows = np.arange(colour.shape[0]) * map_.shape[0] // colour.shape[0]
    columns = np.arange(colour.shape[1]) * map_.shape[1] // colour.shape[1]
    share = 0.75 * np.clip(map_[rows][:, columns, None], 0, 1)
    return np.asarray(np.round(colour * (1 - share) + HEAT * share), np.uint8)


def _example(one: Example) -> str:
    plain = overlay(one.image, np.zeros((1, 1), np.float32))
    pictures = (plain, *(overlay(one.image, map_) for map_ in one.maps))
    said = (f"image {one.position}", "first network", "second network")
    images = "".join(
        f'<img src="{png.address(picture)}" width="{SIDE}" height="{SIDE}" alt="{text}"> '
        for picture, text in zip(pictures, said, strict=True)
    )
    return f"<figure>{images}<figcaption>image {one.position}, class {one.label}: {one.similarity:.3f}</figcaption></figure>"


def _sweep(inside: InsideComparison) -> str:
    rows = "".join(
        f"<tr><td>{wording.percent(one.sparsity, 0)}</td>"
        + "".join(f"<td>{wording.percent(value, 2)}</td>" for value in one.accuracy)
        + "</tr>"
        for one in inside.sweep
    )
    return (
        f"<p>Accuracy on {inside.images:,} images with the smallest weights set to zero over all layers, without "
        f"training.</p><table><tr><th>zeros</th><th>first</th><th>second</th></tr>{rows}</table>"
    )


def _grid(histograms: Sequence[HistogramPair]) -> str:
    return f'<div class="grid">{"".join(map(_histogram, histograms))}</div>'


def _histogram(one: HistogramPair) -> str:
    lines = "".join(
        f'<path class="{kind}" d="{_outline(counts)}"/>' for kind, counts in zip(("first", "second"), one.counts, strict=True)
    )
    zeros = " and ".join(wording.percent(share, 1) for share in one.zeros)
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT + 2}" width="{WIDTH}" height="{HEIGHT + 2}" role="img" '
        f'aria-label="histogram of {escape(one.name)}"><path class="axis" d="M0,{HEIGHT + 0.5}H{WIDTH}"/>{lines}</svg>'
        f"<figcaption>{escape(one.name)}: {one.low:.3g} to {one.high:.3g}, zeros {zeros}</figcaption></figure>"
    )


def _outline(counts: Sequence[int]) -> str:
    """Steps over the bins; the largest bin has the full height."""
    most, step = max(1, *counts), WIDTH / len(counts)
    tops = [HEIGHT - (HEIGHT - 4) * count / most for count in counts]
    return f"M0,{HEIGHT}" + "".join(f"V{top:.1f}H{step * (bin_ + 1):.1f}" for bin_, top in enumerate(tops)) + f"V{HEIGHT}"
