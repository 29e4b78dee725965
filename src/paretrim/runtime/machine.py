"""The CPU as the native runtime sees it; the only module that imports the compiled one."""

from __future__ import annotations

from paretrim.errors import MissingDependency

try:
    import paretrim.runtime._native as native
except ImportError as error:
    raise MissingDependency(
        f"the native runtime is not built for this Python ({error}); in a checkout run scripts/native.sh,"
        " else install paretrim again"
    ) from error

__all__ = ["instruction_sets", "native", "peak_multiply_adds_a_second"]


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that the runtime has kernels for and this CPU runs, best first; ``plain`` is always the last."""
    return tuple(native.instruction_sets())


def peak_multiply_adds_a_second(instruction_set: str = "") -> float:
    """Products of 8-bit integers a second on one thread, found by a short measurement; of the best instruction set by default.

    Raises:
        UnsupportedOperation: this CPU or this build has no such instruction set.
    """
    return native.peak_multiply_adds_a_second(instruction_set or instruction_sets()[0])
