"""Where and in which arithmetic training runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from paretrim.train.budget import STRICT


@dataclass(frozen=True, config=STRICT)
class Execution:
    """Device and arithmetic of training; the same code runs on CPU and CUDA.

    ``precision="auto"`` is bfloat16 autocast where the hardware multiplies it (any CUDA device, a CPU with AVX512-BF16 or AMX),
    float32 elsewhere. ``compile`` hands the network to ``torch.compile``.
    """

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False

    def torch_device(self) -> torch.device:
        """The device: the first CUDA device for ``auto`` where there is one."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def bfloat16(self) -> bool:
        """Whether convolutions train in bfloat16."""
        if self.precision != "auto":
            return self.precision == "bfloat16"
        if self.torch_device().type == "cuda":
            return True
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

    def autocast(self) -> AbstractContextManager[object]:
        """The context that training steps run in."""
        return torch.autocast(self.torch_device().type, dtype=torch.bfloat16, enabled=self.bfloat16())
