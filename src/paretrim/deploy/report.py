"""Reports of runtimes about what they execute, and their errors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from paretrim.errors import CorruptFile, ParetrimError


@dataclass(frozen=True)
class IntegerReport:
    """Number of convolutions that a runtime executes, how many of them in int8, and the nodes of the others."""

    convolutions: int
    in_int8: int
    not_int8: tuple[str, ...]


def report_of(executed: Iterable[tuple[str, bool]], known: Collection[str]) -> IntegerReport:
    """Summarise executed convolutions, given as (name, whether in integers).

    Runtimes append to the names of fused nodes, so a name is traced to the longest of the file's ``known`` names that is its
    prefix.
    """
    convolutions = list(executed)
    floating = [name for name, integer in convolutions if not integer]
    traced = (max((own for own in known if name.startswith(own)), key=len, default=name) for name in floating)
    return IntegerReport(len(convolutions), len(convolutions) - len(floating), tuple(traced))


@contextmanager
def typed(failure: str) -> Iterator[None]:
    """Turn any error that another runtime raises inside into a :class:`CorruptFile` that begins with ``failure``.

    Out-of-memory errors and our own pass through.
    """
    try:
        yield
    except (ParetrimError, MemoryError):
        raise
    except Exception as error:
        raise CorruptFile(f"{failure}: {error}") from error
