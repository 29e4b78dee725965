"""Paths of the libraries that other programs load."""

from __future__ import annotations

from pathlib import Path

from paretrim.errors import MissingDependency

FOLDER = Path(__file__).resolve().parent


def onnxruntime_library() -> str:
    """Path of the operator library that an ONNX Runtime application registers to run what ``paretrim export --native`` writes.

    >>> import onnxruntime
    >>> onnxruntime.SessionOptions().register_custom_ops_library(onnxruntime_library())

    Raises:
        MissingDependency: it was not built.
    """
    path = FOLDER / "libparetrim_onnxruntime.so"
    if not path.is_file():
        raise MissingDependency(f"there is no '{path}'; in a checkout run scripts/native.sh, else install paretrim again")
    return str(path)
