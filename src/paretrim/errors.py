"""Every exception Paretrim raises on purpose.

A message says what was given, what is allowed, where (stage, layer, file) and what to do next. Inner code raises; an outer
layer that knows more about the place adds it with :func:`located` and keeps the kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from paretrim.visible import visible, visible_lines

START, END = 3000, 1000
"""Characters kept of the start and of the end of a longer message: a library may quote a whole forged file."""


class ParetrimError(Exception):
    """Base of every deliberate error. The command line prints it without a traceback and exits with 1.

    Messages quote names from files and folders; unprintable characters in them never reach a terminal or a log.
    """

    def __init__(self, message: str) -> None:
        long = len(message) > START + END
        super().__init__(visible_lines(f"{message[:START]} [...] {message[-END:]}" if long else message))


class InvalidRecipe(ParetrimError):
    """A recipe, study or command-line value breaks a rule; found before anything runs (exit code 2)."""


class InvalidSettings(InvalidRecipe, ValueError):
    """A setting given in Python, such as ``Budget(epochs=-1)``, breaks a rule; a ``ValueError`` too, as Python's own are."""


class DataUnavailable(ParetrimError):
    """Images or labels are missing, truncated, mislabelled or fail their checksum."""


class WeightsMismatch(ParetrimError):
    """A weights file does not fit the network: missing or unexpected keys, wrong shapes or dtypes."""


class CorruptFile(ParetrimError):
    """A checkpoint, weights file, result store or deployed file cannot be what it claims to be."""


class UnsupportedOperation(ParetrimError):
    """A layer or operation is outside the integer graph; the message names the layer."""


class TrainingFailed(ParetrimError):
    """Training cannot go on: the loss is not finite, memory ran out, or the output does not fit the labels."""


class ExportMismatch(ParetrimError):
    """A deployed file does not compute what the trained network computes, or does not run in int8."""


class MissingDependency(ParetrimError):
    """An optional package is needed for what was asked."""


class RunInUse(ParetrimError):
    """Another process holds the run folder."""


class OutOfSpace(ParetrimError):
    """The disk cannot hold what is about to be written; what was there before is intact."""


class CannotWrite(ParetrimError):
    """A file or folder cannot be written for a reason other than space: permissions, a read-only disk, a file in the way."""


class UnstableMachine(ParetrimError):
    """Latency cannot be measured honestly here and now."""


def reason_of(error: BaseException) -> str:
    """Type and first line of an exception from third-party code, as one line that is safe to show."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # a user's exception may fail even in __str__
        lines = []
    return visible(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


@contextmanager
def located(place: str) -> Iterator[None]:
    """Prefix any :class:`ParetrimError` raised inside with ``place``; the kind of error stays.

    >>> with located("stage 2 (quantize)"):
    ...     raise UnsupportedOperation("layer 'norm' is LayerNorm")
    Traceback (most recent call last):
    paretrim.errors.UnsupportedOperation: stage 2 (quantize): layer 'norm' is LayerNorm
    """
    try:
        yield
    except ParetrimError as error:
        raise type(error)(f"{place}: {error}") from error
