"""Opens deployed files in a runtime, reports what the runtime computes in integers, and compares it with the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paretrim import __version__
from paretrim.deploy.report import IntegerReport
from paretrim.errors import DataUnavailable, ExportMismatch, UnsupportedOperation
from paretrim.files import is_trim_file, path_of, require_file
from paretrim.graph.interpreter import OneOutput, checked_threads, run_outputs
from paretrim.graph.storage import load
from paretrim.graph.types import FloatArray, Graph
from paretrim.graph.windows import Values

NATIVE, ELSEWHERE, REFERENCE = "paretrim", "onnxruntime", "reference"
"""The native runtime, the default runtime for ONNX files, and the reference interpreter."""

OF_ONNX_FILES = (ELSEWHERE, "openvino")
"""Runtimes that open ``.onnx`` files."""

RUNTIMES = (NATIVE, ELSEWHERE, "openvino", REFERENCE)
"""Runtimes of :func:`open_runnable`. Two of them open ``.onnx`` files, the others ``.trim`` or ``.graph`` files."""

VERIFIED_AT_ONCE = 64
"""Images per call in :func:`verify`."""


BATCH = 250
"""Images per call for a whole test set; fewer if images are large."""

_BATCH_VALUES = 2**20
"""Maximum pixels times channels per call, so that large intermediate values stay in or near a cache."""

CLOSE = 0.01
"""Outputs of an image are close if no value differs by more than this share of the largest one over all images."""

AGREEMENT_IMAGES = 2000
"""Number of test images for runtimes that are only compared, not judged, because OpenVINO compiles and computes slowly."""


class Runnable(Protocol):
    """A deployed network that is ready to run."""

    @property
    def runtime(self) -> str:
        """One of :data:`RUNTIMES`."""

    @property
    def version(self) -> str:
        """Version of the runtime."""

    @property
    def threads(self) -> int:
        """Number of threads per call."""

    def __call__(self, images: Values) -> FloatArray:
        """Logits [N, classes] of images [N, C, H, W], in one call of the runtime.

        Raises:
            UnsupportedOperation: the network has several outputs.
        """

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """Every output [N, ...] of images [N, C, H, W], in one call of the runtime."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a runtime's outputs with the reference.

    ``top1`` is the share of images with the same top-1 class in every vector output; None if no output is a vector of more than
    one value. ``close`` is the share of images whose values are the same up to :data:`CLOSE`, the meaningful measure for outputs
    other than logits. The two distances are over all values of the outputs.
    """

    top1: float | None
    close: float
    worst_absolute: float
    mean_absolute: float
    images: int


@dataclass(frozen=True, eq=False)
class ReferenceRunnable(OneOutput):
    """The NumPy interpreter as a runtime. NumPy's BLAS decides the actual number of threads."""

    graph: Graph
    threads: int = 1
    runtime: str = REFERENCE
    version: str = __version__

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """Every output [N, ...]."""
        return run_outputs(self.graph, images)


def open_runnable(path: Path | str, *, runtime: str, threads: int = 1) -> Runnable:
    """Open a deployed file for repeated calls.

    Args:
        path: an ``.onnx`` file, or a ``.trim`` or ``.graph`` file for the native runtime and the reference.
        runtime: one of :data:`RUNTIMES`.
        threads: exact number of threads per call.

    Raises:
        UnsupportedOperation: the runtime is unknown or ``threads`` is not from 1 to 1024.
        CorruptFile: the file is missing or the runtime cannot read it.
        MissingDependency: the runtime is not installed; the message names what to install.
    """
    path = path_of(path)
    if runtime not in RUNTIMES:
        raise UnsupportedOperation(f"runtime '{runtime}' is unknown; choose one of {', '.join(RUNTIMES)}")
    threads = checked_threads(threads)
    if runtime == REFERENCE:
        return ReferenceRunnable(read_graph(path), threads)
    if runtime == NATIVE:
        from paretrim.runtime import load as open_session

        return open_session(path, threads=threads)
    _require_onnx(path)
    if runtime == "onnxruntime":
        from paretrim.deploy.onnx_runtime import OnnxRuntimeRunnable

        return OnnxRuntimeRunnable.open(path, threads)
    from paretrim.deploy.openvino_runtime import OpenVinoRunnable

    return OpenVinoRunnable.open(path, threads)


def open_outputs(path: Path | str, *, runtime: str, threads: int) -> Callable[[Values], tuple[FloatArray, ...]]:
    """A function that computes all outputs of a deployed file; arguments and errors as in :func:`open_runnable`."""
    return open_runnable(path, runtime=runtime, threads=threads).outputs


def integer_share(path: Path | str, runtime: str) -> IntegerReport:
    """Which convolutions of an ``.onnx`` file the runtime computes in int8, by its own report.

    Raises:
        UnsupportedOperation: the runtime is neither ``onnxruntime`` nor ``openvino``.
        CorruptFile: the file is missing or the runtime cannot read it.
        MissingDependency: the runtime is not installed; the message names what to install.
    """
    path = path_of(path)
    if runtime not in OF_ONNX_FILES:
        raise UnsupportedOperation(f"runtime '{runtime}' does not report what it executes; choose onnxruntime or openvino")
    _require_onnx(path)
    if runtime == "onnxruntime":
        from paretrim.deploy import onnx_runtime

        return onnx_runtime.integer_report(path)
    from paretrim.deploy import openvino_runtime

    return openvino_runtime.integer_report(path)


def verify(graph: Graph, runnable: Runnable, images: Values) -> Agreement:
    """Compare a runnable with the reference interpreter on the same images.

    Raises:
        DataUnavailable: there are no images, or they do not fit the graph.
        ExportMismatch: the runnable's outputs have another shape, or are not finite.
    """
    if not len(images):
        raise DataUnavailable("no images were given to compare on; give at least one")
    expected = run_outputs(graph, images)
    pieces = [runnable.outputs(images[first : first + VERIFIED_AT_ONCE]) for first in range(0, len(images), VERIFIED_AT_ONCE)]
    found = tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
    shapes, wanted = ([output.shape for output in outputs] for outputs in (found, expected))
    finite = all(np.isfinite(output).all() for output in found)
    if shapes != wanted or not finite:
        raise ExportMismatch(
            f"{runnable.runtime} {runnable.version} gives logits {_listed(shapes)}, finite: {finite};"
            f" the graph gives finite {_listed(wanted)}; check that it is the same network"
        )
    flat = [[output.reshape(len(images), -1) for output in outputs] for outputs in (found, expected)]
    distance = np.abs(np.concatenate(flat[0], axis=1).astype(np.float64) - np.concatenate(flat[1], axis=1))
    vectors = [pair for pair in zip(found, expected, strict=True) if pair[0].ndim == 2 and pair[0].shape[1] > 1]
    same = np.all([one.argmax(axis=1) == other.argmax(axis=1) for one, other in vectors], axis=0)
    close = np.all(
        [(np.abs(one - other) <= CLOSE * np.abs(other).max()).all(axis=1) for one, other in zip(*flat, strict=True)], axis=0
    )
    return Agreement(
        top1=float(same.mean()) if vectors else None,
        close=float(close.mean()),
        worst_absolute=float(distance.max()),
        mean_absolute=float(distance.mean()),
        images=len(images),
    )


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def in_batches(images: Values) -> Iterator[Values]:
    """Split images [N, C, H, W] into batches for a runnable; batch sizes divide :data:`BATCH`."""
    most = max(1, _BATCH_VALUES // math.prod(images.shape[1:]))
    size = max(part for part in range(1, BATCH + 1) if BATCH % part == 0 and part <= most)
    for at in range(0, len(images), size):
        yield images[at : at + size]


def compared(count: int) -> npt.NDArray[np.int64]:
    """Indices of the images, out of ``count``, for measuring agreement: evenly spaced, at most :data:`AGREEMENT_IMAGES`.

    Fills whole batches if possible, because OpenVINO compiles the network for each batch size.
    """
    chosen = min(max(count // BATCH, 1) * BATCH, AGREEMENT_IMAGES, count)
    return np.arange(chosen, dtype=np.int64) * count // chosen


def read_graph(path: Path) -> Graph:
    """The graph in a ``.trim`` file, or in a ``.graph`` file.

    Raises:
        CorruptFile: the file is missing, damaged or not a network.
        MissingDependency: it is a ``.trim`` file, and the native library is not built.
    """
    if is_trim_file(path):
        from paretrim.trimfile import read

        return read(path)
    return load(path)


def _require_onnx(path: Path) -> None:
    if is_trim_file(path):
        raise UnsupportedOperation(f"'{path}' is a .trim file; choose the runtime {NATIVE} or reference")
    require_file(path)
