"""What a search chose and why, in words: the same in the terminal, in the run folder and on the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The candidate with the label ``label``, whose file is ``file``.

    ``targets`` are what was asked for, ``reason`` is why this candidate was kept, ``facts`` are what is known about its loss of
    accuracy, and ``problems`` are targets that it misses, that are not shown to be met, or that the test images contradict.
    """

    label: str
    file: str
    targets: tuple[str, ...]
    reason: str
    facts: tuple[str, ...]
    problems: tuple[str, ...]
