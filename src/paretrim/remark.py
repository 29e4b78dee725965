"""Warnings that name the user's own line: what a call did otherwise than asked, though it could go on."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

_INSIDE = (str(Path(__file__).parent), contextlib.__file__)
"""Where frames are not the user's: this package, and what decorates its functions."""


def remark(text: str) -> None:
    """Warn with a text, at the line outside of this package that called into it."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, stacklevel=depth + 1)
