"""A deployed file, planned for this CPU and ready to run."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretrim import __version__
from paretrim.errors import CorruptFile, DataUnavailable, UnsupportedOperation, located
from paretrim.files import TRIM_START, is_trim_file, path_of
from paretrim.graph.interpreter import OneOutput, check_images
from paretrim.graph.outputs import with_user_names
from paretrim.graph.types import FloatArray, Graph
from paretrim.graph.windows import Values
from paretrim.runtime.choices import keep_choices, read_choices, setting
from paretrim.runtime.machine import native
from paretrim.visible import brief

if TYPE_CHECKING:
    from paretrim.runtime._native import Network

PROFILE_CALLS = 50
"""Calls of a profile, of which the median of every layer is kept."""

LARGEST_FILE = 2**32
"""Bytes of a ``.trim`` file; a larger one is not a compressed vision network, and reading it would take all memory."""

MOST_THREADS = 1024
"""Most threads of one call in the native library."""

UNTIMED_CALLS = 5
"""Calls before a profile, which warm the caches."""


@dataclass(frozen=True)
class LayerTime:
    """What one step of the plan does and costs, for one image on one thread.

    ``name`` joins the nodes that were fused, ``layer`` is the path of the user's module, ``kernel`` how it is computed.
    Multiply-adds: ``multiply_adds`` those of the dense layer, ``useful`` without those on weights that are 0 or only meet
    padding, ``issued`` what the kernel executes, padding and partly filled blocks included. ``time_ns`` is the median.
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
    """The file of a session and the settings it was loaded with, as :func:`load` takes them; ``path`` is absolute."""

    path: Path
    threads: int
    instruction_set: str
    measure: bool
    remember: bool
    limit: float | None

    def opened(self) -> Session:
        """The session, loaded from the file as it is now."""
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
    """A network that is ready to run; made by :func:`load` or :func:`plan`. May be called from many threads at once.

    ``shape`` (C, H, W) and ``takes_pixels`` say what it takes, ``output_shapes`` and ``output_names`` what it returns for an
    image, ``class_names`` what the logits stand for (may be empty). A single output is named ``logits``.
    ``version`` is the runtime's, ``threads`` the number that computes one call. A session that was loaded from a file can be
    pickled, for example for a worker process, which loads that file again with the same settings (``source``).
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
        """How many numbers the first output has for an image: for a classifier, the logits."""
        return math.prod(self.output_shapes[0])

    def __reduce__(self) -> tuple[Callable[[Source], Session], tuple[Source]]:
        """Pickle the path and the settings, not the network.

        Raises:
            UnsupportedOperation: the session was not loaded from a file.
        """
        if self.source is None:
            raise UnsupportedOperation(
                "this session was planned from a graph in memory and cannot be pickled; write the graph to a file and pickle the"
                " session that paretrim.runtime.load makes of it, or send the graph and plan it again there"
            )
        return Source.opened, (self.source,)

    def __copy__(self) -> Session:
        """The session itself: it never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Session:
        """The session itself: it never changes."""
        return self

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """Every output float32 [N, ...] of images as :meth:`__call__` takes them, in the order of ``output_names``.

        Raises:
            DataUnavailable: as from :meth:`__call__`.
        """
        if not isinstance(images, np.ndarray):
            raise DataUnavailable(
                f"images are a {type(images).__name__}; the network takes a NumPy array (of a torch tensor: images.numpy())"
            )
        if images.shape == self.shape:
            raise DataUnavailable(f"images are one image {list(images.shape)}; give a batch of one: images[None]")
        check_images(images, self.shape, pixels=self.takes_pixels)
        try:
            return self.network.run(_in_order(images))
        except MemoryError as error:
            raise DataUnavailable(
                f"{len(images):,} images at once need more memory than there is; give fewer in one call"
            ) from error

    def step_values(self, images: Values) -> dict[str, FloatArray]:
        """The float32 values [N, ...] that the steps of a call leave, by the name of their node, in the order of the steps.

        A node that is computed together with the next one, such as a convolution with its ReLU, leaves none. For checks.

        Raises:
            DataUnavailable: as from :meth:`outputs`.
        """
        check_images(images, self.shape, pixels=self.takes_pixels)
        return self.network.step_values(_in_order(images))

    def profile(self, image: Values, *, calls: int = PROFILE_CALLS) -> tuple[LayerTime, ...]:
        """Median time of every step over ``calls`` calls with one image [C, H, W], on the calling thread alone.

        Raises:
            DataUnavailable: the image is not what the network takes, or ``calls`` is not a whole number from 1.
        """
        if not is_whole(calls) or calls < 1:
            raise DataUnavailable(f"calls is {calls!r}; a profile takes at least 1")
        if not isinstance(image, np.ndarray) or image.shape != self.shape:
            given = list(image.shape) if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
            raise DataUnavailable(f"the image is {given}; a profile takes one image as a NumPy array {list(self.shape)}")
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
) -> Session:
    """Open a deployed file: a ``.trim`` or a ``.graph`` file.

    Args:
        path: the file.
        threads: threads that compute one call, the caller's among them.
        instruction_set: one of :func:`paretrim.runtime.instruction_sets`; the best by default.
        measure: choose the kernel of every layer by measuring (a moment at the first start); else by rules of thumb.
        remember: read and keep what was measured in ``<file>.plan.json`` beside the file.
        limit: how many times the memory and work that are usual for its size a ``.trim`` file may take. A small file can stand
            for gigabytes, so raise it only for a file that you trust; an error says how far. By default 1, or what the
            environment variable ``PARETRIM_LIMIT`` says.

    Raises:
        CorruptFile: the file is missing, damaged, of a newer format, or takes more than ``limit`` allows.
        UnsupportedOperation: it is of another kind, holds what the integer runtime does not compute, or a setting is unknown.
    """
    path = path_of(path)
    with located(f"'{path}'"):
        threads = _checked(threads, instruction_set)
    make = _maker(path, limit)
    kept = read_choices(path) if remember and measure else {}
    place = setting(threads=threads, instruction_set=instruction_set)
    with located(f"'{path}'"):
        network = _planned(make, threads, instruction_set, measure=measure, choices=kept.get(place, ""))
    if remember and measure and not network.choices_were_used:
        keep_choices(path, kept, {place: network.choices})
    source = Source(path.absolute(), threads, instruction_set, measure, remember, limit)
    return _session(network, source)


def plan(graph: Graph, *, threads: int = 1, instruction_set: str = "", measure: bool = True) -> Session:
    """A session of a graph in memory; arguments and errors as in :func:`load`."""
    network = _planned(partial(native.plan_graph, with_user_names(graph)), threads, instruction_set, measure=measure, choices="")
    return _session(network)


def is_whole(number: object) -> bool:
    """Whether a setting is a whole number, NumPy's included."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _in_order(images: Values) -> Values:
    return images if images.flags.c_contiguous and images.flags.aligned else images.copy(order="C")


def _checked(threads: int, instruction_set: str) -> int:
    """The number of threads as Python's own."""
    if not is_whole(threads) or threads < 1:
        raise UnsupportedOperation(f"threads is {brief(threads)}; a runtime computes with at least 1")
    if threads > MOST_THREADS:
        raise UnsupportedOperation(f"threads is {brief(threads)}; a call computes with 1 to {MOST_THREADS}")
    if not isinstance(instruction_set, str):
        raise UnsupportedOperation(f"instruction_set is {brief(instruction_set)}; it is the name of one, or '' for the best")
    return int(threads)


def _planned(make: Callable[..., Network], threads: int, instruction_set: str, *, measure: bool, choices: str) -> Network:
    threads = _checked(threads, instruction_set)
    try:
        return make(threads=threads, instruction_set=instruction_set, measure=bool(measure), choices=choices)
    except MemoryError as error:
        raise UnsupportedOperation(
            f"planning the network on {threads} thread{'s' * (threads > 1)} needs more memory than there is; free some"
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
    """The limit of a load: the given one, else the default.

    Raises:
        UnsupportedOperation: it is not a number above 0.
    """
    if limit is None:
        return native.usual_limit()
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise UnsupportedOperation(f"limit is {brief(limit)}; it is a number above 0")
    return float(min(limit, sys.float_info.max))


def _maker(path: Path, limit: float | None) -> Callable[..., Network]:
    """The function that plans a file's network, given the settings."""
    if is_trim_file(path):
        with located(f"trim file '{path}'"):
            return partial(native.plan_trim, content_of(path), limit=allowed(limit))
    if path.suffix == ".onnx":
        raise UnsupportedOperation(
            f"'{path}' is an ONNX file; the native runtime opens the .trim or .graph file beside it, or write one from the"
            " candidate with paretrim export"
        )
    try:
        found = path.is_file()
    except OSError as error:
        raise CorruptFile(f"'{path}' cannot be read: {error.strerror}; check the path") from error
    if not found:
        raise CorruptFile(f"there is no file '{path}'; check the path")
    # Reading a graph file needs the package safetensors, which a device that only runs networks need not have.
    from paretrim.graph.storage import load as load_graph

    return partial(native.plan_graph, with_user_names(load_graph(path)))


def content_of(path: Path) -> bytes:
    """The bytes of a ``.trim`` file, which the native library reads and checks; of another file only the first ones.

    Raises:
        CorruptFile: it cannot be read, or is larger than any such file.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise CorruptFile(f"it has {size:,} bytes; a trim file has at most {LARGEST_FILE:,}")
        if not (path.is_file() or path.is_dir()):  # a pipe would block
            raise CorruptFile("it is a pipe or a device; give a file")
        with path.open("rb") as file:
            start = file.read(len(TRIM_START))
            file.seek(0)  # to read all at once: joined parts are one copy more, of a large file half a second
            return file.read() if start == TRIM_START else start
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise CorruptFile(f"it cannot be read: {getattr(error, 'strerror', error)}") from error
    except MemoryError as error:
        raise CorruptFile(f"its {size:,} bytes are more than there is memory for") from error
