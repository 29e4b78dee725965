"""The kernel chosen for every layer, kept beside the file it was measured for, so that the next process starts at once.

A kept choice is advice: the runtime checks that it was made for this network, CPU and version, and measures again where not. So a
file that cannot be read or written is not an error.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from paretrim.errors import ParetrimError
from paretrim.files import write_atomically

FORMAT = 1

LARGEST_FILE = 2**20
"""Most bytes; a longer file was not written here."""

Choices = dict[str, str]
"""The runtime's choices, by :func:`setting`."""


def choices_file(path: Path) -> Path:
    """Where the choices for a deployed file are kept: ``model.graph.plan.json`` beside ``model.graph``."""
    return path.with_name(f"{path.name}.plan.json")


def setting(*, threads: int, instruction_set: str) -> str:
    """What choices are made for, besides the network and the CPU."""
    return f"{instruction_set or 'best'}, {threads} thread{'s' * (threads > 1)}"


def read_choices(path: Path) -> Choices:
    """Choices kept for a deployed file; empty if there is nothing readable."""
    place = choices_file(path)
    try:
        # Only a regular file is opened: a pipe would block.
        if not place.is_file() or place.stat().st_size > LARGEST_FILE:
            return {}
        content = json.loads(place.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            return {}
        kept = content.get("choices")
        if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
            return {}
        "".join((*kept, *kept.values())).encode()  # an escape in JSON can be a lone surrogate
    except (OSError, ValueError, RecursionError, MemoryError):
        return {}
    return kept


def keep_choices(path: Path, kept: Choices, new: Choices) -> None:
    """Write choices beside a deployed file: the new ones, and those ``kept`` before if the file stays short enough to be read.

    Does nothing if the folder is not writable.
    """
    content = _content(kept | new)
    with contextlib.suppress(ParetrimError):
        write_atomically(choices_file(path), content if len(content) <= LARGEST_FILE else _content(new))


def _content(kept: Choices) -> bytes:
    return json.dumps({"format": FORMAT, "choices": kept}, sort_keys=True, indent=1).encode()
