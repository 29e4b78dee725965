"""Runs ONNX files in OpenVINO. The package is imported only when a file is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretrim.deploy.report import IntegerReport, report_of, typed
from paretrim.deploy.statistics_of_use import without_statistics
from paretrim.errors import MissingDependency
from paretrim.files import name_or_content
from paretrim.graph.interpreter import OneOutput, check_images
from paretrim.graph.types import FloatArray
from paretrim.graph.windows import Values

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest, Model

COMPILED_SIZES = 4
"""Number of batch sizes to keep compiled; the oldest is dropped."""


@dataclass(frozen=True, eq=False)
class OpenVinoRunnable(OneOutput):
    """An ONNX file in OpenVINO on the CPU, compiled for each batch size at its first call.

    With a fixed batch size, OpenVINO plans memory and chooses kernels once; with a dynamic one it does so at every call.
    """

    path: Path
    core: Core
    model: Model
    shape: tuple[int, ...]
    pixels: bool
    threads: int
    version: str
    runtime: str = "openvino"
    compiled: dict[int, InferRequest] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, threads: int) -> OpenVinoRunnable:
        """Read a file and compile it for one image.

        Raises:
            CorruptFile: OpenVINO cannot read or compile the file.
            MissingDependency: OpenVINO is not installed.
        """
        core, model, version = _read(path)
        with typed(f"OpenVINO {version} cannot tell what images '{path}' takes"):
            images = model.input(0)
            shape = tuple(extent.get_length() for extent in list(images.get_partial_shape())[1:])
            pixels = images.get_element_type().get_type_name() == "u8"
        runnable = cls(path, core, model, shape, pixels, threads, version)
        runnable._request(1)
        return runnable

    def outputs(self, images: Values) -> tuple[FloatArray, ...]:
        """Every output [N, ...].

        Raises:
            DataUnavailable: the images do not have the shape or type of the input.
            CorruptFile: OpenVINO cannot compile the file for this number of images, or cannot run it.
        """
        check_images(images, self.shape, pixels=self.pixels)
        request = self._request(len(images))
        with typed(f"OpenVINO {self.version} cannot run '{self.path}'"):
            found = request.infer([images], share_inputs=True)
            return tuple(np.array(found[index], dtype=np.float32) for index in range(len(found)))

    def _request(self, batch: int) -> InferRequest:
        if batch not in self.compiled:
            while len(self.compiled) >= COMPILED_SIZES:
                del self.compiled[next(iter(self.compiled))]
            with typed(f"OpenVINO {self.version} cannot compile '{self.path}' for a batch of {batch}"):
                self.compiled[batch] = _compile(self.core, self.model, batch, self.threads).create_infer_request()
        return self.compiled[batch]


def integer_report(path: Path) -> IntegerReport:
    """What OpenVINO executes, from the runtime model of the compiled network.

    Raises:
        CorruptFile: OpenVINO cannot read or compile the file.
        MissingDependency: OpenVINO is not installed.
    """
    core, model, version = _read(path)
    with typed(f"OpenVINO {version} cannot say what it executes of '{path}'"):
        return _reported(core, model)


def _reported(core: Core, model: Model) -> IntegerReport:
    # OpenVINO's ONNX frontend splits a convolution from its bias and adds a suffix to the convolution's name.
    known = [
        node.get_friendly_name().removesuffix("/WithoutBiases")
        for node in model.get_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    ]
    executed = []
    for node in _compile(core, model, 1, 1).get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        if about["layerType"].astype(str) == "Convolution":
            executed.append((node.get_friendly_name(), about["runtimePrecision"].astype(str) in ("u8", "i8")))
    return report_of(executed, known)


def _read(path: Path) -> tuple[Core, Model, str]:
    with without_statistics():
        try:
            import openvino
        except ImportError as error:
            raise MissingDependency("OpenVINO is not installed; install it with: pip install 'paretrim[openvino]'") from error
    core = openvino.Core()
    with typed(f"OpenVINO {openvino.__version__} cannot read '{path}'"):
        model = core.read_model(name_or_content(path))
    return core, model, str(openvino.__version__)


def _compile(core: Core, model: Model, batch: int, threads: int) -> CompiledModel:
    fixed = model.clone()
    fixed.reshape([batch, *model.input(0).get_partial_shape()[1:]])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Otherwise a CPU with bfloat16 instructions would compute float32 layers in bfloat16.
        "INFERENCE_PRECISION_HINT": "f32",
        # The caller decides which cores the process may use; a pinned session would keep its core while others are measured.
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(fixed, "CPU", settings)
