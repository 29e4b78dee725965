"""The first half of the page: headline, frontier, table of all points, comparison of orders."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from paretrim.report import svg, wording
from paretrim.report.frontier import Difference, Rank, order_study, paired_differences
from paretrim.report.points import Point
from paretrim.report.view import View

KEY = (
    ('<circle cx="11" cy="7" r="5" class="dot best"/>', "on the frontier"),
    ('<circle cx="11" cy="7" r="4.5" class="dot"/>', "dominated"),
    ('<path d="M11,0l7,7l-7,7l-7,-7z" class="dot best reference"/>', "baseline"),
    ('<path d="M1,11H11V3H21" class="front"/>', "best accuracy at this cost or less"),
)


def headline(view: View, *, title: str) -> str:
    """Title, what was measured, and the best points in words."""
    points = view.points
    runs = sum(len(point.runs) for point in points)
    first = points[0].runs[0]
    studies = ", ".join(dict.fromkeys(run.study for point in points for run in point.runs))
    networks = ", ".join(dict.fromkeys(run.network for point in points for run in point.runs))
    dates = sorted(run.created[:10] for point in points for run in point.runs)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    meta = [f"{networks} on {first.data}", f"study {studies}", _count(len(points), "point"), _count(runs, "run"), when]
    found = wording.highlights(points, ranks=view.standings[0], setting=view.settings[0], baseline=view.baseline)
    cards = "".join(
        f'<div><dt>{escape(one.title)}</dt><dd class="claim">{escape(one.claim)}</dd>'
        f'<dd><span class="who">{escape(one.label)}</span> <span class="meta">Accuracy: {escape(one.caveat)}.</span></dd></div>'
        for one in found
    )
    measured = f'<p class="note">Latency with {escape(view.name(view.settings[0]))}.</p>' if found and view.settings[0] else ""
    cards = f'<dl class="highlights">{cards}</dl>{measured}' if cards else ""
    return f'<header><h1>{escape(title)}</h1><p class="meta">{escape(" · ".join(meta))}</p>{cards}</header>'


def frontier(view: View) -> str:
    """The two pictures; the script draws them."""
    options = "".join(
        f'<label><input type="radio" name="view" value="{i}"{" checked" if i == 0 else ""}><span>{escape(view.name(setting))}</span></label>'
        for i, setting in enumerate(view.settings)
    )
    several = f"<fieldset><legend>Measured with</legend>{options}</fieldset>" if len(view.settings) > 1 else ""
    latency = '<figure data-x="latency"><figcaption>Accuracy in %, against latency</figcaption><div class="plot"></div></figure>'
    size = '<figure data-x="bytes"><figcaption>Accuracy in %, against file size</figcaption><div class="plot"></div></figure>'
    measured = view.settings[0] is not None
    key = "".join(f'<li><svg viewBox="0 0 22 14" aria-hidden="true">{shape}</svg>{text}</li>' for shape, text in KEY)
    what = "accuracy, bytes and median latency together" if measured else "accuracy and bytes"
    bases = "; ".join(dict.fromkeys(point.basis for point in view.points))
    bars = " Latency bars are the 95 % interval of the median, over several seeds the span of all of them." if measured else ""
    return (
        f'<section id="frontier"><h2>The frontier</h2>{several}'
        f'<div class="charts">{latency if measured else ""}{size}</div><ul class="key">{key}</ul>'
        f'<p class="note">A point is on the frontier if no other is at least as good in {what} and better in one; this compares '
        f"means, and neighbours whose bars overlap may swap places with other seeds. A filled point below the line owes its place to the "
        f"cost on the other picture. Accuracy bars: {escape(bases)}, 95 %.{bars}</p>"
        "<noscript><p>The pictures need JavaScript; the table below holds the same numbers.</p></noscript></section>"
    )


def table(view: View) -> str:
    """Every point with everything that is compared; one block of columns for each setting, one of which is shown."""
    distributions = any(view.distribution(point, setting) for point in view.points for setting in view.settings)
    left = [("point", True), ("order", True)]
    right = ("seeds", "accuracy, %", "deployed − trained", "size", "entropy bytes", "zeros")
    head = "".join(_heading(text, left=True) for text, _ in left) + "".join(_heading(text) for text in right)
    for i, setting in enumerate(view.settings):
        hidden = _hidden(i)
        if setting is not None:
            head += _heading("p50, ms", attributes=hidden)
            head += f"<th{hidden}>distribution</th>" if distributions else ""
            head += _heading("speed-up", attributes=hidden)
        head += _heading("standing", left=True, attributes=hidden)
    rows = "".join(_row(view, i, distributions=distributions) for i in range(len(view.points)))
    notes = (
        "Speed-up is against " + (_baselines(view) or "nothing") + ", from paired rounds." if view.settings[0] is not None else ""
    )
    shape = " Distributions run from the fastest to the slowest arm's p99; heights are square roots." if distributions else ""
    return (
        f'<section id="points"><h2>All points</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">{escape(notes + shape)} Deployed − trained is in percentage points. Entropy bytes are what an ideal '
        "order-0 coder would need for the weights. Click a heading to sort.</p></section>"
    )


def orders(view: View) -> str:
    """Accuracy for each order of the same stages, and paired differences to the first."""
    points = order_study(view.points)
    if not points:
        return ""
    differences = paired_differences(points)
    reach = max((max(abs(d.interval.low), abs(d.interval.high)) for d in differences if d.interval is not None), default=0.0)
    first = points[0]
    rows = [_order_row(first, None, reach=reach)]
    rows += [_order_row(point, difference, reach=reach) for point, difference in zip(points[1:], differences, strict=True)]
    joint = f" The {len(differences)} intervals hold together with 95 % confidence (Bonferroni)." if len(differences) > 1 else ""
    return (
        '<section id="orders"><h2>Does the order matter?</h2>'
        f'<p class="note">Deployed accuracy of {escape(first.label)} and the same stages in other orders, paired by seed.{joint} '
        "A difference is named only where its interval excludes 0.</p>"
        '<div class="wide"><table><thead><tr><th>point</th><th class="left">order</th><th>seeds</th><th>accuracy, %</th>'
        f'<th>− {escape(first.label)}, points</th><th>interval</th><th class="left">verdict</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _order_row(point: Point, difference: Difference | None, *, reach: float) -> str:
    known = difference.interval if difference is not None else None
    text, picture = "", ""
    if known is not None:
        text = f'{wording.points(known.value)} <span class="range">{wording.points(known.low)} to {wording.points(known.high)}</span>'
        picture = svg.interval(known, reach=reach)
    verdict = "reference" if difference is None else difference.verdict
    return (
        f'<tr><th>{escape(point.label)}</th><td class="left">{escape(wording.order(point.order))}</td><td>{len(point.seeds)}</td>'
        f"<td>{wording.accuracy(point.accuracy)}</td><td>{text}</td><td>{picture}</td>"
        f'<td class="said">{escape(verdict)}</td></tr>'
    )


def _row(view: View, i: int, *, distributions: bool) -> str:
    point = view.points[i]
    cells = [
        f'<th scope="row"><a href="#p{i}" data-open="{i}">{escape(point.label)}</a></th>',
        f'<td class="left">{escape(wording.order(point.order))}</td>',
        _cell(str(len(point.seeds)), len(point.seeds)),
        _cell(wording.accuracy(point.accuracy), point.accuracy.value),
        _cell(wording.points(point.drift), point.drift),
        _cell(wording.size(point.file_bytes.value), point.file_bytes.value),
        _cell(wording.size(point.entropy_bytes), point.entropy_bytes),
        _cell(wording.percent(point.sparsity, 1), point.sparsity),
    ]
    for j, setting in enumerate(view.settings):
        hidden, speed = _hidden(j), view.speed(point, setting)
        if speed is not None:
            p50, gain = speed.p50_ms, speed.speedup
            cells.append(_cell(f"{wording.milliseconds(p50.value)} {_range(wording.span(p50))}", p50.value, hidden))
            if distributions:
                low, high = _sample_range(view, j)
                cells.append(f"<td{hidden}>{svg.sparkline(view.distribution(point, setting), low=low, high=high)}</td>")
            cells.append(_cell(f"{wording.times(gain.value)} {_range(wording.span(gain))}", gain.value, hidden))
        elif setting is not None:
            cells.append(f'<td data-v=""{hidden}>–</td>' * (3 if distributions else 2))
        cells.append(_standing(view.standings[j][i], hidden))
    return f"<tr>{''.join(cells)}</tr>"


def _standing(rank: Rank, hidden: str) -> str:
    kind = "left stand yes" if rank.on_frontier else "left stand off"
    return f'<td class="{kind}"{hidden}>{escape(wording.standing(rank))}</td>'


def _sample_range(view: View, j: int) -> tuple[float, float]:
    """Common axis of all distributions of a setting, so that rows can be compared by eye."""
    speeds = [(point, view.speed(point, view.settings[j])) for point in view.points]
    samples = [sorted(view.distribution(point, view.settings[j])) for point, _ in speeds]
    known = [values for values in samples if values]
    if not known:
        return 0.0, 0.0
    return min(values[0] for values in known), max(values[int(0.99 * (len(values) - 1))] for values in known)


def _baselines(view: View) -> str:
    return ", ".join(dict.fromkeys(name for point in view.points for speed in point.speeds.values() for name in speed.baselines))


def _heading(text: str, *, left: bool = False, attributes: str = "") -> str:
    kind = ' class="left"' if left else ""
    return f'<th scope="col"{kind}{attributes}><button type="button">{escape(text)}</button></th>'


def _cell(content: str, value: float, attributes: str = "") -> str:
    return f'<td data-v="{value:.6g}"{attributes}>{content}</td>'


def _range(text: str) -> str:
    return f'<span class="range">{text}</span>'


def _hidden(j: int) -> str:
    return f' data-view="{j}"' + (" hidden" if j else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def names(points: Sequence[Point]) -> str:
    """Labels in a sentence."""
    return ", ".join(point.label for point in points)
