"""Wraps a ``.trim`` file in an ONNX file with a single custom operator, so that ONNX Runtime runs it in the native runtime.

The application must register :func:`paretrim.runtime.onnxruntime_library`.
"""

from __future__ import annotations

from pathlib import Path

from paretrim.deploy.onnx_file import IR_VERSION, OPSET, file_output_names
from paretrim.deploy.onnx_runtime import DOMAIN, OPERATOR, THREADS
from paretrim.deploy.onnx_writer import graph_facts
from paretrim.errors import MissingDependency
from paretrim.files import write_atomically
from paretrim.graph.interpreter import checked_threads
from paretrim.graph.types import INPUT
from paretrim.runtime.compiled import native
from paretrim.trimfile import from_bytes
from paretrim.trimfile.provenance import MEAN, RESIZE, STD


def export_operator(trim: bytes, path: Path | str, *, threads: int) -> None:
    """Wrap the content of a ``.trim`` file; an existing file is replaced in one step. Equal arguments give equal bytes.

    Input, outputs, class names and the preparation of images are written as by
    :func:`paretrim.deploy.onnx_file.export_onnx`, with a dynamic batch size. The operator uses ``threads`` threads per call,
    which the metadata states too; ONNX Runtime's thread settings do not affect it.

    Raises:
        UnsupportedOperation: the native runtime does not support the network, or ``threads`` is not from 1 to 1024.
        CorruptFile: the bytes are not a complete ``.trim`` file.
        MissingDependency: the package onnx is not installed.
        OutOfSpace: the disk is full; the old file is intact.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise MissingDependency("writing ONNX files needs the package onnx; install it with: pip install onnx") from error
    threads = checked_threads(threads)
    file = from_bytes(trim)
    graph, known = file.graph, file.provenance.measured
    native.check(graph)
    element = TensorProto.UINT8 if graph.input.takes_pixels else TensorProto.FLOAT
    names = file_output_names(graph)
    node = helper.make_node(OPERATOR, [INPUT], names, name="network", domain=DOMAIN)
    node.attribute.extend([helper.make_attribute("file", trim), helper.make_attribute(THREADS, threads)])
    body = helper.make_graph(
        [node],
        "paretrim",
        [helper.make_tensor_value_info(INPUT, element, ["N", *graph.input.shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
            for name, shape in zip(names, graph.output_shapes, strict=True)
        ],
    )
    model = helper.make_model(
        body,
        producer_name="paretrim",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
    )
    prepared = {key: str(known[key]) for key in (MEAN, STD, RESIZE) if key in known}
    helper.set_model_props(model, {**graph_facts(graph), **prepared, THREADS: str(threads)})
    write_atomically(Path(path), model.SerializeToString(deterministic=True))
