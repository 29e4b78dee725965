"""The first half of the page: headline, frontier, table of all points, comparison of orders."""

from __future__ import annotations

from collections.abc import Sequence

from paretrim.metric import ACCURACY
from paretrim.report import svg, wording
from paretrim.report.frontier import Difference, order_study, paired_differences
from paretrim.report.points import LatencySetting, Point
from paretrim.report.view import PageView
from paretrim.results.outcome import Choice
from paretrim.visible import escape

BASELINE = "baseline"

KEY = (
    ('<circle cx="11" cy="7" r="5" class="dot best"/>', "on the frontier"),
    ('<circle cx="11" cy="7" r="4.5" class="dot"/>', "dominated"),
    ('<path d="M11,0l7,7l-7,7l-7,-7z" class="dot best reference"/>', BASELINE),
    ('<path d="M1,11H11V3H21" class="front"/>', "best {} at this cost or less"),
)


def headline(view: PageView, *, title: str, choice: Choice | None) -> str:
    """Title, what was measured, what was chosen for which targets, and the best points in words."""
    points = view.points
    runs = sum(len(point.runs) for point in points)
    first = points[0].runs[0]
    studies = ", ".join(dict.fromkeys(run.study for point in points for run in point.runs))
    networks = ", ".join(dict.fromkeys(run.network for point in points for run in point.runs))
    dates = sorted(run.created[:10] for point in points for run in point.runs)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    meta = [f"{networks} on {first.data}", f"study {studies}", _count(len(points), "point"), _count(runs, "run"), when]
    found = wording.highlights(
        points,
        ranks=view.standings[0],
        setting=view.settings[0],
        baseline=view.baseline,
        chosen=None if choice is None else choice.label,
    )
    # One run gives no interval over seeds, but the two files of a choice were compared image by image.
    caveats = [f"{wording.capital(view.metric.name)}: {one.caveat}" if choice is None else choice.facts[-1] for one in found]
    cards = "".join(
        f'<div><dt>{escape(one.title)}</dt><dd class="claim">{escape(one.claim)}</dd>'
        f'<dd><span class="who">{escape(one.label)}</span> <span class="meta">{escape(caveat)}.</span></dd></div>'
        for one, caveat in zip(found, caveats, strict=True)
    )
    notes = [f"Latency with {view.name(view.settings[0])}."] if found and view.settings[0] else []
    if doubts := wording.speed_doubts(points, view.settings[0]):
        notes = [f"No speed is named here, because the times are not sound: {'; '.join(doubts)}."]
    cards = f'<dl class="highlights">{cards}</dl>' if cards else ""
    measured = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    meta_line = f'<p class="meta">{escape(" · ".join(meta))}</p>'
    return f"<header><h1>{escape(title)}</h1>{meta_line}{_chosen(choice) if choice else ''}{cards}{measured}</header>"


def _chosen(choice: Choice) -> str:
    """What was asked for, what was chosen and why, and the problems with it."""
    rows = [
        ("targets", "; ".join(choice.targets) or "none were given"),
        ("chosen", f"{choice.label} ({choice.file})"),
        ("why", choice.reason),
        *(("", fact) for fact in choice.facts),
    ]
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in rows)
    problems = "".join(f"<li>{escape(problem[:1].upper() + problem[1:])}.</li>" for problem in choice.problems)
    met = '<p class="note">All targets are met.</p>' if choice.targets and not problems else ""
    return f'<dl class="facts choice">{facts}</dl>{f"<ul class=problems>{problems}</ul>" if problems else met}'


def frontier(view: PageView) -> str:
    """The pictures, of latency only where it was measured; the script draws them."""
    options = "".join(
        f'<label><input type="radio" name="view" value="{i}"{" checked" if i == 0 else ""}>'
        f"<span>{escape(view.name(setting))}</span></label>"
        for i, setting in enumerate(view.settings)
    )
    several = f"<fieldset><legend>Measured with</legend>{options}</fieldset>" if len(view.settings) > 1 else ""
    title = _title(view)
    latency = f'<figure data-x="latency"><figcaption>{title}, against latency</figcaption><div class="plot"></div></figure>'
    against = "the size of the .trim file" if view.has_trim else "file size"
    size = f'<figure data-x="bytes"><figcaption>{title}, against {against}</figcaption><div class="plot"></div></figure>'
    measured = view.settings[0] is not None
    key = "".join(
        f'<li><svg viewBox="0 0 22 14" aria-hidden="true">{shape}</svg>{text.format(escape(view.metric.name))}</li>'
        for shape, text in KEY
        if text != BASELINE or view.baseline is not None
    )
    cost = wording.size_cost(view.points)
    name = escape(view.metric.name)
    what = f"{name}, {cost} and median latency together" if measured else f"{name} and {cost}"
    bases = "; ".join(dict.fromkeys(point.basis for point in view.points))
    stand_ins = wording.stand_ins(view.points)
    beside = f" {escape(stand_ins)}." if stand_ins else ""
    bars = " Latency bars are the 95 % interval of the median, over several seeds the span of all of them." if measured else ""
    # Only for accuracy is the value of guessing known.
    guessing = " A point that is not shown to be better than guessing is never on it." if view.metric == ACCURACY else ""
    side = "below" if view.metric.higher_is_better else "above"
    elsewhere = f" A filled point {side} the line owes its place to the cost on the other picture." if measured else ""
    return (
        f'<section id="frontier"><h2>The frontier</h2>{several}'
        f'<div class="charts">{latency if measured else ""}{size}</div><ul class="key">{key}</ul>'
        f'<p class="note">A point is on the frontier if no other is at least as good in {what} and better in one; this compares '
        f"means, and neighbours whose bars overlap may swap places with other seeds.{guessing}{elsewhere} "
        f"{wording.capital(name)} bars: {escape(bases)}, 95 %.{bars}{beside}</p>"
        "<noscript><p>The pictures need JavaScript; the table below holds the same numbers.</p></noscript></section>"
    )


def _title(view: PageView) -> str:
    """The vertical axis of the pictures."""
    name, metric = escape(view.metric.name), view.metric
    unit = f" in {escape(metric.unit)}" if metric.unit else ""
    return f"{wording.capital(name)}{unit}{'' if metric.higher_is_better else ' (lower is better)'}"


def _drift(view: PageView) -> str:
    return "Deployed − trained is in percentage points." if view.metric.is_share else ""


def table(view: PageView) -> str:
    """Every point with all its numbers; one block of columns for each setting, of which one is shown."""
    distributions = any(view.distribution(point, setting) for point in view.points for setting in view.settings)
    head = (
        _heading("point", left=True)
        + _heading(view.metric.heading, tip=True)
        + _heading(wording.size_heading(view.points), tip=True)
    )
    for j, setting in enumerate(view.settings):
        shown = _shown(j)
        if setting is not None:
            head += _heading("p50, ms", tip=True, attributes=shown)
            head += f"<th{shown}>distribution</th>" if distributions else ""
            head += _heading("speed-up", tip=True, attributes=shown)
        head += _heading("standing", left=True, tip=True, attributes=shown)
    head += _heading("ONNX", tip=True) if view.has_trim else ""
    head += _heading("zeros of prunable", tip=True) if _prunes(view) else ""
    head += _heading("zeros of all", tip=True) + "".join(map(_heading, ("weights' entropy", "deployed − trained", "seeds")))
    head += _heading("order", left=True) if _orders_say_more(view) else ""
    shapes = [_sample_range(view, setting) for setting in view.settings]
    rows = "".join(_row(view, i, distributions=distributions, shapes=shapes) for i in range(len(view.points)))
    notes = ""
    if view.settings[0] is not None:
        beside = wording.stand_ins(view.points)
        notes = f"Speed-up is against {_baselines(view) or 'nothing'}, from paired rounds{f'; {beside}' if beside else ''}."
    missing = "".join(f" {text}." for text in wording.missing_onnx(view.points))
    shape = " Distributions are relative to each point's own median; heights are square roots." if distributions else ""
    return (
        '<section id="points"><h2>All points</h2><div class="wide"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="note">{escape(notes + shape + missing)} {_drift(view)} The weights\' entropy is '
        "what an ideal order-0 coder would need for them alone; files hold everything else too. Click a heading to sort.</p>"
        "</section>"
    )


def orders(view: PageView) -> str:
    """Accuracy for each order of the same stages, and paired differences to the first."""
    points = order_study(view.points)
    if not points:
        return ""
    differences = paired_differences(points)
    reach = max((max(abs(d.interval.low), abs(d.interval.high)) for d in differences if d.interval is not None), default=0.0)
    first = points[0]
    unit = f", {view.metric.of_change}" if view.metric.of_change else ""
    rows = [_order_row(first, None, reach=reach)]
    rows += [_order_row(point, difference, reach=reach) for point, difference in zip(points[1:], differences, strict=True)]
    joint = f" The {len(differences)} intervals hold together with 95 % confidence (Bonferroni)." if len(differences) > 1 else ""
    return (
        '<section id="orders"><h2>Does the order matter?</h2>'
        f'<p class="note">Deployed {escape(view.metric.name)} of {escape(first.label)} and the same stages in '
        f"other orders, paired by seed.{joint} "
        "A difference is named only where its interval excludes 0.</p>"
        '<div class="wide"><table><thead><tr><th>point</th><th class="left">order</th><th>seeds</th><th>'
        f"{escape(view.metric.heading)}</th>"
        f'<th>− {escape(first.label)}{escape(unit)}</th><th class="left">interval</th><th class="left">verdict</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _order_row(point: Point, difference: Difference | None, *, reach: float) -> str:
    known = difference.interval if difference is not None else None
    text, picture = "", ""
    if known is not None:
        change = point.metric.change
        text = f"{change(known.value)} <i>{change(known.low)} to {change(known.high)}</i>"
        picture = svg.interval(known, reach=reach)
    verdict = "reference" if difference is None else difference.verdict
    return (
        f'<tr><th>{escape(point.label)}</th><td class="left">{escape(wording.order(point.order))}</td><td>{len(point.seeds)}</td>'
        f"<td>{wording.value(point.deployed, point.metric)}</td><td>{text}</td><td class=left>{picture}</td>"
        f'<td class="said">{escape(verdict)}</td></tr>'
    )


def _row(view: PageView, i: int, *, distributions: bool, shapes: Sequence[tuple[float, float]]) -> str:
    point = view.points[i]
    prunable = point.prunable_sparsity
    cells = [
        f'<th scope="row"><a href="#p{i}" data-open="{i}">{escape(point.label)}</a></th>',
        f"<td>{wording.value(point.deployed, point.metric)}",
        _bytes_cell(point.size.value),
    ]
    for j, setting in enumerate(view.settings):
        shown, speed = _shown(j), view.speed(point, setting)
        if speed is not None:
            p50, gain = speed.p50_ms, speed.speedup
            cells.append(f"<td{shown}>{wording.milliseconds(p50.value)} <i>{wording.span(p50)}</i>")
            if distributions:
                cells.append(f"<td{shown}>{svg.sparkline(view.distribution(point, setting), span=shapes[j])}")
            cells.append(f"<td{shown}>{wording.times(gain.value)} <i>{wording.span(gain)}</i>")
        elif setting is not None:
            cells.append(f"<td{shown}>–" * (3 if distributions else 2))
        rank = view.standings[j][i]
        cells.append(f"<td class={'yes' if rank.on_frontier else 'no'}{shown}>{escape(wording.standing(rank))}")
    cells += [
        *([_bytes_cell(point.file_bytes.value) if point.file_bytes else "<td>none"] if view.has_trim else []),
        *([f"<td>{'–' if prunable is None else wording.percent(prunable, 1)}"] if _prunes(view) else []),
        f"<td>{wording.percent(point.sparsity, 1)}",
        _bytes_cell(point.entropy_bytes),
        f"<td>{point.metric.change(point.drift)}",
        f"<td>{len(point.seeds)}",
    ]
    if _orders_say_more(view):
        cells.append(f"<td class=left>{escape(wording.order(point.order))}")
    return f"<tr>{''.join(cells)}"


def _prunes(view: PageView) -> bool:
    """Whether some point has pruned weights."""
    return any(point.prunable_sparsity is not None for point in view.points)


def _orders_say_more(view: PageView) -> bool:
    """Whether some point's order cannot be read from its label."""
    return any(wording.order(point.order) != point.label for point in view.points if point.order)


def _sample_range(view: PageView, setting: LatencySetting | None) -> tuple[float, float]:
    """Common axis of all distributions of a setting, relative to each one's median, so that rows can be compared by eye."""
    ordered = [sorted(view.distribution(point, setting)) for point in view.points]
    relative = [
        (samples[0] / median, samples[int(0.98 * (len(samples) - 1))] / median)
        for samples in ordered
        if samples and (median := samples[len(samples) // 2]) > 0
    ]
    return min((low for low, _ in relative), default=0.0), max((high for _, high in relative), default=0.0)


def _baselines(view: PageView) -> str:
    return ", ".join(dict.fromkeys(name for point in view.points for speed in point.speeds.values() for name in speed.baselines))


def _heading(text: str, *, left: bool = False, tip: bool = False, attributes: str = "") -> str:
    """A heading that sorts; ``tip`` columns are also read out by the pictures."""
    marks = (' class="left"' if left else "") + (' data-tip="1"' if tip else "")
    return f'<th scope="col"{marks}{attributes}><button type="button">{escape(text)}</button></th>'


def _bytes_cell(count: float) -> str:
    """Bytes in a fitting unit; the plain number is kept to sort by."""
    return f"<td data-v={count:.0f}>{wording.size(count)}"


def _shown(j: int) -> str:
    """Attributes of a cell that only belongs to setting ``j``; the script shows one setting at a time."""
    return f" data-s={j}" + (" hidden" if j else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
