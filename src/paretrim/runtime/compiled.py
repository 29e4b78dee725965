"""The CPU as the native runtime sees it. This is the only module that imports the compiled module."""

from __future__ import annotations

from paretrim.errors import MissingDependency

try:
    import paretrim.runtime._native as native
except ImportError as error:
    raise MissingDependency(
        f"the native runtime is not built for this Python ({error}); in a checkout run scripts/native.sh,"
        " otherwise install paretrim again"
    ) from error

__all__ = ["instruction_sets", "native", "peak_multiply_adds_a_second"]


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets with kernels that this CPU supports, best first; ``plain`` is always last."""
    return tuple(native.instruction_sets())


def peak_multiply_adds_a_second(instruction_set: str = "") -> float:
    """Peak 8-bit multiply-adds per second on one thread, by microbenchmark; for the best instruction set by default.

    Raises:
        UnsupportedOperation: this CPU or this build does not support the instruction set.
    """
    return native.peak_multiply_adds_a_second(instruction_set or instruction_sets()[0])
