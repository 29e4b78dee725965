"""Checks an ONNX file node by node: compares every value with the interpreter's, on the inputs that the node had in ONNX Runtime.

Comparing classes says little. In an untrained network, or between two nearly tied classes, a single value that is off by one
step can change the class of an image, while a wrong layer may change no class. Node by node, a difference neither grows nor
shrinks on its way to the logits, so it can be compared with what the order of float32 operations explains (docs/measurement.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paretrim.deploy.onnx_file import export_onnx, with_file_names
from paretrim.deploy.onnx_runtime import OnnxRuntimeRunnable, intermediate_values
from paretrim.errors import DataUnavailable, ExportMismatch
from paretrim.files import temporary_folder, write_atomically
from paretrim.graph.dtypes import real_weight
from paretrim.graph.interpreter import affordable_images, compute, run_outputs
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED
from paretrim.graph.operations.weighted import in_any_order
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, FloatArray, Graph, InputSpec, Node, ValueType
from paretrim.graph.windows import Values

CHECKED_IMAGES = 8
"""Images per check. Each image tests a node on as many cases as the node has values."""

CHECKED_BYTES = 2**28
"""Memory for the values of all nodes; large networks are checked on fewer images."""

ROUNDING = 2.0**-18
"""Relative change of a scale that explains a value on the neighbouring step.

The file's scales are at most 2 * 16 units in the last place off the graph's (:mod:`paretrim.deploy.onnx_sums`), which is half of
it, and an operation adds a few rounding errors of 2**-24.
"""

UNEXPLAINED = 1e-3
"""Largest share of a node's values that may be one step off without explanation, because runtimes approximate some functions."""

FLOAT_ERROR = 1e-4
"""Largest error of a float32 value, relative to the largest value of its node."""

SUM_ERROR = 2.0**-20
"""The same relative to the largest sum of absolute values, because terms of opposite signs may add up to almost nothing.

The mean of a normalised channel is such a sum: it is 0 up to rounding, which depends on the order of the terms.
"""

FLIPS = 0.03
"""Largest share of images that may change if the file as a whole does not give the values that were checked node by node.

An image changes if it gets another class or, for outputs other than logits, if a value is off by :data:`OFF`.
"""

OFF = 0.05
"""Largest error of a value of an output other than logits, beyond rounding, relative to the output's largest value."""


@dataclass(frozen=True)
class NodeDifference:
    """How one node differs: the share of its values that rounding does not explain, and the largest difference.

    ``worst`` is in steps if the node is quantized, otherwise relative to the largest value.
    """

    node: Node
    share: float
    worst: float

    def __str__(self) -> str:
        """The difference as text."""
        unit = "steps" if self.node.type.quantized else "of the largest value"
        worst = f"{self.worst:.0f}" if self.node.type.quantized else f"{self.worst:.2g}"
        return (
            f"node '{self.node.name}' ({self.node.op}, layer '{self.node.layer}') is the first that differs: given the same "
            f"inputs, {self.share:.2%} of its values, by up to {worst} {unit}"
        )


def check_onnx(
    graph: Graph,
    path: Path,
    images: Values,
    outputs: Sequence[FloatArray] | None = None,
    *,
    threads: int = 1,
    classes: bool = True,
) -> None:
    """Check that ONNX Runtime computes the graph correctly, up to the order of float32 operations.

    Args:
        graph: the graph from which the file was written.
        path: the ``.onnx`` file.
        images: [N, C, H, W], as the graph takes them; the first ones are used.
        outputs: outputs of the graph for these images, if known; otherwise the interpreter computes them.
        threads: number of nodes compared at the same time.
        classes: whether outputs are logits, of which the largest decides; :data:`OFF` applies to other outputs.

    Raises:
        DataUnavailable: there are no images, or they do not fit the graph.
        ExportMismatch: the file computes something else; the message names the first node that differs.
        CorruptFile: ONNX Runtime cannot read the file.
        MissingDependency: ONNX Runtime or onnx is not installed.
    """
    if not len(images):
        raise DataUnavailable("no images were given to check the ONNX file on; give at least one")
    size = sum(int(np.prod(node.type.shape)) * (1 if node.type.quantized else 4) for node in graph.nodes)
    chosen = images[: max(1, min(affordable_images(graph, CHECKED_IMAGES), CHECKED_BYTES // size))]
    runnable = OnnxRuntimeRunnable.open(path, 1)
    written = with_file_names(graph)
    found = intermediate_values(path, [node.name for node in written.nodes], chosen)
    _add_unwritten_(found, written, chosen)
    with ThreadPoolExecutor(threads) as pool:
        differences = pool.map(lambda node: _difference(node, written, found, chosen), written.nodes)
        for original, difference in zip(graph.nodes, differences, strict=True):
            if difference is not None:
                difference = replace(difference, node=original)
                raise ExportMismatch(f"in ONNX Runtime {runnable.version} {difference}; please report this network")
    checked = [np.asarray(found[name], np.float32) for name in written.outputs]
    known = None if outputs is None else [output[: len(chosen)] for output in outputs]
    _check_whole(graph, runnable, (checked, known), images=chosen, classes=classes)


def export_checked(graph: Graph, path: Path) -> None:
    """Write an ONNX file after checking it on noise, for lack of data; an existing file is replaced in one step.

    Raises:
        ExportMismatch: the file would not compute the graph correctly; it is not written.
        ParetrimError: see :func:`paretrim.deploy.onnx_file.export_onnx`.
    """
    with temporary_folder() as folder:
        file = folder / "unchecked.onnx"
        export_onnx(graph, file)
        try:
            check_onnx(graph, file, random_images(graph))
        except ExportMismatch as error:
            raise ExportMismatch(f"'{path}' is not written: {error}") from error
        write_atomically(path, file.read_bytes())


def random_images(graph: Graph) -> Values:
    """Images for a check without data: noise, which covers the steps of a grid faster than pictures."""
    stream, shape = np.random.default_rng(0), (CHECKED_IMAGES, *graph.input.shape)
    if graph.input.takes_pixels:
        return stream.integers(0, 256, shape, np.uint8)
    return stream.standard_normal(shape, np.float32)


def _add_unwritten_(found: dict[str, Values], graph: Graph, images: Values) -> None:
    """Compute the values that the file does not contain."""
    for node in graph.nodes:
        if node.name not in found:
            found[node.name] = compute(node, *_inputs(node, graph, found, images), graph.input)


def _inputs(
    node: Node, graph: Graph, found: Mapping[str, Values], images: Values
) -> tuple[tuple[Values, ...], tuple[ValueType, ...]]:
    """The inputs that a node had, and their types."""
    values = tuple(images if name == INPUT else found[name] for name in node.inputs)
    return values, tuple(graph.types[name] for name in node.inputs)


def _difference(node: Node, graph: Graph, found: Mapping[str, Values], images: Values) -> NodeDifference | None:
    """How a node differs on the inputs it had, if it does."""
    inputs, kinds = _inputs(node, graph, found, images)
    actual = found[node.name]
    expected = (compute if kinds[0].quantized else _in_floats)(node, inputs, kinds, graph.input)
    if actual.shape != expected.shape:
        return NodeDifference(node, 1.0, np.inf)
    if not node.type.quantized:
        difference = _float_difference(node, actual, expected)
        if difference is None or kinds[0].quantized or not _adds_up(node):
            return difference
        terms = _in_floats(_absolute(node), tuple(map(np.abs, inputs)), kinds, graph.input)
        return _float_difference(node, actual, expected, SUM_ERROR * float(terms.max(initial=0)))
    if np.array_equal(actual, expected):
        return None
    low, high = expected, expected
    for other, others in _rescaled(node, kinds, graph.input):
        value = compute(other, inputs, others, graph.input)
        low, high = np.minimum(low, value), np.maximum(high, value)
    share = float(np.mean((actual < low) | (actual > high)))
    worst = int(np.abs(actual.astype(np.int16) - expected).max())
    return NodeDifference(node, share, worst) if worst > 1 or share > UNEXPLAINED else None


def _in_floats(node: Node, inputs: tuple[Values, ...], kinds: tuple[ValueType, ...], spec: InputSpec) -> Values:
    return in_any_order(node, settings_of(node), inputs[0]) if node.op in WEIGHTED else compute(node, inputs, kinds, spec)


def _adds_up(node: Node) -> bool:
    """Whether each result is a sum of several terms, or the largest of several values."""
    operation = OPERATIONS[node.op]
    return operation.work != "result" or operation.rescaling == "sum"


def _absolute(node: Node) -> Node:
    """The node with absolute weights: of absolute inputs it adds up the sizes of all terms."""
    if node.op not in WEIGHTED:
        return node
    tensors = {"weight": np.abs(real_weight(node.tensors))}
    return replace(node, tensors=tensors | {name: np.abs(node.tensors[name]) for name in ("bias",) if name in node.tensors})


def _float_difference(node: Node, actual: Values, expected: Values, rounding: float = 0.0) -> NodeDifference | None:
    """How values differ, by more than :data:`FLOAT_ERROR` and ``rounding`` allow."""
    largest = float(np.abs(expected).max(initial=np.finfo(np.float32).tiny))
    errors = np.abs(actual.astype(np.float64) - expected)
    wrong = np.logical_not(errors <= FLOAT_ERROR * largest + rounding)  # NaN is wrong too
    return NodeDifference(node, float(wrong.mean()), float(errors.max()) / largest) if wrong.any() else None


def _rescaled(node: Node, kinds: tuple[ValueType, ...], spec: InputSpec) -> Iterator[tuple[Node, tuple[ValueType, ...]]]:
    """Variants of the node with one of the numbers that decide its rounding slightly smaller or larger."""
    operation = OPERATIONS[node.op]
    for factor in (1 - ROUNDING, 1 + ROUNDING):
        scaled = replace(node, type=_scaled(node.type, factor))
        if "table" in node.tensors and operation.table is not None:
            scaled = replace(scaled, tensors={"table": operation.table(settings_of(node), kinds[0], scaled.type, spec)})
        yield scaled, kinds
        if operation.rescaling == "sum":  # terms of opposite sign are larger than their sum
            for index, kind in enumerate(kinds):
                yield node, (*kinds[:index], _scaled(kind, factor), *kinds[index + 1 :])
        if not operation.weighted:  # a weight's scale moves a result as the result's own does
            for name, tensor in node.tensors.items():
                if operation.integer_tensors[name].dtype != "float32":
                    continue
                yield replace(node, tensors={**node.tensors, name: tensor.astype(np.float32) * np.float32(factor)}), kinds


def _scaled(kind: ValueType, factor: float) -> ValueType:
    return replace(kind, scale=float(np.float32(kind.scale * factor)))


def _check_whole(
    graph: Graph,
    runnable: OnnxRuntimeRunnable,
    known: tuple[Sequence[FloatArray], Sequence[FloatArray] | None],
    *,
    images: Values,
    classes: bool,
) -> None:
    """Check that the file without extra outputs gives the checked logits, or at least the same classes except for near ties.

    Other outputs (maps, single values, outputs that are not logits) must be close to the checked ones. ``known`` holds the
    checked outputs and, if available, those of the graph.
    """
    checked, exact = known
    outputs = runnable.outputs(images)
    if all(map(np.array_equal, outputs, checked)):
        return
    for output, right, expected in zip(outputs, checked, exact or run_outputs(graph, images), strict=True):
        noise = float(np.abs(right - expected).max() + FLOAT_ERROR * np.abs(expected).max())
        flat, ours = expected.reshape(len(images), -1), output.reshape(len(images), -1)
        of_classes = classes and expected.ndim == 2 and flat.shape[1] > 1
        changed = beyond_noise(flat, ours, noise) if of_classes else off(flat, ours, noise)
        flips = float(np.mean(changed))
        if flips > FLIPS or not np.isfinite(output).all():
            what = "another class" if of_classes else "other numbers"
            raise ExportMismatch(
                f"in ONNX Runtime {runnable.version} every single node is right, but the whole file gives {what} on "
                f"{flips:.1%} of {len(images)} images, by more than rounding explains; please report this network"
            )


def beyond_noise(expected: FloatArray, logits: FloatArray, noise: float) -> npt.NDArray[np.bool_]:
    """Images [N] whose class changed by more than ``noise`` in both logits explains."""
    rows, found = np.arange(len(expected)), logits.argmax(axis=1)
    return np.asarray(expected.max(axis=1) - expected[rows, found] > 2 * noise)


def off(expected: FloatArray, found: FloatArray, noise: float) -> npt.NDArray[np.bool_]:
    """Images [N] with a value that is off by more than ``noise`` and :data:`OFF` explain."""
    return np.asarray((np.abs(found - expected) > 2 * noise + OFF * np.abs(expected).max()).any(axis=1))
