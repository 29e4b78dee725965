"""The input and the weights of deployed files of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretrim.data.spec import MOST
from paretrim.deploy.runnable import read_graph
from paretrim.errors import CorruptFile, InvalidRecipe, MissingDependency, located, reason_of
from paretrim.files import is_trim_file, require_file
from paretrim.graph.entropy import WeightSummary, order0_bytes, summarize_weights
from paretrim.graph.types import Array, Graph, InputSpec
from paretrim.trimfile.provenance import MEAN, METRIC, RESIZE, STD, TASK
from paretrim.visible import brief

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

GRAPH, TRIM, ONNX, CANDIDATE = ".graph", ".trim", ".onnx", ".safetensors"
_KINDS = (GRAPH, TRIM, ONNX, CANDIDATE)
GRAPHS = (GRAPH, TRIM)
"""Files that contain a graph, which the native runtime and the reference interpreter can run."""

_DELIVERED = (f"*{TRIM}", f"*{ONNX}", f"deployed/*/*{TRIM}")
"""Deployed files in a run folder, those that a command chose first."""

_UINT8 = 2
"""TensorProto.UINT8, fixed by the ONNX standard."""


@dataclass(frozen=True)
class FileDescription:
    """What a deployed file says about its images: shape (C, H, W), whether they are uint8 pixels, and the names of its classes.

    A file that takes pixels normalises them with ``mean`` and ``std``; images for other files must be normalised with them
    beforehand. Both are empty if the file does not say. ``resize`` is the length that the short side is resized to before the
    centre crop, 0 if the file does not say. ``task`` is the name of the task and ``judged_by`` its metric; both are "" if the
    file does not say, as for classifiers.
    """

    shape: tuple[int, ...]
    pixels: bool
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    task: str = ""
    judged_by: str = ""


def described(path: Path) -> FileDescription:
    """The description of a deployed file.

    Raises:
        CorruptFile: the content does not fit the file's name.
        InvalidRecipe: there is no such file, or its name is not that of a deployed file.
    """
    if kind_of(path) in GRAPHS:
        measured: Mapping[str, object] = {}
        if kind_of(path) == TRIM:
            from paretrim import trimfile

            file = trimfile.open_file(path)
            graph, measured = file.graph, file.provenance.measured
        else:
            graph = read_graph(path)
        spec = graph.input
        mean, std = spec.mean, spec.std
        if not spec.takes_pixels:
            mean, std = (_numbers(measured.get(key, ""), path) for key in (MEAN, STD))
        return FileDescription(
            shape=spec.shape,
            pixels=spec.takes_pixels,
            classes=graph.classes,
            mean=mean,
            std=std,
            resize=_side(measured.get(RESIZE, "0"), path),
            task=str(measured.get(TASK, "")),
            judged_by=str(measured.get(METRIC, "")),
        )
    if kind_of(path) == CANDIDATE:
        raise InvalidRecipe(
            f"'{path}' is a candidate, not a deployed file; deploy it with: paretrim export {path} --to model.onnx"
        )
    model = _onnx_model(path)
    images = model.graph.input[0].type.tensor_type
    facts = {one.key: one.value for one in model.metadata_props}
    return FileDescription(
        shape=tuple(int(side.dim_value) for side in images.shape.dim[1:]),
        pixels=images.elem_type == _UINT8,
        classes=tuple(facts["classes"].split("\n")) if facts.get("classes") else (),
        mean=_numbers(facts.get(MEAN, ""), path),
        std=_numbers(facts.get(STD, ""), path),
        resize=_side(facts.get(RESIZE, "0"), path),
        task=facts.get(TASK, ""),
        judged_by=facts.get(METRIC, ""),
    )


def input_of(path: Path) -> tuple[tuple[int, ...], bool]:
    """Shape (C, H, W) of a deployed file's input, and whether it is uint8 pixels; errors as in :func:`described`."""
    known = described(path)
    return known.shape, known.pixels


def _numbers(text: object, path: Path) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in str(text).split(",") if part)
    except ValueError as error:
        raise CorruptFile(
            f"'{path}' has {brief(text)} as its mean or std; it must be numbers separated by commas, so export the file again"
        ) from error


def _side(text: object, path: Path) -> int:
    digits = str(text)
    if not digits.isdecimal() or len(digits) > len(str(MOST)) or int(digits) > MOST:
        raise CorruptFile(
            f"'{path}' has {brief(text)} as its resize; it must be a whole number of pixels, so export the file again"
        )
    return int(digits)


def weights_of(path: Path) -> tuple[WeightSummary, ...]:
    """Every weighted layer of a graph or candidate; every tensor of rank 2 or more of an ONNX file.

    Raises:
        CorruptFile: the content does not fit the file's name.
        InvalidRecipe: there is no such file, or its extension is unknown.
    """
    if kind_of(path) in GRAPHS:
        return summarize_weights(read_graph(path))
    if kind_of(path) == CANDIDATE:
        return summarize_weights(graph_of_candidate(path, None))
    model = _onnx_model(path)
    from paretrim.deploy.onnx_runtime import DOMAIN, OPERATOR

    for node in model.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, OPERATOR):
            from paretrim import trimfile

            with located(f"'{path}'"):
                held = next((attribute.s for attribute in node.attribute if attribute.name == "file"), b"")
                return summarize_weights(trimfile.from_bytes(held).graph)
    arrays = {tensor.name: _array(tensor, path) for tensor in model.graph.initializer}
    return tuple(
        WeightSummary(name, array.shape, str(array.dtype), int((array == 0).sum()), array.size, array.nbytes, order0_bytes(array))
        for name, array in arrays.items()
        if array.ndim > 1
    )


def graph_of_candidate(path: Path, spec: InputSpec | None) -> Graph:
    """The graph that a candidate freezes to.

    Raises:
        CorruptFile: the file is damaged or is not a candidate.
        UnsupportedOperation: the candidate cannot be frozen.
    """
    from paretrim.network.freeze import freeze
    from paretrim.run.candidate import load_candidate

    return freeze(load_candidate(path).network, spec)


def kind_of(path: Path) -> str:
    """The kind of a file: a ``.trim`` file by its first bytes, others by their extensions.

    Raises:
        InvalidRecipe: there is no such file, or its extension is unknown.
        CorruptFile: it is a pipe or a device.
    """
    if path.is_dir():
        inside = next((found for name in _DELIVERED for found in sorted(path.glob(name))), None)
        hint = f"export a file of a run folder with: paretrim export {path} --to FILE.onnx"
        raise InvalidRecipe(f"'{path}' is a folder; {f'name a file in it, such as {inside}' if inside else hint}")
    if path.suffix in ("", *_KINDS) and not path.exists():
        kind = "file" if path.suffix else "file or folder"
        raise InvalidRecipe(f"there is no {kind} '{path}'; check the path")
    if is_trim_file(path):
        return TRIM
    if path.suffix not in _KINDS:
        raise InvalidRecipe(f"'{path}' ends in '{path.suffix}'; give an .onnx, .trim or .graph file, or a candidate.safetensors")
    require_file(path)  # opening a pipe would wait for a writer, and a device may never end
    return path.suffix


def _array(tensor: TensorProto, path: Path) -> Array:
    """The numbers of a tensor of an ONNX file; those kept outside of the file lie in its folder."""
    from onnx import numpy_helper

    try:
        found: Array = numpy_helper.to_array(tensor, base_dir=str(path.parent))
    except Exception as error:  # onnx checks no tensor before: what is wrong with one decides what it raises
        raise CorruptFile(
            f"'{path}': tensor '{tensor.name}' cannot be read ({reason_of(error)}); export it again, and keep a file of external "
            "data beside it"
        ) from error
    return found


def _onnx_model(path: Path) -> ModelProto:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("reading ONNX files needs the package onnx; install it with: pip install onnx") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's exception classes differ between versions
        raise CorruptFile(f"'{path}' is not an ONNX file ({error}); export it again") from error
    if not model.graph.input:
        raise CorruptFile(f"'{path}' is an ONNX file without an input; export it again")
    return model
