"""The section of the page on decisions that differ from the first file's: which classes and images got worse."""

from __future__ import annotations

from collections.abc import Mapping

from paretrim.report import wording
from paretrim.results.comparison import ClassChange, Comparison
from paretrim.visible import escape

CLASSES, IMAGES = 20, 40
"""The most classes and images of a file that the page lists."""


def section(changes: Mapping[str, Comparison], *, reference: str, inside: str) -> str:
    """The section; empty if nothing is known. ``inside`` is the address of the page with class maps, or "" for none."""
    if not changes:
        return ""
    first = next(iter(changes.values()))
    rows = "".join(_row(label, found) for label, found in changes.items())
    headings = "".join(
        f"<th>{text}"
        for text in ("file", "same class", "got worse", "got better", "KL, nats", "calibration error (ECE)", "of the reference")
    )
    said = (
        f"Each file against {escape(reference)} on the same {first.images:,} test images. An image got worse if only the "
        "reference has it right. KL is the mean divergence of a file's probabilities from those of the reference."
    )
    link = (
        f'<p><a href="{escape(inside)}">Class maps, histograms of weights and activations, and what zeros cost</a>, '
        "of the reference and the chosen file.</p>"
        if inside
        else ""
    )
    return (
        f'<section id="changes"><h2>What changed</h2><p class="note">{said}</p>'
        f'<div class="wide"><table><thead><tr>{headings}</thead><tbody>{rows}</tbody></table></div>'
        f"{''.join(_classes(label, found) for label, found in changes.items())}{link}</section>"
    )


def most_changed(found: Comparison) -> tuple[ClassChange, ...]:
    """The classes in which images got worse or better, those that lost most of their images first."""
    changed = [one for one in found.classes if one.worse or one.better]
    return tuple(sorted(changed, key=lambda one: ((one.right_after - one.right_before) / max(1, one.images), one.label)))


def _row(label: str, found: Comparison) -> str:
    cells = (
        wording.percent(found.agreement, 2),
        f"{len(found.worse):,}",
        f"{len(found.better):,}",
        f"{found.kl:.4f}",
        wording.percent(found.calibration_error[1], 2),
        wording.percent(found.calibration_error[0], 2),
    )
    return f"<tr><td>{escape(label)}{''.join(f'<td>{cell}' for cell in cells)}"


def _classes(label: str, found: Comparison) -> str:
    """Which classes and images changed, folded away."""
    changed = most_changed(found)
    rows = "".join(
        f"<tr><td>{escape(one.title)}"
        + "".join(f"<td>{count:,}" for count in (one.images, one.right_before, one.right_after, one.worse, one.better))
        for one in changed[:CLASSES]
    )
    headings = "".join(f"<th>{text}" for text in ("class", "images", "right before", "right after", "got worse", "got better"))
    left = len(changed) - CLASSES
    more = f'<p class="note">{left} more classes changed less.</p>' if left > 0 else ""
    images = ", ".join(f"{place:,}" for place in found.worse[:IMAGES]) or "none"
    rest = len(found.worse) - IMAGES
    images += f" and {rest:,} more" if rest > 0 else ""
    return (
        f"<details><summary>{escape(label)}: classes and images</summary>"
        f'<div class="wide"><table><thead><tr>{headings}</thead><tbody>{rows}</tbody></table></div>{more}'
        f'<p class="note">Test images that got worse, counted from 0: {images}.</p></details>'
    )
