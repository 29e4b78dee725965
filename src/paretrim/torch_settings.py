"""The settings of torch that results depend on, for the time of a call as torch starts with them.

A program may have changed them for itself: turned gradients off or autocast on, or chosen another default type or device.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar

import torch

_AT_ONCE = [threading.RLock()]
"""The lock of :func:`alone`; a child process gets a new one, because the thread that holds this one is not in it."""

_CALLERS_DEVICE: ContextVar[torch.device | None] = ContextVar("_CALLERS_DEVICE", default=None)
"""The default device outside of :func:`usual_settings`, if it is another than the CPU."""


@contextmanager
def usual_settings() -> Iterator[None]:
    """Within the context gradients are on, nothing is cast, and new tensors are float32 and on the CPU."""
    with ExitStack() as restored:
        restored.enter_context(torch.inference_mode(mode=False))
        restored.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                restored.enter_context(torch.autocast(device, enabled=False))
        callers = torch.get_default_device()
        if callers.type != "cpu":
            restored.enter_context(torch.device("cpu"))
            restored.callback(_CALLERS_DEVICE.reset, _CALLERS_DEVICE.set(callers))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            restored.callback(torch.set_default_dtype, dtype)
        yield


def alone() -> AbstractContextManager[object]:
    """A lock for work with what torch has once for all threads: the random stream, and the tracing of a module."""
    return _AT_ONCE[0]


def _renew() -> None:
    _AT_ONCE[0] = threading.RLock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_renew)


def callers_device() -> AbstractContextManager[object]:
    """The default device of the caller again, for code of the caller's own, such as a loader."""
    device = _CALLERS_DEVICE.get()
    return nullcontext() if device is None else device
