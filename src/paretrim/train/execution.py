"""Device and arithmetic of training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from pydantic import StrictBool
from torch import Tensor, nn

from paretrim.bench.machine import describe
from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.settings import settings
from paretrim.torch_settings import alone
from paretrim.visible import brief


@settings()
class Execution:
    """Device and arithmetic of training; the same code runs on CPU and CUDA.

    ``precision="auto"`` is bfloat16 autocast where the hardware multiplies it (any CUDA device, a CPU with AVX512-BF16 or AMX),
    float32 elsewhere. ``compile`` hands the network to ``torch.compile``.
    """

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: StrictBool = False

    def torch_device(self) -> torch.device:
        """The device: for ``auto`` the first CUDA device if there is one.

        Raises:
            InvalidRecipe: there is no such device, or it is not one that Paretrim trains on.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise InvalidRecipe(f"device {brief(self.device)} is unknown; write auto, cpu, cuda or cuda:0") from error
        if device.type not in ("cpu", "cuda"):
            raise InvalidRecipe(f"device {brief(self.device)} is not supported; write auto, cpu, cuda or cuda:0")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise InvalidRecipe(
                f"device '{self.device}' is not there: {torch.cuda.device_count()} CUDA devices are seen; write auto or cpu"
            )
        return device

    def bfloat16(self) -> bool:
        """Whether convolutions train in bfloat16."""
        if self.precision != "auto":
            return self.precision == "bfloat16"
        if self.torch_device().type == "cuda":
            return True
        return _cpu_multiplies_bfloat16()

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The context that training steps run in.

        Torch keeps the weights that it cast until the outermost autocast ends. That may be the caller's, around all steps: every
        step would compute with the weights of the first.
        """
        try:
            with torch.autocast(self.torch_device().type, dtype=torch.bfloat16, enabled=self.bfloat16()):
                yield
        finally:
            torch.clear_autocast_cache()


@cache
def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has the instructions; cached, since every training step asks."""
    return bool({"avx512_bf16", "amx_bf16"} & set(describe().isa))


@contextmanager
def own_random_stream(seed: int, number: int, device: torch.device) -> Iterator[None]:
    """Torch's random stream as a function of seed and number; the caller's stream is restored afterwards.

    Each epoch of the run (dropout, a user's loader) has its own number, and so has the beginning of each stage, which is
    negative.
    """
    with alone(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + number)
        yield


def lay_out_(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Store every 4-dimensional parameter and buffer in this memory format, in place."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)


_VALUE_BYTES = 2**24
"""Values up to this size come from memory that the C library reuses; much larger ones are new pages every time."""

_FEWEST = 4
"""Images at once if a single one is already large: weights are read once for all of them."""

_DEVICE_FACTOR = 16
"""How many times as many a GPU is given at once."""


def fast_batches(network: Network, images: Tensor) -> Iterator[Tensor]:
    """The images [N, C, H, W], in order, in batches and a layout that are fast for a network without gradients.

    They are moved to the network's device. On a CPU a batch is a few large images or many small ones.
    """
    device = next(network.parameters(), images).device
    largest = max(4 * math.prod(kind.shape) for kind in network.structure.types.values())
    at_once = max(_FEWEST, _VALUE_BYTES // largest) * (1 if device.type == "cpu" else _DEVICE_FACTOR)
    for part in torch.split(images, at_once):
        yield part.to(device).contiguous(memory_format=torch.channels_last)
