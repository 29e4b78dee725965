"""Executes a graph in NumPy, bit for bit as ``docs/integer-graph.md`` says: the reference for every runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from paretrim.errors import DataUnavailable, UnsupportedOperation
from paretrim.graph.operations.operation import NodeCall
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, FloatArray, Graph, InputSpec, Node, ValueType
from paretrim.graph.windows import CACHED_BYTES, Values
from paretrim.visible import brief

CHECKED_WORK = 8 * 10**9
"""Multiply-adds that one check may take here, so that it takes seconds: with a large network it sees fewer images."""

FLOAT_WORK = 32
"""How much longer a multiply-add in float32 takes here, since each is rounded separately."""

FEWEST_AT_ONCE, MOST_AT_ONCE = 4, 64
"""Images computed at once: weights are prepared for all of them."""

MOST_THREADS = 1024
"""Most threads asked of any runtime, which starts them all."""


def is_whole(number: object) -> bool:
    """Whether a setting is an integer, including NumPy's."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def checked_threads(threads: object) -> int:
    """A number of threads per call, of any runtime, as a Python int.

    Raises:
        UnsupportedOperation: it is not a whole number from 1 to :data:`MOST_THREADS`.
    """
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise UnsupportedOperation(f"threads is {brief(threads)}; it must be a whole number from 1 to {MOST_THREADS}")
    return int(threads)


def affordable_images(graph: Graph, most: int) -> int:
    """How many images a check computes: ``most``, or as many as :data:`CHECKED_WORK` allows, but at least one."""
    work = graph.multiply_adds * (1 if graph.quantized else FLOAT_WORK)
    return max(1, min(most, int(CHECKED_WORK // max(work, 1))))


def affordable_share(graph: Graph) -> float:
    """Which share of one image's work a check computes here: all of it, or less of a large float network, minutes of work."""
    return 1.0 if graph.quantized else min(1.0, CHECKED_WORK / (FLOAT_WORK * max(graph.multiply_adds, 1)))


def depends_on_library(graph: Graph) -> bool:
    """Whether its numbers depend on a mathematics library, so that machines may differ in the last bit."""
    types = graph.types
    return any(rounds_elsewhere(node) for node in graph.nodes if node.inputs and not types[node.inputs[0]].quantized)


def rounds_elsewhere(node: Node) -> bool:
    """Whether a node that computes on floats asks a mathematics library for its function."""
    return OPERATIONS[node.op].library(settings_of(node))


def run(graph: Graph, images: Values, *, batch: int | None = None, threads: int = 1) -> FloatArray:
    """Logits, float32 [N, classes], of a network of one output; the other arguments are those of :func:`run_outputs`.

    Raises:
        UnsupportedOperation: the network has several outputs.
        DataUnavailable: the images have another shape or type than the graph takes, or are not finite.
        CorruptFile: the graph's own numbers lead to NaN on its way to integers.
    """
    _ = graph.output  # refuses several
    return run_outputs(graph, images, batch=batch, threads=threads)[0]


def run_outputs(graph: Graph, images: Values, *, batch: int | None = None, threads: int = 1) -> tuple[FloatArray, ...]:
    """Every output in the order of ``graph.outputs``, float32 [N, ...].

    Args:
        graph: a float or an integer graph.
        images: [N, C, H, W]; uint8 pixels where the graph takes pixels, float32 otherwise.
        batch: images computed at once, by default few large or many small ones; it affects memory and speed, but in an
            integer graph not a bit of the result.
        threads: batches computed at the same time.

    Raises:
        DataUnavailable: the images have another shape or type than the graph takes, or are not finite.
        CorruptFile: the graph's own numbers lead to NaN on its way to integers.
    """
    _check_input(graph.input, images)
    size = _fast_batch(graph) if batch is None else batch
    if size < 1:
        raise DataUnavailable(f"batch is {size}; at least 1 image is computed at once")
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    types = graph.types
    results = tuple(np.empty((len(images), *types[name].shape), dtype=np.float32) for name in graph.outputs)

    def compute_from(first: int) -> None:
        known: dict[str, Values] = {INPUT: images[first : first + size]}
        for index, (node, value) in enumerate(_steps(graph, known)):
            known[node.name] = value
            for name in node.inputs:
                if last_use[name] == index and name not in graph.outputs:
                    known.pop(name, None)
        for name, result in zip(graph.outputs, results, strict=True):
            result[first : first + size] = known[name]

    starts = range(0, len(images), size)
    with ThreadPoolExecutor(threads) as pool:
        for _ in map(compute_from, starts) if threads == 1 else pool.map(compute_from, starts):
            pass  # raises what a thread raised
    return results


class OneOutput(Protocol):
    """Calling a runtime for the single output of a network; a runtime inherits this and defines :meth:`outputs`."""

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """Every output float32 [N, ...] of images [N, C, H, W]."""
        ...

    def __call__(self, images: Values) -> FloatArray:
        """Logits float32 [N, classes], or the one map, of images [N, C, H, W]: uint8 pixels or normalised float32, as it takes.

        Raises:
            UnsupportedOperation: the network has several outputs.
            ParetrimError: as from :meth:`outputs`.
        """
        found = self.outputs(images)
        if len(found) != 1:
            raise UnsupportedOperation(f"the network has {len(found)} outputs; call outputs(images), which returns all of them")
        return found[0]


def _fast_batch(graph: Graph) -> int:
    largest = max(4 * kind.size for kind in graph.types.values())
    return min(MOST_AT_ONCE, max(FEWEST_AT_ONCE, CACHED_BYTES // largest))


def values(graph: Graph, images: Values) -> dict[str, Values]:
    """Every value of one batch by name, the input included; arguments and errors as in :func:`run`."""
    _check_input(graph.input, images)
    known: dict[str, Values] = {INPUT: images}
    for node, value in _steps(graph, known):
        known[node.name] = value
    return known


def compute(node: Node, inputs: tuple[Values, ...], types: tuple[ValueType, ...], spec: InputSpec) -> Values:
    """The value of one node from the values and types of its inputs; ``spec`` matters to operations that read pixels.

    Raises:
        UnsupportedOperation: its operation is not defined on these types.
        CorruptFile: the node would turn NaN into an integer.
    """
    operation = OPERATIONS[node.op]
    meaning = operation.integer if types[0].quantized else operation.real
    if meaning is None:
        raise UnsupportedOperation(f"node '{node.name}' ({node.op}, layer '{node.layer}') has no meaning on {types[0].dtype}")
    return meaning(NodeCall(node, settings_of(node), inputs, types, spec))


def _steps(graph: Graph, known: Mapping[str, Values]) -> Iterator[tuple[Node, Values]]:
    types = graph.types
    for node in graph.nodes:
        inputs = tuple(known[name] for name in node.inputs)
        yield node, compute(node, inputs, tuple(types[name] for name in node.inputs), graph.input)


def check_images(images: Values, shape: tuple[int, ...], *, pixels: bool) -> None:
    """Check that images [N, C, H, W] have this shape (C, H, W) and are uint8 pixels, or float32 where not ``pixels``.

    An extent of 0 fits any.

    Raises:
        DataUnavailable: they have another shape or type.
    """
    wanted = np.dtype(np.uint8 if pixels else np.float32)
    given = images.shape[1:]
    fits = len(given) == len(shape) and all(needed in (0, side) for side, needed in zip(given, shape, strict=True))
    if images.dtype != wanted or not fits:
        extents = ", ".join(["N", *(str(extent or "any") for extent in shape)])
        raise DataUnavailable(f"images are {images.dtype} {list(images.shape)}; the network takes {wanted} [{extents}]")


def _check_input(spec: InputSpec, images: Values) -> None:
    check_images(images, spec.shape, pixels=spec.takes_pixels)
    if not spec.takes_pixels and not np.isfinite(images).all():
        raise DataUnavailable("images hold NaN or infinity; pass finite, normalised pixels")
