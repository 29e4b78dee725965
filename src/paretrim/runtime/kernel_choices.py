"""Stores the measured kernel choices next to the deployed file, so that the next process starts at once.

Stored choices are only hints: the runtime checks that they were made for this network, CPU and version, and measures again
otherwise. So a file that cannot be read or written is not an error.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from paretrim.errors import ParetrimError
from paretrim.files import write_atomically

FORMAT = 1

LARGEST_FILE = 2**20
"""Maximum bytes; a longer file was not written by this module."""

Choices = dict[str, str]
"""The runtime's choices, keyed by :func:`setting`."""


def choices_file(path: Path) -> Path:
    """Path of the choices for a deployed file: ``model.graph.plan.json`` next to ``model.graph``."""
    return path.with_name(f"{path.name}.plan.json")


def setting(*, threads: int, instruction_set: str) -> str:
    """The settings that choices depend on, besides the network and the CPU."""
    return f"{instruction_set or 'best'}, {threads} thread{'s' * (threads > 1)}"


def read_choices(path: Path) -> Choices:
    """Stored choices for a deployed file; empty if there are none or they cannot be read."""
    place = choices_file(path)
    try:
        # Opens only regular files, because a pipe would block.
        if not place.is_file() or place.stat().st_size > LARGEST_FILE:
            return {}
        content = json.loads(place.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            return {}
        stored = content.get("choices")
        if not isinstance(stored, dict) or not all(isinstance(value, str) for value in stored.values()):
            return {}
        "".join((*stored, *stored.values())).encode()  # an escape in JSON can be a lone surrogate
    except (OSError, ValueError, RecursionError, MemoryError):
        return {}
    return stored


def keep_choices(path: Path, stored: Choices, new: Choices) -> None:
    """Write choices next to a deployed file: the new ones, plus those ``stored`` before unless the file would get too long.

    Does nothing if the folder is not writable.
    """
    content = _content(stored | new)
    with contextlib.suppress(ParetrimError):
        write_atomically(choices_file(path), content if len(content) <= LARGEST_FILE else _content(new))


def _content(choices: Choices) -> bytes:
    return json.dumps({"format": FORMAT, "choices": choices}, sort_keys=True, indent=1).encode()
