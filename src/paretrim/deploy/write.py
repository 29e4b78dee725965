"""Writes a graph in any file format."""

from __future__ import annotations

from pathlib import Path

from paretrim.deploy.onnx_check import export_checked
from paretrim.errors import InvalidRecipe
from paretrim.graph.storage import save
from paretrim.graph.types import Graph


def write_graph(graph: Graph, path: Path) -> Path:
    """Write a graph in the format of its file extension.

    Raises:
        InvalidRecipe: the file name does not end in ``.onnx``, ``.trim`` or ``.graph``.
        ExportMismatch: an ONNX file would not compute the graph correctly.
        OutOfSpace: the disk is full.
    """
    if path.suffix == ".onnx":
        export_checked(graph, path)
    elif path.suffix == ".graph":
        save(graph, path)
    elif path.suffix == ".trim":
        from paretrim import trimfile

        trimfile.write(graph, path)
    elif path.is_dir():
        raise InvalidRecipe(f"'{path}' is a folder; name a file in it that ends in .onnx, .trim or .graph")
    else:
        raise InvalidRecipe(f"'{path}' ends in '{path.suffix}'; it must end in .onnx, .trim or .graph")
    return path
