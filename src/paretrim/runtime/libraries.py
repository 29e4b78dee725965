"""Paths of libraries for other programs."""

from __future__ import annotations

from pathlib import Path

from paretrim.errors import MissingDependency

FOLDER = Path(__file__).resolve().parent


def onnxruntime_library() -> str:
    """Path of the custom operator library that an ONNX Runtime application needs for files of ``paretrim export --native``.

    >>> import onnxruntime
    >>> onnxruntime.SessionOptions().register_custom_ops_library(onnxruntime_library())

    Raises:
        MissingDependency: the library was not built.
    """
    path = FOLDER / "libparetrim_onnxruntime.so"
    if not path.is_file():
        raise MissingDependency(f"'{path}' does not exist; in a checkout run scripts/native.sh, otherwise install paretrim again")
    return str(path)
