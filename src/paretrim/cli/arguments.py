"""Types of arguments: from text to a value, or a message that says what to write."""

from __future__ import annotations

import argparse
from pathlib import Path

DENSE_RATE = 0.1
"""The learning rate of a dense network that compress trains, unless another is given."""

FORMATS = ("int8", "int8-weights", "float16", "bfloat16")
FORMAT = "int8, weights alone as int8-weights, float16 or bfloat16, which are computed in float32 (default: int8)"


def numbers(text: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers; write for instance 0.49,0.48,0.45") from error


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, separated by commas, each once."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of whole numbers; write for instance 1,2") from error
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' has a number below 1; write for instance 1,2")
    return found


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in text.split(","))


def count(text: str) -> int:
    """One whole number of at least 1."""
    found = counts(text)
    if len(found) > 1:
        raise argparse.ArgumentTypeError(f"'{text}' is a list; write one number")
    return found[0]


def factor(text: str) -> float:
    """One number above 0."""
    try:
        found = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number; write for instance 3") from error
    if not found > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0; write for instance 3")
    return found


def words(text: str) -> tuple[str, ...]:
    """Words separated by commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def path(text: str) -> Path:
    """A file or folder; an empty name, as from an unset shell variable, would mean the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' is an empty path; name a file or folder, such as . for this one")
    return Path(text)
