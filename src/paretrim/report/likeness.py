"""How like their teacher the networks of a study are: one table for every page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from paretrim.intervals import mean_interval
from paretrim.metric import ACCURACY
from paretrim.report.points import Point
from paretrim.results.outcome import TeacherLikeness
from paretrim.visible import escape

HEADINGS = ("arm", "seeds", "accuracy, %", "same class, %", "KL, nats", "calibration error (ECE), %", "Grad-CAM similarity")

NOT_OF_ITSELF = "–"
"""In place of what the teacher would have against itself."""


@dataclass(frozen=True)
class LikenessTable:
    """The cells of the table, one row a network, the teacher first; and what they mean."""

    rows: tuple[tuple[str, ...], ...]
    note: str


def likeness_table(points: Sequence[Point]) -> LikenessTable | None:
    """The table of all points whose runs were compared with a teacher; None if none was."""
    known = [(point, [run.likeness for run in point.runs if run.likeness is not None]) for point in points]
    found = [one for _, several in known for one in several]
    if not found:
        return None
    rows = [_teacher(name, [one for one in found if one.teacher == name]) for name in dict.fromkeys(one.teacher for one in found)]
    rows += [_student(point, several) for point, several in known if several]
    return LikenessTable(tuple(rows), _note(found))


def section(points: Sequence[Point]) -> str:
    """The section of the HTML page; empty if no network was compared."""
    table = likeness_table(points)
    if table is None:
        return ""
    heading = "".join(f"<th>{escape(text)}" for text in HEADINGS)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}" for row in table.rows)
    return (
        f'<section id="teacher"><h2>Like the teacher</h2><p class="note">{escape(table.note)}</p>'
        f'<div class="wide"><table><thead><tr>{heading}</thead><tbody>{rows}</tbody></table></div></section>'
    )


def _teacher(name: str, found: Sequence[TeacherLikeness]) -> tuple[str, ...]:
    """The teacher's own figures; several seeds may have one each."""
    value = _over_seeds([one.teacher_value for one in _distinct(found)], _percent)
    error = _over_seeds([one.teacher_calibration_error for one in _distinct(found)], _percent)
    return f"the teacher, {name}", NOT_OF_ITSELF, value, NOT_OF_ITSELF, NOT_OF_ITSELF, error, NOT_OF_ITSELF


def _distinct(found: Sequence[TeacherLikeness]) -> list[TeacherLikeness]:
    """One for each teacher: seeds may share it."""
    return list({(one.teacher_value, one.teacher_calibration_error): one for one in found}.values())


def _student(point: Point, found: Sequence[TeacherLikeness]) -> tuple[str, ...]:
    return (
        point.label,
        str(len(found)),
        _over_seeds([run.deployed_value for run in point.runs if run.likeness is not None], _percent),
        _over_seeds([one.agreement for one in found], _percent),
        _over_seeds([one.kl for one in found], _plain),
        _over_seeds([one.calibration_error for one in found], _percent),
        _over_seeds([one.grad_cam for one in found], _plain),
    )


def _over_seeds(values: Sequence[float], text: Callable[[float], str]) -> str:
    """The mean, with half of its interval if there are several values."""
    if len(values) == 1:
        return text(values[0])
    found = mean_interval(values)
    return f"{text(fmean(values))} ± {text(found.high - found.value)}"


def _percent(value: float) -> str:
    return ACCURACY.number(value)


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _note(found: Sequence[TeacherLikeness]) -> str:
    images = sorted({one.grad_cam_images for one in found})
    first = f"{images[0]:,}" if len(images) == 1 else f"{images[0]:,} to {images[-1]:,}"
    places = dict.fromkeys(one.grad_cam_at for one in found)
    where = "; ".join(
        f"at {theirs or 'the last map'} of the teacher and {ours or 'the last map'} of the network"
        if theirs or ours
        else "at the last maps"
        for theirs, ours in places
    )
    return (
        "Deployed files on the test images. Same class: how often the network decides as the teacher. KL: mean divergence of "
        "its probabilities from the teacher's. Grad-CAM similarity: mean cosine similarity of the class maps of the first "
        f"{first} test images, {where}. ± is half of the 95 % interval over seeds."
    )
