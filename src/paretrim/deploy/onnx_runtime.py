"""Runs ONNX files in ONNX Runtime. The package is imported only when a file is opened."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from paretrim.deploy.report import IntegerReport, report_of, typed
from paretrim.deploy.saturation import EXACT_SUMS
from paretrim.deploy.statistics_of_use import without_statistics
from paretrim.errors import MissingDependency, UnsupportedOperation
from paretrim.files import name_or_content, temporary_folder
from paretrim.graph.interpreter import OneOutput, check_images
from paretrim.graph.types import INPUT, FloatArray
from paretrim.graph.windows import Values

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DOMAIN, OPERATOR = "paretrim", "Network"
"""Domain and name of the custom operator in ``native/onnxruntime``."""

THREADS = "threads"
"""Attribute of that operator and key of the file's metadata: the number of threads per call."""

_INTEGER_CONVOLUTIONS = frozenset({"QLinearConv", "ConvInteger"})
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv"}) | _INTEGER_CONVOLUTIONS


@dataclass(frozen=True, eq=False)
class OnnxRuntimeRunnable(OneOutput):
    """An ONNX file in ONNX Runtime on the CPU. An extent of ``shape`` that the file leaves open is 0."""

    path: Path
    session: InferenceSession
    shape: tuple[int, ...]
    pixels: bool
    threads: int
    version: str
    runtime: str = "onnxruntime"

    @classmethod
    def open(cls, path: Path, threads: int) -> OnnxRuntimeRunnable:
        """Load a file with ``threads`` intra-op threads and sequential execution.

        Raises:
            CorruptFile: ONNX Runtime cannot read the file.
            MissingDependency: ONNX Runtime is not installed.
            UnsupportedOperation: the file has the native operator for another number of threads, or several inputs.
        """
        session, version = _open(path, threads)
        written = session.get_modelmeta().custom_metadata_map.get(THREADS, str(threads))
        if written != str(threads):
            raise UnsupportedOperation(
                f"'{path}' was written for {written} threads, not {threads}; ask for {written}, or export it again"
                f" with --native {threads}"
            )
        images, *others = session.get_inputs()
        if others:
            raise UnsupportedOperation(
                f"'{path}' has {1 + len(others)} inputs; it must have only images, so export it again without the others"
            )
        shape = tuple(side if isinstance(side, int) else 0 for side in images.shape[1:])  # names of open ones are texts
        return cls(path, session, shape, images.type == "tensor(uint8)", threads, version)

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """Every output [N, ...].

        Raises:
            DataUnavailable: the images do not have the shape or type of the input.
            CorruptFile: ONNX Runtime cannot run the file.
        """
        check_images(images, self.shape, pixels=self.pixels)
        with typed(f"ONNX Runtime {self.version} cannot run '{self.path}'"):
            return tuple(np.asarray(output, dtype=np.float32) for output in self.session.run(None, {INPUT: images}))


def integer_report(path: Path) -> IntegerReport:
    """What ONNX Runtime executes, from the optimised graph that it saves.

    Raises:
        CorruptFile: ONNX Runtime cannot read the file.
        MissingDependency: ONNX Runtime or onnx is not installed.
    """
    onnx = _onnx()
    with temporary_folder() as folder:
        optimized = folder / "optimized.onnx"
        _open(path, 1, optimized)
        with typed(f"onnx {onnx.__version__} cannot read '{path}'"):
            executed = [node for node in onnx.load(optimized).graph.node if node.op_type in _CONVOLUTIONS]
            known = [node.name for node in onnx.load(path).graph.node if node.op_type in _CONVOLUTIONS]
    return report_of(((node.name, node.op_type in _INTEGER_CONVOLUTIONS) for node in executed), known)


def intermediate_values(path: Path, names: Collection[str], images: Values) -> dict[str, Values]:
    """The named values that operations of the file compute on ``images`` [N, C, H, W].

    Raises:
        CorruptFile: ONNX Runtime cannot read or run the file.
        MissingDependency: ONNX Runtime or onnx is not installed.
    """
    onnx = _onnx()
    with typed(f"onnx {onnx.__version__} cannot read '{path}'"):
        model = onnx.load(path)
    there = [name for node in model.graph.node for name in node.output if name in names]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in there)
    session, version = _open(path, 1, content=model.SerializeToString())
    with typed(f"ONNX Runtime {version} cannot run '{path}'"):
        return dict(zip(there, session.run(there, {INPUT: images}), strict=True))


def _onnx() -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("reading ONNX files needs the package onnx; install it with: pip install onnx") from error
    return onnx


def _open(
    path: Path, threads: int, optimized: Path | None = None, *, content: bytes | None = None
) -> tuple[InferenceSession, str]:
    try:
        with without_statistics():
            import onnxruntime
    except ImportError as error:
        raise MissingDependency("running ONNX files needs ONNX Runtime; install it with: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # keeps errors off the terminal; exceptions have them too
    # Threads sleep between calls, because spinning ones would take cores from the next measurement.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(*EXACT_SUMS)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    providers = ["CPUExecutionProvider"]
    with typed(f"ONNX Runtime {onnxruntime.__version__} cannot open '{path}'"):
        given = name_or_content(path) if content is None else content
        try:
            session = onnxruntime.InferenceSession(given, options, providers=providers)
        except Exception as error:  # ONNX Runtime creates its exception classes at run time, derived from Exception
            if f"{DOMAIN}:{OPERATOR}" not in str(error):
                raise
            from paretrim.runtime import onnxruntime_library

            options.register_custom_ops_library(onnxruntime_library())
            session = onnxruntime.InferenceSession(given, options, providers=providers)
    return session, str(onnxruntime.__version__)
