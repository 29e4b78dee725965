"""Keeps the engines of others from reporting that they are used: they do so by default as soon as they are imported.

ONNX Runtime and OpenVINO both make files in the home folder, identify the user, and send statistics over the network. What a
program that uses Paretrim does itself is left alone: an engine that it has imported before stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

SWITCH = "ORT_DISABLE_TELEMETRY"
"""The environment variable that ONNX Runtime reads when it is imported."""

OF_OPENVINO = "openvino_telemetry"
"""OpenVINO's package for it, which OpenVINO works without."""


@contextlib.contextmanager
def without_statistics() -> Iterator[None]:
    """Within the context, importing an engine reports nothing; a choice made by the environment is kept."""
    chosen, hidden = SWITCH in os.environ, OF_OPENVINO not in sys.modules
    os.environ.setdefault(SWITCH, "1")
    if hidden:
        sys.modules[OF_OPENVINO] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        yield
    finally:
        if hidden:
            sys.modules.pop(OF_OPENVINO, None)
        if not chosen:
            os.environ.pop(SWITCH, None)
