"""Argument types: they convert text to a value, or raise an error that says what to write."""

from __future__ import annotations

import argparse
from pathlib import Path

DENSE_RATE = 0.1
"""The default learning rate for the dense network that compress trains."""

LONGEST_SEED = 30
"""Most digits of a seed."""

FORMATS = ("int8", "int8-weights", "float16", "bfloat16")
FORMAT = "int8; or weights only, as int8-weights, float16 or bfloat16, computed in float32 (default: int8)"


def numbers(text: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers; write, for example, 0.49,0.48,0.45") from error


def number(text: str) -> float:
    """One number."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number; write it without a unit, for example 0.5") from error


def whole_number(text: str) -> int:
    """One whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number; write it in digits, without a unit") from error


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, separated by commas, each once."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of whole numbers; write, for example, 1,2") from error
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' has a number below 1; write, for example, 1,2")
    return found


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in text.split(","))


def count(text: str) -> int:
    """One whole number of at least 1."""
    try:
        found = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number; write, for example, 2") from error
    if found < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is below 1; write, for example, 2")
    return found


def seed(text: str) -> int:
    """One whole number of at least 0."""
    if not text.isdecimal() or len(text) > LONGEST_SEED:
        raise argparse.ArgumentTypeError(f"'{text}' is no seed; write a whole number from 0, of at most {LONGEST_SEED} digits")
    return int(text)


def factor(text: str) -> float:
    """One number above 0."""
    try:
        found = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number; write, for example, 3") from error
    if not found > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0; write, for example, 3")
    return found


def words(text: str) -> tuple[str, ...]:
    """Words separated by commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def path(text: str) -> Path:
    """A file or folder; an empty name, as from an unset shell variable, would mean the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' is an empty path; name a file or folder, such as . for the current one")
    return Path(text)
