"""Where in the user's code a function of torch is called: the file, the line and the expression.

Programs are exported without stack traces, which would take most of the time. Only after an error the module is run once more,
under a mode that sees every function of torch as it is called.
"""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch
from torch import nn
from torch._guards import detect_fake_mode
from torch.fx import Node as FxNode
from torch.overrides import TorchFunctionMode

from paretrim.visible import QUOTED, visible

_TORCH, _OURS = (f"{Path(source).parent}{os.sep}" for source in (str(torch.__file__), __file__))
_PYTHON = f"{Path(os.__file__).parent}{os.sep}"


@dataclass(frozen=True)
class CallSite:
    """A call in the user's code: its function, and the path of the innermost of their modules that it is in."""

    function: str
    file: str
    line: int
    expression: str
    layer: str

    def in_words(self) -> str:
        """The expression and its line, such as: x.cumsum(1) in line 12 of net.py."""
        return f"{self.expression} in line {self.line} of {visible(Path(self.file).name)}"

    def with_layer(self) -> str:
        """The same, with the layer if it is known."""
        return f"{self.in_words()}, layer '{self.layer}'" if self.layer else self.in_words()


class _FunctionWatch(TorchFunctionMode):
    """Sees every call of a function of torch; ``after`` gets the function and how often it has been called."""

    def __init__(self, after: Callable[[Callable[..., object], int], None]) -> None:
        super().__init__()
        self._after = after
        self._calls: Counter[Callable[..., object]] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        self._calls[func] += 1
        result = func(*args, **(kwargs or {}))
        self._after(func, self._calls[func])
        return result


def call_site_of(node: FxNode, module: nn.Module, shape: tuple[int, ...]) -> CallSite | None:
    """Where an operation of the exported program is called, found by running ``module`` on images [2, *shape]; else None."""
    wanted, _ = node.meta.get("torch_fn") or ("", "")
    found: list[CallSite] = []

    def look(function: Callable[..., object], count: int) -> None:
        if not found and f"{getattr(function, '__name__', '')}_{count}" == wanted:
            found.extend(_innermost(_frames_above(sys._getframe(2)), module, wanted.rpartition("_")[0]))

    try:
        with torch.no_grad(), _FunctionWatch(look):
            module(torch.zeros(2, *shape))
    except Exception:  # the user's own code, which may not run on its own
        return None
    return found[0] if found else None


@contextlib.contextmanager
def first_fixed_batch(module: nn.Module) -> Iterator[list[CallSite]]:
    """Within the context, which exports a module, the list gets the first call that allows only one number of images."""
    found: list[CallSite] = []
    first: dict[object, object] = {}

    def look(function: Callable[..., object], _count: int) -> None:
        mode = detect_fake_mode()
        if found or mode is None or mode.shape_env is None:
            return
        ranges = mode.shape_env.var_to_range
        if not first:
            first.update(ranges)
        if mode.shape_env.replacements or any(ranges[symbol] != extent for symbol, extent in first.items()):
            name = str(getattr(function, "__name__", ""))
            found.extend(_innermost(_frames_above(sys._getframe(2)), module, name))

    with _FunctionWatch(look):
        yield found


def call_site_in(trace: TracebackType | None, module: nn.Module) -> CallSite | None:
    """Where an exception left the user's code; None if it has not been there."""
    frames: list[tuple[FrameType, int]] = []
    while trace is not None:
        frames.insert(0, (trace.tb_frame, trace.tb_lasti))
        trace = trace.tb_next
    return next(iter(_innermost(frames, module)), None)


def _frames_above(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        frames.append((frame, frame.f_lasti))
        frame = frame.f_back
    return frames


def _innermost(frames: Sequence[tuple[FrameType, int]], module: nn.Module, function: str = "") -> list[CallSite]:
    """The first of these frames, innermost first, that is in the user's code, if one is."""
    names = {id(part): name for name, part in module.named_modules()}
    layers = (names.get(id(frame.f_locals.get("self"))) for frame, _ in frames)
    layer = next((name for name in layers if name is not None), "")
    for frame, instruction in frames:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _OURS, "<")) and (not file.startswith(_PYTHON) or "-packages" in file):
            line, expression = _expression(frame.f_code, instruction, frame.f_lineno)
            return [CallSite(function, file, line, expression, layer)]
    return []


def _expression(code: CodeType, instruction: int, line: int) -> tuple[int, str]:
    """The line and the text of what an instruction computes; the whole line if Python does not know more."""
    start, end, first, last = next(itertools.islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    line = start or line
    text = linecache.getline(code.co_filename, line)
    if start is not None and start == end and first is not None and last is not None:
        text = text.encode()[first:last].decode(errors="replace")
    text = visible(text.strip())
    return line, text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}..."
