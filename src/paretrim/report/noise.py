"""The noise of a measuring session, summarised."""

from __future__ import annotations

import re
from collections.abc import Iterable

from paretrim.intervals import Estimate

PLACE = re.compile(r"process(?:es)? ([\d, ]+): ")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


SPOILING = (
    "tasks waited for a CPU",
    "the hypervisor took",
    "its own threads waited for a core",
    "this container is stopped",
)
"""Remarks that contain one of these mean that other work took the CPU while latency was measured."""


FLOOR_LIMIT = 1.1
"""If the interval of a file against its own copy reaches this ratio, the session says nothing about other files."""


def doubts(remarks: Iterable[str], floor: Estimate) -> tuple[str, ...]:
    """Why a session's times support no claim, in words, from its own checks; empty if it was sound."""
    found = shortened(remark for remark in remarks if any(said in remark for said in SPOILING))
    wide = floor.low < 1 / FLOOR_LIMIT or floor.high > FLOOR_LIMIT
    return (
        *found,
        *([f"the baseline measured {floor.low:.2f} to {floor.high:.2f} times as fast as its own copy"] if wide else []),
    )


def shortened(remarks: Iterable[str]) -> tuple[str, ...]:
    """Merge remarks that differ only in their process and first number into one, with the range of that number.

    >>> shortened(["process 1: 6 tasks want to run (limit 1)", "processes 2, 3: 8 tasks want to run (limit 1)"])
    ('6 to 8 tasks want to run (limit 1), in 3 processes',)
    """
    numbers: dict[tuple[str, str], list[str]] = {}
    processes: dict[tuple[str, str], set[str]] = {}
    for remark in remarks:
        place = PLACE.match(remark)
        said = remark[place.end() :] if place else remark
        # Text in quotes is a name, so a number in it is not a measurement.
        number = None if "'" in said else NUMBER.search(said)
        key = (said, "") if number is None else (said[: number.start()], said[number.end() :])
        numbers.setdefault(key, []).extend([number.group()] if number else [])
        processes.setdefault(key, set()).update(re.findall(r"\d+", place.group(1)) if place else ())
    return tuple(_said(*key, numbers[key], len(processes[key])) for key in numbers)


def _said(before: str, after: str, numbers: list[str], processes: int) -> str:
    ordered = sorted(dict.fromkeys(numbers), key=float)
    value = ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}" if ordered else ""
    place = f", in {processes} process{'es' if processes > 1 else ''}" if processes else ""
    return f"{before}{value}{after}{place}"
