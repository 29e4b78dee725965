"""One self-contained HTML page: it loads nothing, says everything, and works from a disk, an attachment or a web server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from paretrim import __version__, files
from paretrim.curves import Sensitivity
from paretrim.report import changes as changes_section
from paretrim.report import details, likeness, sections, sensitivity
from paretrim.report.points import subject
from paretrim.report.view import payload, view_of
from paretrim.results.comparison import Comparison
from paretrim.results.outcome import Choice, Outcome
from paretrim.visible import escape, visible


def render(
    outcomes: Sequence[Outcome],
    *,
    title: str | None = None,
    distributions: Mapping[str, Sequence[float]] | None = None,
    reproduce: Sequence[str] = (),
    choice: Choice | None = None,
    scans: Sequence[Sensitivity] = (),
    changes: Mapping[str, Comparison] | None = None,
    inside: str = "",
) -> str:
    """The page of a results store as text.

    ``title`` is network and data if None. ``distributions`` holds raw latencies in ms by "label|runtime|threads" and adds their
    shapes to the table; ``reproduce`` are the commands that reproduce the numbers; ``choice`` is what a search chose among them;
    ``scans`` are those of the dense network's layers. ``changes`` holds, by label, how decisions differ from the first
    outcome's, and ``inside`` is the address, relative to this page, of a page that looks inside two of the networks.

    Raises:
        InvalidRecipe: nothing to report, or the outcomes cannot share one page (:func:`paretrim.report.points.aggregate`).
    """
    view = view_of(outcomes, distributions or {})
    title = title or subject(view.points)
    style, script = _resource("page.css"), _resource("page.js")
    # No name can become markup: outside JSON everything is escaped, and inside it "<" is written as \u003c. The policy is a
    # second defence: only this style and this script run, and nothing is loaded from anywhere.
    data = json.dumps(_visible(payload(view)), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src {_digest(style)}; script-src {_digest(script)}"
    body = "".join(
        (
            sections.headline(view, title=title, choice=choice),
            sections.frontier(view),
            sections.orders(view),
            sections.table(view),
            likeness.section(view.points),
            changes_section.section(changes or {}, reference=outcomes[0].label, inside=inside),
            sensitivity.section(scans),
            details.recipes(view),
            details.latencies(view),
            details.provenance(view, reproduce=reproduce),
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style></head>\n<body>{body}\n"
        f"<footer>Written by Paretrim {escape(__version__)}.</footer>\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script></body></html>\n'
    )


def write(text: str, path: Path) -> None:
    """Write a page, atomically.

    Raises:
        OutOfSpace: the disk is full.
    """
    files.write_atomically(path, text.encode())


def _visible(value: object) -> object:
    """The same value with every string in it safe to draw."""
    if isinstance(value, Mapping):
        return {visible(str(key)): _visible(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(inner) for inner in value]
    return visible(value) if isinstance(value, str) else value


def _resource(name: str) -> str:
    return resources.files("paretrim.report").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
