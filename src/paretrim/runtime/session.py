"""A deployed file, planned for this CPU and ready to run."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretrim import __version__
from paretrim.errors import CorruptFile, DataUnavailable, UnsupportedOperation, located
from paretrim.files import TRIM_START, is_trim_file, path_of, require_file
from paretrim.graph.interpreter import OneOutput, check_images, checked_threads, is_whole
from paretrim.graph.outputs import with_user_names
from paretrim.graph.types import FloatArray, Graph
from paretrim.graph.windows import Values
from paretrim.runtime.compiled import native
from paretrim.runtime.kernel_choices import keep_choices, read_choices, setting
from paretrim.runtime.parts import run_in_parts
from paretrim.visible import brief

if TYPE_CHECKING:
    from paretrim.runtime._native import Network

PROFILE_CALLS = 50
"""Timed calls of a profile; it reports each layer's median."""

LARGEST_FILE = 2**32
"""Maximum bytes of a ``.trim`` file. A larger one is not a compressed vision network, and reading it would exhaust memory."""

UNTIMED_CALLS = 5
"""Calls before a profile, to warm the caches."""


@dataclass(frozen=True)
class LayerTime:
    """The cost of one step of the plan, for one image on one thread.

    ``name`` joins the nodes that were fused, ``layer`` is the path of the user's module, ``kernel`` the chosen kernel.
    ``multiply_adds`` counts those of the dense layer, ``useful_multiply_adds`` leaves out those on weights that are zero or only
    meet padding, and ``issued_multiply_adds`` is what the kernel executes, including padding and partly filled blocks.
    ``time_ns`` is the median.
    """

    name: str
    layer: str
    op: str
    kernel: str
    weights: int
    zeros: int
    multiply_adds: int
    useful_multiply_adds: int
    issued_multiply_adds: int
    time_ns: int


@dataclass(frozen=True)
class Source:
    """The file of a session and the arguments of :func:`load`; ``path`` is absolute."""

    path: Path
    threads: int
    instruction_set: str
    measure: bool
    remember: bool
    limit: float | None

    def open(self) -> Session:
        """Load the session again, from the file as it is now."""
        return load(
            self.path,
            threads=self.threads,
            instruction_set=self.instruction_set,
            measure=self.measure,
            remember=self.remember,
            limit=self.limit,
        )


@dataclass(frozen=True, eq=False)
class Session(OneOutput):
    """A network that is ready to run, from :func:`load` or :func:`plan`. Thread-safe.

    ``shape`` (C, H, W) and ``takes_pixels`` describe the input, ``output_shapes`` and ``output_names`` the outputs for one image.
    ``class_names`` are the names of the logits (may be empty). A single output is named ``logits``. ``version`` is the runtime's;
    ``threads`` is the number of threads per call. A session that was loaded from a file can be pickled, for example for a worker
    process; unpickling loads the file again with the same settings (``source``).
    """

    network: Network
    shape: tuple[int, ...]
    takes_pixels: bool
    output_shapes: tuple[tuple[int, ...], ...]
    output_names: tuple[str, ...]
    class_names: tuple[str, ...]
    instruction_set: str
    threads: int
    runtime: str = "paretrim"
    version: str = __version__
    source: Source | None = None

    @property
    def classes(self) -> int:
        """Size of the first output for one image: the number of logits of a classifier."""
        return math.prod(self.output_shapes[0])

    def __reduce__(self) -> tuple[Callable[[Source], Session], tuple[Source]]:
        """Pickle the path and the settings, not the network.

        Raises:
            UnsupportedOperation: the session was not loaded from a file.
        """
        if self.source is None:
            raise UnsupportedOperation(
                "this session was planned from a graph in memory and cannot be pickled; write the graph to a file and pickle a"
                " session that paretrim.runtime.load returns, or send the graph and plan it again there"
            )
        return Source.open, (self.source,)

    def __copy__(self) -> Session:
        """The session itself: it never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Session:
        """The session itself: it never changes."""
        return self

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """All outputs, float32 [N, ...], in the order of ``output_names``; images as in :meth:`__call__`.

        Raises:
            DataUnavailable: as from :meth:`__call__`.
        """
        if not isinstance(images, np.ndarray):
            raise DataUnavailable(
                f"images are a {type(images).__name__}; give a NumPy array (for a torch tensor: images.numpy())"
            )
        if images.shape == self.shape:
            raise DataUnavailable(f"images are a single image {list(images.shape)}; give a batch of one: images[None]")
        check_images(images, self.shape, pixels=self.takes_pixels)
        try:
            return run_in_parts(self.network, _in_order(images))
        except MemoryError as error:
            raise DataUnavailable(f"{len(images):,} images at once do not fit into memory; give fewer per call") from error

    def step_values(self, images: Values) -> dict[str, FloatArray]:
        """The float32 values [N, ...] that the steps compute, by the name of their node, in the order of the steps. For checks.

        A node that is fused into the next one, such as a convolution with its ReLU, has no value.

        Raises:
            DataUnavailable: as from :meth:`outputs`.
        """
        return self.outputs_and_step_values(images)[1]

    def outputs_and_step_values(self, images: Values) -> tuple[tuple[FloatArray, ...], dict[str, FloatArray]]:
        """Both :meth:`outputs` and :meth:`step_values` of one run. For checks.

        Raises:
            DataUnavailable: as from :meth:`outputs`.
        """
        check_images(images, self.shape, pixels=self.takes_pixels)
        return self.network.outputs_and_step_values(_in_order(images))

    def profile(self, image: Values, *, calls: int = PROFILE_CALLS) -> tuple[LayerTime, ...]:
        """Median time of every step over ``calls`` calls with one image [C, H, W], on the calling thread only.

        Raises:
            DataUnavailable: the image does not match the input, or ``calls`` is not an integer of at least 1.
        """
        if not is_whole(calls) or calls < 1:
            raise DataUnavailable(f"calls is {calls!r}; it must be at least 1")
        if not isinstance(image, np.ndarray) or image.shape != self.shape:
            given = list(image.shape) if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
            raise DataUnavailable(f"the image is {given}; give one image as a NumPy array {list(self.shape)}")
        self.outputs(image[None])  # checks the image
        ordered = _in_order(image)
        times = [self.network.profile(ordered) for _ in range(UNTIMED_CALLS + calls)]
        medians = np.median(np.array(times[UNTIMED_CALLS:], dtype=np.int64), axis=0)
        return tuple(
            LayerTime(
                name=one.name,
                layer=one.layer,
                op=one.op,
                kernel=one.kernel,
                weights=round(one.weights),
                zeros=round(one.zeros),
                multiply_adds=round(one.multiply_adds),
                useful_multiply_adds=round(one.useful_multiply_adds),
                issued_multiply_adds=round(one.issued_multiply_adds),
                time_ns=round(float(median)),
            )
            for one, median in zip(self.network.layers, medians, strict=True)
        )


def load(
    path: Path | str,
    *,
    threads: int = 1,
    instruction_set: str = "",
    measure: bool = True,
    remember: bool = True,
    limit: float | None = None,
    known: Graph | None = None,
) -> Session:
    """Open a deployed file: a ``.trim`` or a ``.graph`` file.

    Args:
        path: the file.
        threads: threads per call, including the calling thread.
        instruction_set: one of :func:`paretrim.runtime.instruction_sets`; the best by default.
        measure: choose the kernel of every layer by measuring, which takes a moment at the first start; else by heuristics.
        remember: read and store the measured choices in ``<file>.plan.json`` next to the file.
        limit: factor on the budget of memory and work that a ``.trim`` file has for its size. A small file can decode to
            gigabytes, so raise it only for a file that you trust; an error says how far. By default the value of the
            environment variable ``PARETRIM_LIMIT``, or 1.
        known: the graph that a ``.trim`` file was written from. Whatever the file decodes to is compared with it.

    Raises:
        CorruptFile: the file is missing, damaged, of a newer format, exceeds ``limit``, or does not hold ``known``.
        UnsupportedOperation: it is another kind of file, the runtime does not support the network, or a setting is invalid.
    """
    path = path_of(path)
    with located(f"'{path}'"):
        threads = _checked(threads, instruction_set)
    plan_with = _planner_of(path, limit, known)
    stored = read_choices(path) if remember and measure else {}
    place = setting(threads=threads, instruction_set=instruction_set)
    with located(f"'{path}'"):
        network = _plan(plan_with, threads, instruction_set, measure=measure, choices=stored.get(place, ""))
    if remember and measure and not network.choices_were_used:
        keep_choices(path, stored, {place: network.choices})
    source = Source(path.absolute(), threads, instruction_set, measure, remember, limit)
    return _session(network, source)


def plan(graph: Graph, *, threads: int = 1, instruction_set: str = "", measure: bool = True) -> Session:
    """Plan a graph in memory; arguments and errors as in :func:`load`."""
    network = _plan(partial(native.plan_graph, with_user_names(graph)), threads, instruction_set, measure=measure, choices="")
    return _session(network)


def _in_order(images: Values) -> Values:
    return images if images.flags.c_contiguous and images.flags.aligned else images.copy(order="C")


def _checked(threads: int, instruction_set: str) -> int:
    """Check the settings and return the number of threads as a Python int."""
    threads = checked_threads(threads)
    if not isinstance(instruction_set, str):
        raise UnsupportedOperation(f"instruction_set is {brief(instruction_set)}; give a name, or '' for the best one")
    return threads


def _plan(plan_with: Callable[..., Network], threads: int, instruction_set: str, *, measure: bool, choices: str) -> Network:
    threads = _checked(threads, instruction_set)
    try:
        return plan_with(threads=threads, instruction_set=instruction_set, measure=bool(measure), choices=choices)
    except MemoryError as error:
        raise UnsupportedOperation(
            f"not enough memory to plan the network on {threads} thread{'s' * (threads > 1)}; free some"
        ) from error


def _session(network: Network, source: Source | None = None) -> Session:
    return Session(
        network=network,
        shape=tuple(network.input_shape),
        takes_pixels=network.takes_pixels,
        output_shapes=network.output_shapes,
        output_names=network.output_names,
        class_names=tuple(network.class_names),
        instruction_set=network.instruction_set,
        threads=network.threads,
        source=source,
    )


def allowed(limit: float | None) -> float:
    """The limit of a load, or the default if it is None.

    Raises:
        UnsupportedOperation: it is not a number above 0.
    """
    if limit is None:
        return native.usual_limit()
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise UnsupportedOperation(f"limit is {brief(limit)}; it must be a number above 0")
    return float(min(limit, sys.float_info.max))


def _planner_of(path: Path, limit: float | None, known: Graph | None) -> Callable[..., Network]:
    """A function that plans the network of a file, given the settings."""
    if is_trim_file(path):
        with located(f"trim file '{path}'"):
            graph = None if known is None else with_user_names(known)
            return partial(native.plan_trim, content_of(path, mapped=known is not None), limit=allowed(limit), known=graph)
    if known is not None:
        raise UnsupportedOperation(f"'{path}' is no .trim file; only one is compared with a known graph")
    if path.suffix == ".onnx":
        raise UnsupportedOperation(
            f"'{path}' is an ONNX file; open the .trim or .graph file next to it, or write one from the candidate with"
            " paretrim export"
        )
    require_file(path)
    # Imported here, because devices that only run .trim files need not have the package safetensors.
    from paretrim.graph.storage import load as load_graph

    return partial(native.plan_graph, with_user_names(load_graph(path)))


def content_of(path: Path, *, mapped: bool = False) -> bytes | memoryview:
    """The bytes of a ``.trim`` file, which the native library then checks; only the first bytes of another file.

    They are copied, unless ``mapped``: for files that nobody else writes to meanwhile, which would crash the process.

    Raises:
        CorruptFile: the file cannot be read or is too large.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise CorruptFile(f"it has {size:,} bytes; the maximum for a trim file is {LARGEST_FILE:,}")
        if not (path.is_file() or path.is_dir()):  # a pipe would block
            raise CorruptFile("it is a pipe or a device; give a file")
        with path.open("rb") as file:
            start = file.read(len(TRIM_START))
            if start != TRIM_START:
                return start
            if mapped:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            file.seek(0)
            content = np.empty(size, np.uint8)  # NumPy asks for huge pages, which are cleared much sooner
            return content[: file.readinto(content.data)].data
    except (OSError, ValueError) as error:  # a path with a zero byte raises ValueError
        raise CorruptFile(f"it cannot be read: {getattr(error, 'strerror', error)}") from error
    except MemoryError as error:
        raise CorruptFile(f"its {size:,} bytes do not fit into memory") from error
